"""Where calls run: on the event loop, on daemon threads, or in processes that can be killed."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from arbprov.dispatcher import Call, Dispatcher
from arbprov.errors import HandlerProcessError
from arbprov.executors.forking import end_fork
from arbprov.executors.inline import as_coroutine, drive
from arbprov.executors.processes import HandlerProcess, ProcessHandler, ProcessPool
from arbprov.executors.watchdog import Watchdog
from arbprov.task import TaskResult

__all__ = ["Executor", "ThreadPool", "settle"]

Work = Callable[[], Any]
OnEnd = Callable[[Any, BaseException | None], object]

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
        self._work: queue.SimpleQueue[tuple[Work, OnEnd] | None] = queue.SimpleQueue()
        # Only the loop's thread touches these two.
        self._threads = 0
        self._idle = 0
        self._process = os.getpid()

    def run(self, work: Work) -> asyncio.Future[Any]:
        """Run `work` on a thread and return the future of what it returns."""
        future = self._loop.create_future()
        self.start(work, lambda value, error: settle(future, value, error))
        return future

    def start(self, work: Work, on_end: OnEnd) -> None:
        """Run `work` on a thread, and call `on_end` on the loop with what it returns or raises."""
        if self._idle:
            self._idle -= 1
        else:
            self._add_thread()
        self._work.put((work, on_end))

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
            work, on_end = item
            # Each call in a context of its own, as a task on the loop has.
            outcome = contextvars.Context().run(_attempt, work)
            if os.getpid() != self._process:
                end_fork()
            try:
                self._loop.call_soon_threadsafe(self._end, on_end, *outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            # The next work may be long in coming, and what this one was about large.
            del item, work, on_end, outcome

    def _end(self, on_end: OnEnd, value: Any, error: BaseException | None) -> None:
        self._idle += 1
        on_end(value, error)


def settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    """Give a future its value or its error, unless it is done already."""
    if future.done():
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
        if call.process_handler is not None:
            return  # it waits already
        process = self._processes.take()
        try:
            await self._started(process)
        except HandlerProcessError as error:
            self._processes.give_back(process)
            call.error = error
            return
        call.process_handler = ProcessHandler(process, call)
        call.ctx.deadline = self._dispatcher.clock.monotonic() + call.route.timeout

    def release(self, call: Call) -> None:
        """Let a process that waits for a call, which is not made, take other ones."""
        if self._processes is not None and call.process_handler is not None:
            self._processes.give_back(call.process_handler.process)
            call.process_handler = None

    async def _started(self, process: HandlerProcess) -> None:
        if process.is_started:
            return
        started = self._threads.run(process.start)
        await asyncio.wait([started], timeout=_START_WITHIN)
        if not started.done():
            process.kill()
        await started

    def start(
        self, call: Call, outcome: asyncio.Future[TaskResult]
    ) -> asyncio.Future[Any] | asyncio.Task[None]:
        """Begin a call, whose result goes to `outcome`, unless that is done by then.

        Returns:
            A future that is done when the call has really ended, though its time was up before.
        """
        if not call.route.blocking:
            call.pending = task = self._loop.create_task(self._perform(call, outcome))
            return task
        ended = self._loop.create_future()

        def wait(awaitable: Awaitable[Any]) -> Any:
            call.pending = asyncio.run_coroutine_threadsafe(as_coroutine(awaitable), self._loop)
            return call.pending.result()

        def end(result: Any, error: BaseException | None) -> None:
            settle(outcome, result, error)
            ended.set_result(None)
            self.release(call)

        self._threads.start(lambda: drive(self._dispatcher.perform(call, wait)), end)
        return ended

    async def _perform(self, call: Call, outcome: asyncio.Future[TaskResult]) -> None:
        task = call.pending
        self._watchdog.watch(task, call)
        try:
            result = await self._dispatcher.perform(call)
        except Exception as error:
            settle(outcome, None, error)
        else:
            settle(outcome, result, None)
        finally:
            self._watchdog.unwatch(task)

    def abandon(self, call: Call) -> None:
        """End what a call waits for; on a thread, it can only be asked to end."""
        for waited_for in (call.pending, call.process_handler):
            if waited_for is not None:
                waited_for.cancel()

    def close(self) -> None:
        """End what calls ran in: the threads that have nothing to do, and all processes."""
        self._threads.close()
        self._watchdog.close()
        if self._processes is not None:
            self._processes.close()
