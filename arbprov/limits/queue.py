"""The calls that wait for limits: first come, first served, for each bucket. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from arbprov.limits.stores.base import BucketKey

__all__ = ["WaitQueue", "Waiter"]


@attrs.frozen(eq=False)
class Waiter:
    """A call that waits.

    Args:
        costs: The units that it will take, by bucket.
        on_change: Called when no call is before it any more, and when units that the first calls
            wait for were given back.
    """

    costs: Mapping[BucketKey, int]
    on_change: Callable[[], object]


class WaitQueue:
    """A queue for each bucket.

    A call enters the queues of all its buckets at once, so the order is the same in all of
    them, and no two calls can wait for each other.

    >>> bucket = ("10/minute", b"")
    >>> first, second = Waiter({bucket: 1}, print), Waiter({bucket: 3}, print)
    >>> queue = WaitQueue()
    >>> queue.enqueue(first)
    >>> queue.enqueue(second)
    >>> queue.demand_ahead([bucket])
    {('10/minute', b''): 4}
    >>> queue.is_first(first), queue.is_first(second)
    (True, False)
    """

    def __init__(self) -> None:
        # Dicts keep the order, and drop a waiter from anywhere in it.
        self._queues: dict[BucketKey, dict[Waiter, None]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def demand_ahead(self, buckets: Iterable[BucketKey]) -> dict[BucketKey, int]:
        """Return the units that waiting calls will take, by bucket; only buckets with a queue."""
        return {
            bucket: sum(waiter.costs[bucket] for waiter in self._queues[bucket])
            for bucket in buckets
            if bucket in self._queues
        }

    def lengths(self) -> dict[BucketKey, int]:
        """Return how many calls wait for each bucket; only buckets with a queue."""
        return {bucket: len(queue) for bucket, queue in self._queues.items()}

    def enqueue(self, waiter: Waiter) -> None:
        """Add a call at the end of its queues."""
        self._size += 1
        for bucket in waiter.costs:
            self._queues.setdefault(bucket, {})[waiter] = None

    def dequeue(self, waiter: Waiter) -> None:
        """Remove a call from its queues, and notify the calls that are first now."""
        self._size -= 1
        for bucket in waiter.costs:
            queue = self._queues[bucket]
            del queue[waiter]
            if not queue:
                del self._queues[bucket]
        self.notify(waiter.costs)

    def notify(self, buckets: Iterable[BucketKey]) -> None:
        """Notify the calls that are first in the queues of some buckets, and in all their own."""
        for bucket in buckets:
            first = next(iter(self._queues.get(bucket, ())), None)
            if first is not None and self.is_first(first):
                first.on_change()

    def is_first(self, waiter: Waiter) -> bool:
        """Tell whether a call is the first in all of its queues."""
        return all(next(iter(self._queues[bucket])) is waiter for bucket in waiter.costs)
