"""How actions do: rates, errors and durations, from the tasks that ended last."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import attrs

from arbprov.localhub.page.sparklines import Sparkline, make_sparkline
from arbprov.localhub.store import Store
from arbprov.localhub.tasks import Ending, State

__all__ = ["ActionFigures", "Statistics", "find_percentile", "summarize"]

#: The tasks that are looked at.
SAMPLE = 5_000
# Seconds that figures look back at most, and for which they are kept.
_WINDOW = 300.0
_MAX_AGE = 2.0
_BARS = 30
_MAX_ERRORS = 5
_MAX_ERROR_TYPES = 50


@attrs.frozen(kw_only=True)
class ActionFigures:
    """The figures of an action.

    Attributes:
        ended: How many of the tasks that were looked at are its.
        per_minute: How many of its tasks ended in a minute, over the window.
        p50: Seconds that half of its tasks took at most; None without a task that ran.
        p95: The same for 95 of 100 tasks.
        errors: Its most frequent kinds of errors, with their counts.
        sparkline: How many ended over the window.
    """

    ended: int
    per_minute: float
    p50: float | None
    p95: float | None
    errors: list[tuple[str, int]]
    sparkline: Sparkline


@attrs.frozen(kw_only=True)
class Summary:
    """The figures of all actions.

    Attributes:
        seconds: The window that rates and sparklines are about.
        all: The figures of all tasks.
        actions: The figures by action.
        error_types: The error types of all tasks, the most frequent first.
    """

    seconds: float
    all: ActionFigures
    actions: dict[str, ActionFigures]
    error_types: list[str]


class Statistics:
    """Reads the figures, and keeps them for a moment, since several people may look at them.

    Args:
        store: Has the tasks.
        clock: Returns the time in seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._summary: Summary | None = None
        self._read_at = 0.0

    async def read(self, max_age: float = _MAX_AGE) -> Summary:
        """Return the figures.

        Args:
            max_age: Seconds since they were read, at most.
        """
        now = self._clock()
        if self._summary is None or not 0 <= now - self._read_at < max_age:
            self._summary = summarize(await self._store.endings(SAMPLE), now)
            self._read_at = now
        return self._summary


def summarize(endings: Sequence[Ending], now: float) -> Summary:
    """Return the figures of tasks that have ended.

    Args:
        endings: The tasks that ended last, the latest first.
        now: The time in seconds since 1970.

    >>> ending = Ending(
    ...     action="report", state=State.DONE, started_at=8.0, ended_at=10.0, error_type=""
    ... )
    >>> summary = summarize([ending] * 10, 10.0)
    >>> summary.actions["report"].per_minute, summary.actions["report"].p95
    (2.0, 2.0)
    """
    window = _WINDOW
    # Where more tasks ended than were looked at, the figures are about a shorter time.
    if len(endings) >= SAMPLE:
        window = min(max(now - endings[-1].ended_at, 1.0), _WINDOW)
    by_action: defaultdict[str, list[Ending]] = defaultdict(list)
    for ending in endings:
        by_action[ending.action].append(ending)
    return Summary(
        seconds=window,
        all=_find_figures(endings, window, now),
        actions={action: _find_figures(own, window, now) for action, own in by_action.items()},
        error_types=_find_error_types(endings),
    )


def _find_figures(endings: Sequence[Ending], window: float, now: float) -> ActionFigures:
    durations = sorted(
        max(0.0, ending.ended_at - ending.started_at)
        for ending in endings
        if ending.started_at is not None and ending.state in (State.DONE, State.FAILED)
    )
    errors = Counter(
        ending.error_type or ending.state.value
        for ending in endings
        if ending.state in (State.FAILED, State.DEAD)
    )
    begin = now - window
    times = [ending.ended_at - begin for ending in endings if ending.ended_at >= begin]
    return ActionFigures(
        ended=len(endings),
        per_minute=round(len(times) * 60 / window, 1),
        p50=find_percentile(durations, 50),
        p95=find_percentile(durations, 95),
        errors=errors.most_common(_MAX_ERRORS),
        sparkline=make_sparkline(times, window, _BARS),
    )


def _find_error_types(endings: Sequence[Ending]) -> list[str]:
    counts = Counter(ending.error_type for ending in endings if ending.error_type)
    return [name for name, _ in counts.most_common(_MAX_ERROR_TYPES)]


def find_percentile(durations: Sequence[float], percent: int) -> float | None:
    """Return the lowest of some sorted numbers that so many percent of them do not exceed.

    >>> find_percentile([1.0, 2.0, 3.0, 4.0], 50), find_percentile([], 50)
    (2.0, None)
    """
    if not durations:
        return None
    return durations[max(0, -(-len(durations) * percent // 100) - 1)]
