"""Who waits for which limit: first come, first served, for each bucket. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from arbprov.limits.stores.base import Bucket

__all__ = ["Lines", "Ticket"]


@attrs.frozen(eq=False)
class Ticket:
    """One call in line.

    Args:
        costs: What it will take, by bucket.
        on_first: Called when it has become the first at all of its buckets.
    """

    costs: Mapping[Bucket, int]
    on_first: Callable[[], object]


class Lines:
    """A line for each bucket.

    A call joins all of its lines at once, so the one that came first is first in all of its
    lines, and nobody waits for each other.
    """

    def __init__(self) -> None:
        # A dict for its order, and since most who leave are the first.
        self._lines: dict[Bucket, dict[Ticket, None]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def ahead(self, buckets: Iterable[Bucket]) -> dict[Bucket, int]:
        """Return what those who wait will take, from the buckets where somebody does."""
        return {
            bucket: sum(ticket.costs[bucket] for ticket in self._lines[bucket])
            for bucket in buckets
            if bucket in self._lines
        }

    def join(self, ticket: Ticket) -> None:
        """Add a ticket at the end of its lines."""
        self._size += 1
        for bucket in ticket.costs:
            self._lines.setdefault(bucket, {})[ticket] = None

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket, and tell those that are first now."""
        self._size -= 1
        for bucket in ticket.costs:
            line = self._lines[bucket]
            del line[ticket]
            if not line:
                del self._lines[bucket]
        for bucket in ticket.costs:
            self._tell_first(bucket)

    def is_first(self, ticket: Ticket) -> bool:
        """Tell whether nobody stands before a ticket in any of its lines."""
        return all(next(iter(self._lines[bucket])) is ticket for bucket in ticket.costs)

    def _tell_first(self, bucket: Bucket) -> None:
        first = next(iter(self._lines.get(bucket, ())), None)
        if first is not None and self.is_first(first):
            first.on_first()
