"""Time zones by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = ["find_timezone"]


def find_timezone(name: str) -> tzinfo:
    """Return a time zone.

    Raises:
        ValueError: This machine knows no time zone of that name.
    """
    from datetime import timezone

    # A slim machine has no time zone database, and UTC needs none.
    if name == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except Exception:
        raise ValueError(
            "is no time zone that this machine knows, such as Europe/Madrid "
            '(a machine without any needs: pip install "tzdata")'
        ) from None
