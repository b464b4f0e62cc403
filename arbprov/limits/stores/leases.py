"""The units of a shared store that calls of this process hold until they have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from arbprov.limits.stores.base import BucketKey, Charge, Receipt

if TYPE_CHECKING:
    from arbprov.limits.stores.redis import RedisStore

__all__ = ["Leases", "held_charges", "timed_charges"]


@attrs.define
class _Bucket:
    """The leases of a bucket.

    Args:
        charge: Names the bucket; of 0 units.
        leases: The units that calls hold, or ask for, by the names of their leases.
        doubtful: The names of leases that are over, but that the store may count still.
    """

    charge: Charge
    leases: dict[str, int] = attrs.field(factory=dict)
    doubtful: set[str] = attrs.field(factory=set)


class Leases:
    """What calls of this process hold, so that a store that has missed something can be told.

    The store drops the leases of a process without a heartbeat. A lease is noted here before the
    store is asked for it: if the store is told of all leases meanwhile, it hears of this lease too.

    Args:
        store: The store.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._buckets: dict[BucketKey, _Bucket] = {}
        # Held while the store is told of leases.
        self._telling = threading.Lock()
        self._is_telling = False
        self._times_told = 0

    def acquire(
        self, charges: Sequence[Charge], ask: Callable[[], Receipt | None]
    ) -> Receipt | None:
        """Have the store decide over charges, some of which may be of units that a call holds.

        Args:
            charges: The charges; each that a call holds gets a `lease`.
            ask: Asks the store.
        """
        asked = held_charges(charges)
        if not asked:
            return ask()
        times_told = self._times_told
        self.add(asked)
        try:
            receipt = ask()
            made = held_charges(receipt.charges) if receipt is not None else []
            refused = [charge for charge in asked if charge not in made]
            with self._lock:
                # Or else the store may have been told of these leases after it had refused them.
                may_forget = times_told == self._times_told
                if may_forget:
                    self._remove(refused)
            if refused and not may_forget:
                self.release(refused)
        except BaseException:
            self.forget(asked)
            raise
        return receipt

    def add(self, charges: Iterable[Charge]) -> None:
        """Note the leases of charges, each with a new name."""
        with self._lock:
            for charge in charges:
                charge.lease = self._store.new_lease()
                bucket = self._buckets.get(charge.bucket)
                if bucket is None:
                    named = Charge(charge.group, charge.key, charge.algorithm, 0)
                    bucket = self._buckets[charge.bucket] = _Bucket(named)
                bucket.leases[charge.lease] = charge.cost

    def release(self, charges: Sequence[Charge]) -> None:
        """Give back units that a call has held."""
        with self._lock:
            self._forget(charges)
            was_telling, times_told = self._is_telling, self._times_told
        receipt = Receipt(self._store, charges, 0.0, False)
        self._store.refund(receipt)
        with self._lock:
            # Or else the store may have been told of these leases after it had dropped them.
            is_over = not was_telling and times_told == self._times_told
            if is_over:
                self._remove(charges)
        if not is_over:
            with self._telling:
                self._store.refund(receipt)
                with self._lock:
                    self._remove(charges)

    def forget(self, charges: Iterable[Charge]) -> None:
        """Note that leases are over, of which the store may not know."""
        with self._lock:
            self._forget(charges)

    def remove(self, charges: Iterable[Charge]) -> None:
        """Note that leases are over of which the store has never known."""
        with self._lock:
            self._remove(charges)

    def tell(self) -> None:
        """Have the store count what calls of this process hold, and none that are over."""
        with self._telling:
            with self._lock:
                self._times_told += 1
                self._is_telling = True
                buckets = [
                    attrs.evolve(bucket, leases=bucket.leases.copy(), doubtful={*bucket.doubtful})
                    for bucket in self._buckets.values()
                ]
            # First: what lapses from now on has to be told again.
            self._store.has_lapsed = False
            try:
                for bucket in buckets:
                    over = dict.fromkeys(bucket.doubtful, 0)
                    self._store.hold(bucket.charge, bucket.leases | over)
                    with self._lock:
                        self._settle(bucket)
            finally:
                self._is_telling = False

    def units(self, charge: Charge) -> int:
        """Return the units that calls hold in the bucket of a charge."""
        with self._lock:
            bucket = self._buckets.get(charge.bucket)
            return sum(bucket.leases.values()) if bucket is not None else 0

    # Under the lock.

    def _forget(self, charges: Iterable[Charge]) -> None:
        for charge in charges:
            # The store may have been told that this process holds nothing there.
            if (bucket := self._buckets.get(charge.bucket)) is not None:
                bucket.leases.pop(charge.lease, None)
                bucket.doubtful.add(charge.lease)

    def _settle(self, told: _Bucket) -> None:
        """Note what the store was told of a bucket."""
        if (bucket := self._buckets.get(told.charge.bucket)) is not None:
            bucket.doubtful -= told.doubtful
            self._drop_if_empty(told.charge)

    def _remove(self, charges: Iterable[Charge]) -> None:
        """Forget leases that the store does not count."""
        for charge in charges:
            if (bucket := self._buckets.get(charge.bucket)) is not None:
                bucket.leases.pop(charge.lease, None)
                bucket.doubtful.discard(charge.lease)
                self._drop_if_empty(charge)

    def _drop_if_empty(self, charge: Charge) -> None:
        bucket = self._buckets[charge.bucket]
        if not bucket.leases and not bucket.doubtful:
            del self._buckets[charge.bucket]


def held_charges(charges: Iterable[Charge]) -> list[Charge]:
    """Return the charges of units that a call holds until it has ended."""
    return [charge for charge in charges if charge.algorithm.holds]


def timed_charges(charges: Iterable[Charge]) -> list[Charge]:
    """Return the charges of units that are free again after a time."""
    return [charge for charge in charges if not charge.algorithm.holds]
