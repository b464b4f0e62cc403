"""Whether a worker's event loop turns, and what the worker does, for threads that ask."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LoopWatch"]

T = TypeVar("T")

# Seconds between two looks.
_INTERVAL = 0.5
# The looks of half a minute.
_REMEMBERED = 60


class LoopWatch(Generic[T]):
    """Looks at a worker each half second, on its event loop; other threads read what it saw.

    It belongs to the event loop that runs when it is made.

    Args:
        look: Returns the state; called on the loop.
        clock: Returns seconds; called from any thread.

    Attributes:
        seen: The state that was seen last.
        lag: How many seconds late a look was, because other code kept the loop busy; the most in
            the last half minute.
    """

    def __init__(self, look: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.seen = look()
        self.lag = 0.0
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)
        self._looked_at = clock()
        self._timer = self._loop.call_later(_INTERVAL, self._tick)

    @property
    def silent_for(self) -> float:
        """Seconds since the last look was due: 0 while the loop turns."""
        return max(0.0, self._clock() - self._looked_at - _INTERVAL)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _tick(self) -> None:
        self._lags.append(self.silent_for)
        self.lag, self._looked_at = max(self._lags), self._clock()
        self.seen = self._look()
        self._timer = self._loop.call_later(_INTERVAL, self._tick)
