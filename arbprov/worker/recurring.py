"""Doing something again and again, for as long and as often as the hub asks for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from arbprov.worker.background import Background

__all__ = ["Recurring"]

# Seconds after which it is noticed that the hub asks for another interval, or for nothing.
_CHECK_INTERVAL = 5.0


class Recurring:
    """Calls a function at an interval, which counts from the start of each call.

    It belongs to the event loop that runs when it is made.

    Args:
        work: The function.
        read_interval: Returns the seconds between two calls; 0 ends the calls.
        tasks: Runs the calls.
        at_once: Whether the first call is made at the start, and not after the interval.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        read_interval: Callable[[], float],
        tasks: Background,
        *,
        at_once: bool = False,
    ) -> None:
        self._work = work
        self._read_interval = read_interval
        self._tasks = tasks
        self._at_once = at_once
        self._repeating: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Call the function from now on, unless it is called already."""
        if self._repeating is None or self._repeating.done():
            self._repeating = self._tasks.spawn(self._repeat())

    async def close(self) -> None:
        """End the calls."""
        if self._repeating is not None:
            self._repeating.cancel()
            await asyncio.wait([self._repeating])

    async def _repeat(self) -> None:
        called_at = -math.inf if self._at_once else self._loop.time()
        while interval := self._read_interval():
            left = called_at + interval - self._loop.time()
            if left > 0:
                await asyncio.sleep(min(left, _CHECK_INTERVAL))
                continue
            called_at = self._loop.time()
            await self._work()
