"""An event loop for tests, whose time jumps to the next timer while nothing real is under way."""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import sys
import threading
import time
from asyncio import selector_events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from arbprov.testing.client import VirtualClock

__all__ = ["SkippingLoop"]

# In real seconds. The loop asks this often whether anything real is still under way.
_CHECK_INTERVAL = 0.05
# Before a jump, bytes that are on their way to an open connection have this long to arrive.
_ARRIVAL_TIME = 0.005
# Rounds of the loop in which time need not pass. A loop with more rounds never rests.
_MAX_ROUNDS = 2000


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that lives by a `VirtualClock`: its time jumps to the next timer.

    Time passes as it really does while something is under way that the loop can't hurry:

    - a thread that was started after the loop was made, or a busy thread of an executor;
    - a subprocess, a pipe, a datagram socket, a listening socket, bytes that wait to be sent;
    - tasks that never let the loop rest;
    - a task that may wait for bytes: while connections are open, that is every task that waits for
      anything but `asyncio.sleep`, another task or `asyncio.gather`.

    An open connection that no task waits for, like those of a pool, does not stop time from
    jumping.

    Args:
        clock: Tells the loop's time, and is advanced by it.

    >>> from arbprov.testing import VirtualClock
    >>> clock = VirtualClock()
    >>> loop = SkippingLoop(clock)
    >>> loop.run_until_complete(asyncio.sleep(3600))
    >>> clock.monotonic()
    3600.0
    >>> loop.close()
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._old_threads = frozenset(threading.enumerate())
        self._in_executors = 0
        self._forces_jumps = False
        # Each round of the loop asks for it, so a method around it would cost time.
        self.time = clock.monotonic  # type: ignore[method-assign]
        super().__init__(_SkippingSelector(self))
        clock._loops.append(self)

    def close(self) -> None:
        """Close the loop."""
        super().close()
        with contextlib.suppress(ValueError):  # closed before
            self._clock._loops.remove(self)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function as every loop does; time does not jump until it has returned."""
        future = super().run_in_executor(executor, func, *args)
        self._in_executors += 1

        def on_done(_: asyncio.Future[Any]) -> None:
            self._in_executors -= 1

        future.add_done_callback(on_done)
        return future

    def run_until(self, when: float) -> None:
        """Jump from timer to timer until a time of the clock, unless a loop runs in this thread.

        So `VirtualClock.advance` wakes tasks that sleep. It waits for nothing real.
        """
        if self.is_running() or asyncio._get_running_loop() is not None:
            return

        async def sleep() -> None:
            due = self.create_future()
            self.call_at(when, due.set_result, None)
            await due
            # Tasks that wake up at that time go on, as far as they get.
            for _ in range(_MAX_ROUNDS):
                if not self._ready:
                    return
                await asyncio.sleep(0)

        if self._scheduled or self._ready:
            self._forces_jumps = True
            try:
                self.run_until_complete(sleep())
            finally:
                self._forces_jumps = False

    def wake(self) -> None:
        """Notice that another thread has advanced the clock."""
        if self.is_running() and asyncio._get_running_loop() is not self:
            self.call_soon_threadsafe(lambda: None)

    # Whether anything real is under way.

    _ready: Any
    _scheduled: Any
    _selector: Any
    _ssock: Any

    def _is_busy(self) -> bool:
        if self._in_executors > 0:
            return True
        pools: Any = sys.modules.get("concurrent.futures.thread")
        queues = getattr(pools, "_threads_queues", {})
        for thread in threading.enumerate():
            if thread is threading.current_thread():
                continue
            if thread in queues:
                # A thread of a `ThreadPoolExecutor` waits for work. The queue is looked at first:
                # later, the thread may have taken the last item, and work on it.
                if not queues[thread].empty():
                    return True
                frame = sys._current_frames().get(thread.ident or 0)
                if frame is None or frame.f_code is not pools._worker.__code__:
                    return True
            elif thread not in self._old_threads:
                return True
        return self._has_pending_io()

    def _has_connections(self) -> bool:
        return len(self._selector.get_map()) > 1  # the loop has a descriptor of its own

    def _has_pending_io(self) -> bool:
        if not self._has_connections():
            return False
        for key in list(self._selector.get_map().values()):
            if key.fd != self._ssock.fileno() and not _is_idle_connection(key):
                return True
        slept_for = {
            id(timer._args[0])
            for timer in self._scheduled
            if timer._args and getattr(timer._callback, "__name__", "").startswith("_set_result")
        }
        return not all(_is_hurried(task, slept_for) for task in asyncio.all_tasks(self))


class _SkippingSelector(selectors.DefaultSelector):
    """Where a real selector waits for a timer, lets the clock jump to it."""

    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop
        # Rounds of the loop since time has passed.
        self._rounds = 0
        self._counted_at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            self._rounds += 1
            if self._rounds >= _MAX_ROUNDS:
                self._end_rounds()
            return super().select(0)
        loop = self._loop
        self._rounds = 0
        if timeout is None:
            return self._wait(None)
        # Asked before the events: work that has ended by now has left its events.
        waits = not loop._forces_jumps and loop._is_busy()
        patience = _ARRIVAL_TIME if loop._has_connections() and not loop._forces_jumps else 0
        events = super().select(patience)
        if events:
            return events
        if waits:
            return self._wait(min(timeout, _CHECK_INTERVAL))
        self._jump(timeout)
        return events

    def _end_rounds(self) -> None:
        """Let time pass for a loop that never rests: really, or if it must, to the next timer."""
        loop, now = self._loop, time.perf_counter()
        if loop._forces_jumps:
            self._rounds = 0
            if loop._scheduled:
                self._jump(math.inf)
        else:
            if self._rounds > _MAX_ROUNDS:
                loop._clock._wait(now - self._counted_at)
            self._counted_at = now

    def _jump(self, timeout: float) -> None:
        """Jump to the next timer, but no further than by `timeout`."""
        clock, timer = self._loop._clock, self._loop._scheduled[0].when()
        now = clock.monotonic()
        clock._jump_to(timer if timer - now <= timeout else now + timeout)

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        started_at = time.perf_counter()
        events = super().select(timeout)
        self._loop._clock._wait(time.perf_counter() - started_at)
        return events


def _is_idle_connection(key: selectors.SelectorKey) -> bool:
    """Tell whether a file descriptor is a stream's connection with nothing left to send."""
    reader = key.data[0]
    if key.events != selectors.EVENT_READ or reader is None:
        return False
    transport = getattr(reader._callback, "__self__", None)
    return isinstance(transport, selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]


def _is_hurried(task: asyncio.Task[Any], slept_for: set[int]) -> bool:
    """Tell whether a task waits for nothing but time, or for other tasks."""
    awaited = getattr(task, "_fut_waiter", None)
    awaited_together = getattr(awaited, "_children", [awaited])
    return all(
        future is None or isinstance(future, asyncio.Task) or id(future) in slept_for
        for future in awaited_together
    )
