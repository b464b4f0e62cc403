"""The threads that plain handlers run on."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from arbprov.executors.forking import end_fork

__all__ = ["ThreadPool", "set_outcome"]

Work = Callable[[], Any]
OnEnd = Callable[[Any, BaseException | None], object]


class ThreadPool:
    """Daemon threads, started on demand and reused.

    A thread that hangs in a handler does not keep the process alive: it is a daemon. Only the
    thread of `loop` may use the pool.

    Args:
        loop: The event loop that the returned futures belong to.
        name: The first part of each thread's name.

    >>> async def main():
    ...     pool = ThreadPool(asyncio.get_running_loop(), "example")
    ...     try:
    ...         return await pool.run(lambda: threading.current_thread().name)
    ...     finally:
    ...         pool.close()
    >>> asyncio.run(main())
    'example-1'
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._work: queue.SimpleQueue[tuple[Work, OnEnd] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._process = os.getpid()

    def run(self, work: Work) -> asyncio.Future[Any]:
        """Run `work` on a thread; return the future of its return value or exception."""
        future = self._loop.create_future()
        self.start(work, lambda value, error: set_outcome(future, value, error))
        return future

    def start(self, work: Work, on_end: OnEnd) -> None:
        """Run `work` on a thread, in a copy of this context, then call `on_end` on the loop.

        Args:
            work: The function to run.
            on_end: Called with the return value and None, or with None and the exception.
        """
        if self._idle:
            self._idle -= 1
        else:
            self._threads += 1
            name = f"{self._name}-{self._threads}"
            threading.Thread(target=self._run_work, name=name, daemon=True).start()
        # Copied for each call, as for a task on the loop.
        self._work.put((functools.partial(contextvars.copy_context().run, work), on_end))

    def close(self) -> None:
        """End idle threads now and busy threads after their work, without waiting for either."""
        for _ in range(self._threads):
            self._work.put(None)

    def _run_work(self) -> None:
        while (item := self._work.get()) is not None:
            work, on_end = item
            value: Any = None
            error: BaseException | None = None
            try:
                value = work()
            except BaseException as raised:
                error = raised
            if os.getpid() != self._process:
                end_fork()
            try:
                self._loop.call_soon_threadsafe(self._end, on_end, value, error)
            except RuntimeError:
                return  # the loop is closed, so the outcome has no reader
            # Drop references now: the next work may not arrive for a long time.
            del item, work, on_end, value, error

    def _end(self, on_end: OnEnd, value: Any, error: BaseException | None) -> None:
        self._idle += 1
        on_end(value, error)


def set_outcome(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    """Give a future its value or its error, unless it is done already."""
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
