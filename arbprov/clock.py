"""The clock that runs by itself."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import attrs

__all__ = ["SystemClock"]


@attrs.frozen
class SystemClock:
    """The machine's time; see `arbprov._types.Clock`."""

    # Asked for each decision of a limit, so without a call in between.
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return datetime.now(timezone.utc)
