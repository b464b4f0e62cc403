"""BEGIN HERE: what runs a handler: the event loop, a thread, or a process of its own.

A call is a task on its way to its handler. `Dispatcher.perform` calls the handler and its hooks;
the `Executor` chooses where that happens, and ends the call at its deadline.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from typing import Any

from arbprov.dispatcher import Call, Dispatcher
from arbprov.errors import HandlerProcessError, TaskTimeoutError
from arbprov.executors.contexts import SharedContext
from arbprov.executors.inline import drive
from arbprov.executors.processes import ProcessHandler, ProcessPool
from arbprov.executors.threads import ThreadPool, set_outcome
from arbprov.executors.watchdog import Watchdog
from arbprov.task import TaskResult

__all__ = ["Deadlines", "Executor"]

# In seconds. The modules that a process imports before its first task may take long.
_START_TIMEOUT = 60.0
# The variables of the secret settings in `arbprov.config.Config`.
_SECRET_VARIABLES = (
    "PROVIDER_AUTH_TOKEN",
    "PROVIDER_AUTH_TOKEN_FILE",
    "ARBPROV_RATE_LIMIT_STORE",
    "ARBPROV_RATE_LIMIT_STORE_FILE",
)

Expire = Callable[..., object]


class Executor:
    """Runs each call where its handler belongs, with the hooks around it.

    - ``async def``: on the event loop. A watchdog logs the handler that blocks the loop.
    - ``def``: on a daemon thread. If it returns an awaitable, the loop awaits that.
    - ``isolation="process"``: in another process, killed at the call's deadline; the hooks run on a
      thread that waits for the process.
    - The hooks that see a timeout or a refused task: where the action's handler would run.

    It belongs to the event loop that is running when it is made.

    Args:
        dispatcher: Performs the calls.
        threads: The pool for plain handlers and for starting processes.
    """

    def __init__(self, dispatcher: Dispatcher, threads: ThreadPool) -> None:
        self._dispatcher = dispatcher
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._watchdog = Watchdog(dispatcher)
        self._deadlines = Deadlines(self._loop)
        pickled = {
            r.action.name: r.pickled for r in dispatcher.routes.values() if r.action and r.pickled
        }
        hidden = _find_secret_variables(dispatcher.secrets) if pickled else []
        self._processes = ProcessPool(pickled, hidden) if pickled else None

    async def run(self, call: Call, timeout: float) -> TaskResult:
        """Run a call until it ends or its time is up.

        Args:
            call: Its `ended` is set to a future that is done when it has really ended.
            timeout: Seconds that it may take; then it is cancelled, or asked to end.

        Raises:
            TaskTimeoutError: Its time is up. Its handler may still run.
        """
        if call.route.pickled is not None:
            await self.make_ready(call)
        outcome: asyncio.Future[TaskResult] = self._loop.create_future()
        call.ended = self.start(call, outcome)
        self._deadlines.start(timeout, call, self._on_timeout, call, outcome)
        try:
            return await outcome
        except asyncio.CancelledError:
            # The worker stops. A handler on the loop may clean up first.
            call.expire()
            self._abandon(call)
            if not call.route.blocking:
                await asyncio.wait([call.ended])
            raise
        finally:
            self._deadlines.stop(timeout, call)

    def _on_timeout(
        self, call: Call, outcome: asyncio.Future[TaskResult], granted: float = 0.0
    ) -> None:
        """End a call's time, unless some was added.

        Args:
            call: The call.
            outcome: Gets the error.
            granted: The seconds of its `extra_time` that have passed.
        """
        if outcome.done():
            return  # the call has ended in time, and `run` is about to go on
        more = min(call.extra_time - granted, call.route.timeout)
        if more > 0:
            self._loop.call_later(more, self._on_timeout, call, outcome, granted + more)
            return
        call.expire()
        self._abandon(call)
        outcome.set_exception(TaskTimeoutError(call.route.timeout))

    def start(
        self, call: Call, outcome: asyncio.Future[TaskResult]
    ) -> asyncio.Future[Any] | asyncio.Task[None]:
        """Start a call.

        Args:
            call: Its `pending` is set to the task that runs it or that it waits for.
            outcome: Gets the result, unless it is done before.

        Returns:
            A future that is done when the call has ended, even if its time was up before.
        """
        if not call.route.blocking:
            call.pending = task = self._loop.create_task(self._perform(call, outcome))
            return task
        ended = self._loop.create_future()

        def wait(awaitable: Awaitable[Any]) -> Any:
            return SharedContext(awaitable).wait(run_on_loop)

        def run_on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
            call.pending = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            return call.pending.result()

        def on_end(result: Any, error: BaseException | None) -> None:
            set_outcome(outcome, result, error)
            ended.set_result(None)
            self.release(call)

        self._threads.start(lambda: drive(self._dispatcher.perform(call, wait)), on_end)
        return ended

    async def _perform(self, call: Call, outcome: asyncio.Future[TaskResult]) -> None:
        task = call.pending
        self._watchdog.calls[task] = call
        if not self._watchdog.awake.is_set():
            self._watchdog.wake()
        try:
            result = await self._dispatcher.perform(call)
        except Exception as error:
            set_outcome(outcome, None, error)
        else:
            set_outcome(outcome, result, None)
        finally:
            del self._watchdog.calls[task]

    def _abandon(self, call: Call) -> None:
        """Cancel a call's awaiting and kill its process; a handler on a thread runs on."""
        for waited_for in (call.pending, call.process_handler):
            if waited_for is not None:
                waited_for.cancel()

    async def make_ready(self, call: Call) -> None:
        """Start the process of an isolated handler's call, and then the call's time.

        If the process does not start, `call.error` says why. A call that has its process already
        is left unchanged.
        """
        assert self._processes is not None  # there are isolated handlers
        if call.error is not None or call.process_handler is not None:
            return
        process = self._processes.acquire()
        try:
            if not process.is_started:
                started = self._threads.run(process.start)
                await asyncio.wait([started], timeout=_START_TIMEOUT)
                if not started.done():
                    process.kill()
                await started
            call.process_handler = ProcessHandler(process, call)
        except HandlerProcessError as error:
            self._processes.release(process)
            call.error = error
        # The start took none of the call's time, even if it failed.
        call.ctx.deadline = self._dispatcher.clock.monotonic() + call.timeout

    def release(self, call: Call) -> None:
        """Take back the process of a call, if any, for other calls."""
        if self._processes is not None and call.process_handler is not None:
            self._processes.release(call.process_handler.process)
            call.process_handler = None

    def close(self) -> None:
        """End idle threads, the watchdog and all processes."""
        self._threads.close()
        self._watchdog.close()
        if self._processes is not None:
            self._processes.close()


def _find_secret_variables(tokens: Iterable[str]) -> list[str]:
    """Return the names of the environment variables whose values isolated handlers do not need.

    Args:
        tokens: The known tokens of the hub; a variable of any name may hold a token.
    """
    known = set(tokens)
    holding = {name for name, value in os.environ.items() if value.strip() in known}
    return sorted(holding.union(_SECRET_VARIABLES))


class Deadlines:
    """Calls a function for each call that does not end in its time.

    Nearly all calls do end in time, and a timer for each would keep the event loop busier than the
    call does. Calls of the same timeout expire in the order in which they started, so they share
    a timer.

    Args:
        loop: The event loop that has the timers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # By timeout, in the order of their deadlines.
        self._running: dict[float, dict[Hashable, tuple[float, Expire, tuple[Any, ...]]]] = {}
        self._timed: set[float] = set()

    def start(self, seconds: float, key: Hashable, expire: Expire, *arguments: Any) -> None:
        """Call `expire` in `seconds`, unless `key` is stopped before then."""
        at = self._loop.time() + seconds
        self._running.setdefault(seconds, {})[key] = (at, expire, arguments)
        if seconds not in self._timed:
            self._timed.add(seconds)
            self._loop.call_at(at, self._expire_due, seconds)

    def stop(self, seconds: float, key: Hashable) -> None:
        """Stop the time of `key`, which was started with `seconds`; it may be up already."""
        if running := self._running.get(seconds):
            running.pop(key, None)

    def _expire_due(self, seconds: float) -> None:
        running, now = self._running[seconds], self._loop.time()
        # Not in a `for` loop: an expired call may stop or start another one.
        while running:
            key, (at, expire, arguments) = next(iter(running.items()))
            if at > now:
                self._loop.call_at(at, self._expire_due, seconds)
                return
            del running[key]
            expire(*arguments)
        self._timed.discard(seconds)
        # The later tries of calls have all kinds of timeouts.
        del self._running[seconds]
