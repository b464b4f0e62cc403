"""Changes all tasks that a filter finds, if they are as many as a person has seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from arbprov._utils import format_count
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.shapes import MatchingView
from arbprov.localhub.queue import TaskQueue
from arbprov.localhub.tasks import State, TaskFilter

__all__ = ["OPEN_STATES", "Change", "change_matching", "retried_states"]

#: Changes tasks by their ids, and returns the ids of the changed tasks.
Change = Callable[[Sequence[str]], Awaitable[list[str]]]

#: The states of tasks that can be cancelled.
OPEN_STATES = [State.WAITING, State.RUNNING]
_RETRIED = [State.FAILED, State.CANCELLED, State.DEAD]
# Tasks that are changed at once; other work goes between two rounds.
_ROUND = 1_000
# Tasks of a filter are counted up to this number.
_MOST = 1_000_000


def retried_states(named: Iterable[State]) -> list[State]:
    """Return the states of tasks that are run again: `done` only if it is named.

    >>> State.DONE in retried_states([]), State.DONE in retried_states([State.DONE])
    (False, True)
    """
    return [*_RETRIED, *(state for state in named if state is State.DONE)]


async def change_matching(
    queue: TaskQueue, where: TaskFilter | None, expect: int | None, change: Change
) -> MatchingView:
    """Change all tasks of a filter.

    Args:
        queue: The hub's tasks.
        where: Which tasks; None for none.
        expect: How many there are, as was said before; None to count them only.
        change: Changes tasks.

    Raises:
        ApiProblem: There are more tasks than `expect`.
    """
    matching = 0 if where is None else await queue.store.count(where, most=_MOST)
    if expect is None or where is None:
        return MatchingView(matching=matching, changed=0)
    if matching > expect:
        raise ApiProblem(
            409,
            f"{format_count(matching, 'task')} would be changed now, which is more than the "
            f"{expect:,} of `expect`; nothing was changed",
        )
    ids = await queue.select(where, matching)
    changed = 0
    for start in range(0, len(ids), _ROUND):
        changed += len(await change(ids[start : start + _ROUND]))
    return MatchingView(matching=matching, changed=changed)
