"""Which tasks `claim` of the PostgreSQL store takes from the lanes that it has locked."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

import attrs

__all__ = ["Lane", "take_turns"]

Group = tuple[str, str]


@attrs.define(eq=False)
class Lane:
    """A lane that is locked, and the first of its tasks.

    Attributes:
        turn: The account's place in the order of accounts.
        served: The lane's place in the order of its account's lanes.
        numbers: The numbers of its first tasks.
        has_more: Whether it may have more tasks than `numbers`.
        taken: How many of `numbers` are taken.
    """

    id: UUID
    action: str
    account_key: str
    priority: int
    turn: int
    served: int
    numbers: Sequence[int] = ()
    has_more: bool = False
    taken: int = 0

    @property
    def group(self) -> Group:
        """Its action and account."""
        return self.action, self.account_key

    @property
    def is_used_up(self) -> bool:
        """Whether all of `numbers` are taken."""
        return self.taken == len(self.numbers)


def take_turns(
    lanes: Sequence[Lane],
    count: int,
    *,
    horizon: tuple[int, int] | None = None,
    rooms: Mapping[Group, int] = MappingProxyType({}),
) -> list[tuple[Lane, int]]:
    """Take tasks: by priority, then account by account, then lane by lane.

    Args:
        lanes: The lanes.
        count: The most tasks to take.
        horizon: The negative priority and the turn up to which `lanes` has all lanes; None if it
            has all that there are.
        rooms: How many tasks may go at most, of some groups.

    Returns:
        The lane and the number of each task, in their order.

    >>> lanes = [
    ...     Lane(UUID(int=1), "act", "a", 0, turn=1, served=1, numbers=[1, 2, 3]),
    ...     Lane(UUID(int=2), "act", "b", 0, turn=2, served=2, numbers=[4]),
    ... ]
    >>> [number for _, number in take_turns(lanes, 3)]
    [1, 4, 2]
    """
    waiting: dict[tuple[str, int], deque[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.served):
        lane.taken = 0
        if lane.numbers:
            waiting.setdefault((lane.account_key, lane.priority), deque()).append(lane)
    heap = [
        (-priority, min(lane.turn for lane in queue), account_key)
        for (account_key, priority), queue in waiting.items()
    ]
    heapq.heapify(heap)
    back = itertools.count(max((lane.turn for lane in lanes), default=0) + 1)
    picks: list[tuple[Lane, int]] = []
    left = dict(rooms)
    while heap and len(picks) < count and (horizon is None or heap[0][:2] <= horizon):
        rank, _, account_key = heapq.heappop(heap)
        queue = waiting[account_key, -rank]
        lane = queue.popleft()
        if left.get(lane.group) == 0:
            # Another lane of this account is next, in the same turn.
            if queue:
                heapq.heappush(heap, (rank, -1, account_key))
            continue
        picks.append((lane, lane.numbers[lane.taken]))
        lane.taken += 1
        if lane.group in left:
            left[lane.group] -= 1
        if not lane.is_used_up:
            queue.append(lane)
        if queue:
            heapq.heappush(heap, (rank, next(back), account_key))
    return picks
