"""Where calls run: coroutines on the event loop, plain functions on daemon threads."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from arbprov.dispatcher import Call, Dispatcher, Resolve
from arbprov.task import TaskResult

__all__ = ["Executor", "ThreadPool"]

Work = Callable[[], Any]


class ThreadPool:
    """Daemon threads that are made when they are needed and kept.

    A thread that hangs in a handler keeps nobody from ending the process.

    Args:
        loop: Where the futures belong.
        name: The threads' name begins with it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._work: queue.SimpleQueue[tuple[asyncio.Future[Any], Work] | None] = queue.SimpleQueue()
        # Only the loop's thread touches these two.
        self._threads = 0
        self._idle = 0

    def run(self, work: Work) -> asyncio.Future[Any]:
        """Run `work` on a thread and return the future of what it returns."""
        future = self._loop.create_future()
        if self._idle:
            self._idle -= 1
        else:
            self._add_thread()
        self._work.put((future, work))
        return future

    def close(self) -> None:
        """Let the threads end that have nothing to do, and the others when they are done."""
        for _ in range(self._threads):
            self._work.put(None)

    def _add_thread(self) -> None:
        self._threads += 1
        name = f"{self._name}-{self._threads}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            # Each call in a context of its own, as a task on the loop has.
            outcome = contextvars.Context().run(_attempt, work)
            try:
                self._loop.call_soon_threadsafe(self._settle, future, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _settle(
        self, future: asyncio.Future[Any], outcome: tuple[Any, BaseException | None]
    ) -> None:
        self._idle += 1
        value, error = outcome
        if future.cancelled():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


def _attempt(work: Work) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error


class Executor:
    """Makes the calls that a dispatcher has prepared."""

    def __init__(self, dispatcher: Dispatcher, threads: ThreadPool) -> None:
        self._dispatcher = dispatcher
        self._threads = threads
        self._loop = asyncio.get_running_loop()

    def start(self, call: Call) -> asyncio.Future[TaskResult]:
        """Begin a call and return the future of its result; to cancel that is to give up on it."""
        if not call.route.blocking:
            return self._loop.create_task(self._dispatcher.perform(call, _on_loop))
        return self._threads.run(
            lambda: _drive(self._dispatcher.perform(call, self._from_thread(call)))
        )

    def abandon(self, call: Call, future: asyncio.Future[TaskResult]) -> None:
        """Ask a call to end that nobody waits for any more; a plain function can't be forced."""
        if not call.route.blocking:
            future.cancel()
        elif call.awaiting is not None:
            call.awaiting.cancel()

    def _from_thread(self, call: Call) -> Resolve:
        async def resolve(awaitable: Awaitable[Any], /) -> Any:
            # The thread waits while the loop does the awaiting, so this never suspends.
            call.awaiting = asyncio.run_coroutine_threadsafe(_on_loop(awaitable), self._loop)
            return call.awaiting.result()

        return resolve


async def _on_loop(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _drive(coroutine: Coroutine[Any, Any, TaskResult]) -> TaskResult:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: TaskResult = finished.value
        return result
    raise AssertionError("a call on a thread has suspended")
