"""Why a task is dead, in words that are the same in every store."""

from __future__ import annotations

from arbprov._utils import format_count

__all__ = ["EXPIRED", "describe_lost"]

EXPIRED = "its ttl passed before it was started"


def describe_lost(deliveries: int) -> str:
    """Return why a task is dead whose last lease ran out.

    Args:
        deliveries: How often it was delivered.

    >>> describe_lost(10)
    'it was delivered 10 times, and no result came'
    """
    return f"it was delivered {format_count(deliveries, 'time')}, and no result came"
