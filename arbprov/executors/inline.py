"""Running calls in the calling thread: for the test client, `app.invoke` and its command."""

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
    """Runs one call after the other, each in the thread and at the time of whoever asks for it.

    Used with ``with``, it runs the startup and shutdown hooks, and all its calls share one event
    loop.

    Args:
        dispatcher: Prepares the calls.
        hooks: The hooks around the worker's life.
        sleep: Lets seconds pass, for a call that waits for its limits.
    """

    def __init__(
        self, dispatcher: Dispatcher, hooks: Hooks, sleep: Callable[[float], object]
    ) -> None:
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, task: Task, raise_errors: bool = False) -> TaskResult:
        """Run a task, whether its handler is ``async`` or not, and return its result.

        Args:
            task: The task; see `make_task`.
            raise_errors: Whether a handler's exception comes through, not its error result.

        Raises:
            RuntimeError: An event loop runs here, and the handler needs one.
            Exception: The handler's, with `raise_errors`.
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
        # As the hub will read it.
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
        raise _LoopRunsError("an event loop runs here already; use `await client.acall(...)`")


class _LoopRunsError(RuntimeError):
    """The test itself is wrong, and no result must hide that."""


@attrs.frozen
class _InlineSteps:
    """The `Admitter` and the `Runner` of calls that run here; a timeout shows when a call ends."""

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
    """Return a task; a payload and an account that are mappings become JSON."""
    return Task(
        id, action, encode_task_data(payload), b"" if account is None else encode_task_data(account)
    )


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    """Await `awaitable`, where only a coroutine will do."""
    return await awaitable


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    raise AssertionError("a coroutine that blocks where it waits has suspended")
