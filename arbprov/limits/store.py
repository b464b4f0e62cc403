"""Where what was used of the limits is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from arbprov.limits.meter import Rule

__all__ = ["Charge", "Headroom", "Store"]


@attrs.frozen
class Charge:
    """What one call would take from one limit.

    Args:
        bucket: Whose quota it is: the limit's identity, and the key's hash.
        limit: How much the bucket holds.
        cost: How much the call takes.
    """

    bucket: str
    limit: Rule
    cost: int


@attrs.frozen
class Headroom:
    """What is left in one bucket: `remaining` now, `wait_time` seconds until the cost fits.

    `charged_at` is the store's time of the charge, None if there was none.
    """

    limit: Rule
    remaining: int
    wait_time: float
    charged_at: float | None = None


class Store(Protocol):
    """Keeps the buckets, and decides over several of them as one."""

    def acquire(self, charges: Sequence[Charge]) -> list[Headroom]:
        """Charge all of `charges`, or none if any of them has to wait, in one step.

        Returns:
            The headroom of each, after the charges if they were made.
        """
        ...

    def peek(self, charges: Sequence[Charge]) -> list[Headroom]:
        """Return what `acquire` would, and charge nothing."""
        ...

    def refund(self, charges: Sequence[Charge], charged_at: float) -> None:
        """Take back what `acquire` has charged, as if it had never been."""
        ...
