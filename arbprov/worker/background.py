"""Asyncio tasks that run in the background of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Background", "close_loop"]

# Seconds to wait for the asyncio tasks that are cancelled when the loop closes.
_CANCEL_TIMEOUT = 0.5


class Background:
    """Runs coroutines as asyncio tasks, and lets no error of them go unnoticed.

    It belongs to the event loop that runs when it is made.

    Args:
        on_error: Called with each exception of a task.

    Attributes:
        tasks: The tasks that have not ended.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine, and return its task."""

        def on_done(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._on_error(error)

        task = self._loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(on_done)
        return task

    async def wait(self, timeout: float) -> None:
        """Wait until all tasks have ended, but at most `timeout` seconds."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=timeout)


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks of an event loop, and close it."""
    # `asyncio.run` would wait for ever for a task that ignores its cancellation.
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT))
    loop.set_exception_handler(lambda loop, context: None)
    loop.close()
