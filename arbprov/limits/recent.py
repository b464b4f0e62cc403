"""Which keys of limits calls have used lately, for people who look at limits."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import attrs

from arbprov._types import Clock
from arbprov.limits.stores.base import Charge

__all__ = ["RecentUse", "RecentUses"]

_MAX_USES = 1_000
# Bytes of an account that is kept.
_MAX_ACCOUNT = 4096


@attrs.define(eq=False)
class RecentUse:
    """The last charge of a bucket that was asked for.

    Args:
        charge: The charge, with the answer that it had.
        account: The account of its task; None if it is too large to keep.
        used_at: When, by the clock.
    """

    charge: Charge
    account: bytes | None = attrs.field(repr=False)
    used_at: float


class RecentUses:
    """The buckets that calls have asked for lately: the latest 1,000, from any thread.

    Args:
        clock: Tells the time.

    >>> from arbprov.limits.algorithms import SlidingWindow
    >>> from arbprov.testing import VirtualClock
    >>> uses = RecentUses(VirtualClock())
    >>> uses.note([Charge("forecast|", b"key", SlidingWindow(5, 60.0), 1)], b"{}")
    >>> [use.charge.key for use in uses.latest()]
    [b'key']
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._lock = threading.Lock()
        # In the order of their last use.
        self._uses: dict[object, RecentUse] = {}

    def note(self, charges: Iterable[Charge], account: bytes) -> None:
        """Note that a call has asked for its charges.

        Args:
            charges: The charges, admitted or not.
            account: The account of its task.
        """
        now = self._now()
        kept = account if len(account) <= _MAX_ACCOUNT else None
        with self._lock:
            for charge in charges:
                bucket = _bucket(charge)
                self._uses.pop(bucket, None)
                self._uses[bucket] = RecentUse(charge, kept, now)
            while len(self._uses) > _MAX_USES:
                del self._uses[next(iter(self._uses))]

    def latest(self) -> list[RecentUse]:
        """Return the last use of each bucket, the oldest first."""
        with self._lock:
            return [*self._uses.values()]

    def keep(self, uses: Sequence[RecentUse]) -> None:
        """Have some uses count as the latest, unless there are later ones of their buckets."""
        with self._lock:
            for use in uses:
                bucket = _bucket(use.charge)
                self._uses[bucket] = self._uses.pop(bucket, use)

    def forget(self, uses: Sequence[RecentUse]) -> None:
        """Forget some uses, unless there are later ones of their buckets."""
        with self._lock:
            for use in uses:
                bucket = _bucket(use.charge)
                if self._uses.get(bucket) is use:
                    del self._uses[bucket]


def _bucket(charge: Charge) -> object:
    """Return what tells buckets apart; a monitor's charges have no group."""
    return charge.group or charge.limit.counters, charge.key
