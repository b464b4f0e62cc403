"""How many tasks have ended lately, counted in this process."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from arbprov.localhub.api.shapes import RatesView
from arbprov.localhub.queue import Change
from arbprov.localhub.tasks import State

__all__ = ["Rates"]

_WINDOW = 300.0
_ENDED = [state.value for state in State if state.has_ended]


class Rates:
    """Counts the tasks that end, by state, over the last five minutes.

    Args:
        clock: Returns a time in seconds that never goes back.

    >>> now = 0.0
    >>> rates = Rates(clock=lambda: now)
    >>> now = 60.0
    >>> rates.add(Change("t1", "done"))
    >>> rates.view().per_minute["done"]
    1.0
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        # The counts of each second; the oldest first.
        self._seconds: deque[tuple[int, Counter[str]]] = deque()

    def add(self, change: Change) -> None:
        """Count a change, if it is the end of a task."""
        if change.state not in _ENDED:
            return
        second = int(self._clock())
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, Counter()))
            self._forget()
        self._seconds[-1][1][change.state] += 1

    def view(self) -> RatesView:
        """Return the rates."""
        self._forget()
        seconds = min(max(self._clock() - self._started_at, 1.0), _WINDOW)
        total: Counter[str] = Counter()
        for _, counts in self._seconds:
            total += counts
        return RatesView(
            seconds=round(seconds, 1),
            per_minute={state: round(total[state] * 60 / seconds, 2) for state in _ENDED},
        )

    def _forget(self) -> None:
        oldest = self._clock() - _WINDOW
        while self._seconds and self._seconds[0][0] < oldest:
            self._seconds.popleft()
