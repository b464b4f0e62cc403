"""Running tasks in the calling thread: for the test client, `app.invoke` and `arbprov invoke`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from arbprov.dispatcher import Call, Dispatcher, Wait, run_hooks
from arbprov.errors import TaskError
from arbprov.hooks import Hooks
from arbprov.limits import Decision
from arbprov.logs import log_failure
from arbprov.payload.serialize import TaskData, encode_task_data
from arbprov.task import Task, TaskResult

if TYPE_CHECKING:
    import asyncio

__all__ = ["InlineRunner", "as_coroutine", "drive", "make_task"]

T = TypeVar("T")


class InlineRunner:
    """Runs one task at a time, in the thread that asks for it.

    In a ``with`` statement, it runs the startup and shutdown hooks, and its tasks share an event
    loop. All handlers run in this thread, isolated ones too. A timeout does not interrupt them: the
    dispatcher notices it by its clock when they return.

    Args:
        dispatcher: Turns tasks into results.
        hooks: The hooks of the worker's life.
        sleep: Lets some seconds pass, for a call that waits for its limits.

    >>> import time
    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... async def forecast(city: str) -> dict:
    ...     return {"city": city}
    >>> runner = InlineRunner(app._live_dispatcher(), Hooks(), time.sleep)
    >>> runner.run(make_task("t1", "forecast", {"city": "Paris"}, None)).data
    {'city': 'Paris'}
    """

    def __init__(
        self, dispatcher: Dispatcher, hooks: Hooks, sleep: Callable[[float], object]
    ) -> None:
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, task: Task, raise_errors: bool = False) -> TaskResult:
        """Run a task and return its result; an ``async`` handler gets an event loop.

        Args:
            task: The task; see `make_task`.
            raise_errors: Whether to raise a handler's exception, instead of making it a result.

        Raises:
            RuntimeError: An event loop runs in this thread, and the handler needs one.
            Exception: The handler's exception, with `raise_errors`.
        """
        return drive(self._run(task, self._wait, raise_errors))

    async def run_async(self, task: Task, raise_errors: bool = False) -> TaskResult:
        """Run a task in the running event loop; see `run`."""
        return await self._run(task, None, raise_errors)

    def __enter__(self) -> InlineRunner:
        import asyncio

        self._loop = asyncio.new_event_loop()
        try:
            drive(run_hooks(self._hooks.on_startup, wait=self._wait))
        except BaseException:
            self._close_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            drive(run_hooks(self._hooks.on_shutdown, wait=self._wait))
        finally:
            self._close_loop()

    def _close_loop(self) -> None:
        assert self._loop is not None
        self._loop.close()
        self._loop = None

    async def _run(self, task: Task, wait: Wait | None, raise_errors: bool) -> TaskResult:
        call = self._dispatcher.prepare(task)
        steps = _InlineSteps(self._dispatcher, self._sleep, wait)
        result = await self._dispatcher.run(call, admitter=steps, runner=steps)
        if isinstance(call.error, _LoopRunsError):
            raise call.error
        if not call.ctx.cancelled:
            if raise_errors and call.error and not isinstance(call.error, TaskError):
                raise call.error
            log_failure(self._dispatcher, call)
        # The data as the hub will read them.
        return attrs.evolve(result, data=result.envelope["data"]["response"])

    def _wait(self, awaitable: Awaitable[Any], /) -> Any:
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            run = asyncio.run if self._loop is None else self._loop.run_until_complete
            return run(as_coroutine(awaitable))
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise _LoopRunsError(
            "an event loop runs in this thread already; use `await client.acall(...)` of a test "
            "client, or `await asyncio.to_thread(app.invoke, ...)`"
        )


class _LoopRunsError(RuntimeError):
    """Is raised by `InlineRunner.run`, and not made an error result: the caller is wrong."""


@attrs.frozen
class _InlineSteps:
    """The `Admitter` and `Runner` of a call that runs in this thread."""

    _dispatcher: Dispatcher
    _sleep: Callable[[float], object]
    _wait_for: Wait | None

    async def decide(self, call: Call) -> Decision:
        return self._dispatcher.decide(call)

    async def wait(self, call: Call, refused: Decision) -> Decision:
        clock, decision = self._dispatcher.clock, refused
        started_at = clock.monotonic()
        while not decision.allowed and decision.may_wait(clock.monotonic() - started_at):
            self._sleep(decision.wait_time)
            decision = self._dispatcher.decide(call)
        return decision

    async def settle(self, call: Call) -> None:
        self._dispatcher.settle(call)

    async def run(self, call: Call, timeout: float) -> TaskResult:
        return await self._dispatcher.perform(call, self._wait_for)


def make_task(id: str, action: str, payload: TaskData, account: TaskData) -> Task:
    """Return a task; `payload` and `account` are mappings, to be encoded as JSON, or bytes."""
    account_json = b"" if account is None else encode_task_data(account)
    return Task(id, action, encode_task_data(payload), account_json)


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    """Await any awaitable, for asyncio functions that take only coroutines."""
    return await awaitable


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result.

    >>> async def double(number: int) -> int:
    ...     return 2 * number
    >>> drive(double(21))
    42
    """
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    raise AssertionError(f"{coroutine!r} has suspended, though it should wait by blocking")
