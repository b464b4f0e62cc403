"""Where calls run: on the event loop, on daemon threads, or in processes that can be killed."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from arbprov.dispatcher import Call, Dispatcher, Resolve
from arbprov.errors import HandlerProcessError
from arbprov.executors.forking import end_fork
from arbprov.executors.processes import HandlerProcess, ProcessHandler, ProcessPool
from arbprov.executors.watchdog import Watchdog
from arbprov.task import TaskResult

__all__ = ["Executor", "ThreadPool"]

Work = Callable[[], Any]

# What a process imports before its first task may take longer than any task.
_START_WITHIN = 60.0


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
        self._process = os.getpid()

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
            if os.getpid() != self._process:
                end_fork()
            try:
                self._loop.call_soon_threadsafe(self._settle, future, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            # The next work may be long in coming, and what this one was about large.
            del item, future, work, outcome

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
        self._watchdog = Watchdog(dispatcher)
        pickled = {
            r.action.name: r.pickled for r in dispatcher.routes.values() if r.action and r.pickled
        }
        self._processes = ProcessPool(pickled) if pickled else None

    async def make_ready(self, call: Call) -> None:
        """Have a process wait for a call that needs one; its time begins when that is there."""
        if self._processes is None or call.route.pickled is None or call.error is not None:
            return
        if call.stand_in is not None:
            return  # it waits already
        process = self._processes.take()
        try:
            await self._started(process)
        except HandlerProcessError as error:
            self._processes.give_back(process)
            call.error = error
            return
        call.stand_in = ProcessHandler(process, call)
        call.ctx.deadline = self._dispatcher.clock.monotonic() + call.route.timeout

    def release(self, call: Call) -> None:
        """Let a process that waits for a call, which is not made, take other ones."""
        if self._processes is not None and call.stand_in is not None:
            self._processes.give_back(call.stand_in.process)

    async def _started(self, process: HandlerProcess) -> None:
        if process.is_started:
            return
        started = self._threads.run(process.start)
        await asyncio.wait([started], timeout=_START_WITHIN)
        if not started.done():
            process.kill()
        await started

    async def perform(self, call: Call, task: asyncio.Task[Any]) -> TaskResult:
        """Make a call in `task`, which runs now, and return its result, whatever happens in it."""
        self._watchdog.watch(task, call)
        try:
            return await self._dispatcher.perform(call, _on_loop)
        finally:
            self._watchdog.unwatch(task)

    def start(self, call: Call) -> asyncio.Future[TaskResult]:
        """Begin a call and return the future of its result; to cancel that is to give up on it."""
        if not call.route.blocking:
            call.awaiting = task = self._loop.create_task(self._perform_here(call))
            return task
        future = self._threads.run(
            lambda: _drive(self._dispatcher.perform(call, self._from_thread(call)))
        )
        if call.stand_in is not None:
            future.add_done_callback(lambda ended: self._give_back(call, ended))
        return future

    async def _perform_here(self, call: Call) -> TaskResult:
        task = asyncio.current_task()
        assert task is not None
        return await self.perform(call, task)

    def abandon(self, call: Call) -> None:
        """End what a call waits for; on a thread, it can only be asked to end."""
        for waited_for in (call.awaiting, call.stand_in):
            if waited_for is not None:
                waited_for.cancel()

    def close(self) -> None:
        """End what calls ran in: the threads that have nothing to do, and all processes."""
        self._threads.close()
        self._watchdog.close()
        if self._processes is not None:
            self._processes.close()

    def _give_back(self, call: Call, ended: asyncio.Future[TaskResult]) -> None:
        assert self._processes is not None
        # Where nobody waits for the end any more, the process may still be at work.
        if not ended.cancelled():
            self._processes.give_back(call.stand_in.process)

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
