"""The system's clock, which apps use outside tests."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import attrs

__all__ = ["SystemClock"]


@attrs.frozen
class SystemClock:
    """The system's clock; see `arbprov._types.Clock`."""

    # Each decision of a limit reads it, so a method around it would cost time.
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return datetime.now(timezone.utc)
