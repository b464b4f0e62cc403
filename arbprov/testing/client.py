"""Testing a provider without a hub, a network or waiting.

>>> from arbprov import ProviderApp
>>> app = ProviderApp("weather")
>>> @app.action
... @app.rate_limit("1/hour")
... def forecast(city: str) -> dict:
...     return {"city": city}
>>> client = app.test_client()
>>> client.call("forecast", {"city": "Paris"}).data
{'city': 'Paris'}
>>> client.call("forecast", {"city": "Paris"}).status
<Status.LIMIT: 'limit'>
>>> client.clock.advance(3601)
>>> client.call("forecast", {}).problems
[{'path': 'city', 'message': 'required field is missing'}]
"""

from __future__ import annotations

import inspect
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._types import Clock, Hook
from arbprov.clock import SystemClock
from arbprov.dispatcher import Call, Dispatcher, Resolve
from arbprov.errors import TaskError
from arbprov.hooks import Hooks
from arbprov.logs import log_failure
from arbprov.payload.json import Data, encode
from arbprov.task import Task, TaskResult

if TYPE_CHECKING:
    import asyncio

__all__ = ["RunningClock", "TestClient", "VirtualClock"]


class VirtualClock:
    """A clock that stands still until somebody advances it.

    Args:
        start: The wall clock's time at the beginning, aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)) -> None:
        self._start = start.astimezone(timezone.utc)
        self._elapsed = 0.0

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            ValueError: They are negative, or without end.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time only ever grows, so it can't advance by {seconds!r} s")
        self._elapsed += seconds

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._elapsed

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return self._start + timedelta(seconds=self._elapsed)


class RunningClock(VirtualClock):
    """The machine's time, where a test would have one that stands still."""

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, by waiting for them."""
        time.sleep(seconds)

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""
        return SystemClock().monotonic()

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return SystemClock().now()


class _LoopRunsError(RuntimeError):
    """The test itself is wrong, and no result must hide that."""


class TestClient:
    """Runs the actions of an app, as `ProviderApp.test_client` returns it.

    It is the real dispatcher, with JSON both ways. Used with ``with``, it runs the startup and
    shutdown hooks, and all its calls share one event loop.

    Attributes:
        clock: The time that limits, timeouts and envelopes see; a call that waits for a limit
            advances it.
        limits: What is left of the limits, and what they have decided.
        raise_errors: Whether a handler's exception comes through, rather than its error result.
    """

    __test__ = False

    def __init__(
        self, make_dispatcher: Callable[[Clock], Dispatcher], hooks: Hooks, clock: VirtualClock
    ) -> None:
        self.clock = clock
        self.raise_errors = False
        self._dispatcher = make_dispatcher(self.clock)
        self.limits = self._dispatcher.limit_stats()
        self._hooks = hooks
        self._ids = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(
        self, action: str, payload: Data = None, *, account: Data = None, id: str | None = None
    ) -> TaskResult:
        """Run an action, ``async`` or not, and return its result.

        Args:
            action: Its name.
            payload: A mapping that becomes JSON, or the bytes of a task as they are.
            account: The same.
            id: The task's id; numbered, if not given.

        Raises:
            RuntimeError: An event loop runs here; use `acall`.
            Exception: The handler's, with `raise_errors`.
        """
        # Nothing suspends: `_wait` sees to all that has to be awaited.
        result: TaskResult = _finished(
            self._run(self._task(action, payload, account, id), self._wait)
        )
        return result

    async def acall(
        self, action: str, payload: Data = None, *, account: Data = None, id: str | None = None
    ) -> TaskResult:
        """Run an action in the running event loop; see `call`."""
        return await self._run(self._task(action, payload, account, id), _await)

    def __enter__(self) -> TestClient:
        import asyncio

        self._loop = asyncio.new_event_loop()
        try:
            self._run_hooks(self._hooks.on_startup)
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
            self._run_hooks(self._hooks.on_shutdown)
        finally:
            self._close_loop()

    def _close_loop(self) -> None:
        assert self._loop is not None
        self._loop.close()
        self._loop = None

    def _run_hooks(self, hooks: list[Hook]) -> None:
        for hook in hooks:
            value = hook()
            if inspect.isawaitable(value):
                _finished(self._wait(value))

    def _task(self, action: str, payload: Data, account: Data, id: str | None) -> Task:
        number = f"test-{next(self._ids)}" if id is None else id
        return Task(number, action, encode(payload), b"" if account is None else encode(account))

    async def _run(self, task: Task, resolve: Resolve) -> TaskResult:
        call = self._dispatcher.prepare(task)
        if isinstance(call, Call) and call.error is None and call.route.limits:
            call = self._admitted(call)
        if isinstance(call, Call):
            call = await self._called(call, resolve)
        return attrs.evolve(call, data=call.envelope["data"]["response"])

    def _admitted(self, call: Call) -> Call | TaskResult:
        try:
            self._wait_for_limits(call)
        except Exception as error:
            return self._dispatcher.refuse(call, error)
        return call

    def _wait_for_limits(self, call: Call) -> None:
        """Have the limits admit a call; time that it would wait passes at once."""
        began = self.clock.monotonic()
        first = decision = self._dispatcher.decide(call)
        while not decision.allowed and decision.may_wait(self.clock.monotonic() - began):
            self.clock.advance(decision.wait_time)
            decision = self._dispatcher.decide(call)
        self._dispatcher.limiter.note(decision, None if decision is first else first)
        if not decision.allowed:
            raise decision.refusal()

    async def _called(self, call: Call, resolve: Resolve) -> TaskResult:
        result = await self._dispatcher.perform(call, resolve)
        if call.unsettled:
            self._dispatcher.settle(call)
        if isinstance(call.error, _LoopRunsError):
            raise call.error
        if call.ctx.cancelled:
            return await self._expired(call, resolve)
        if self.raise_errors and call.error and not isinstance(call.error, TaskError):
            raise call.error
        log_failure(self._dispatcher, call)
        return self._dispatcher.finish(call, result)

    async def _expired(self, call: Call, resolve: Resolve) -> TaskResult:
        expired = self._dispatcher.expire(call)
        if isinstance(expired, TaskResult):
            return expired
        result = await self._dispatcher.perform(expired, resolve)
        return self._dispatcher.finish(expired, result)

    async def _wait(self, awaitable: Awaitable[Any], /) -> Any:
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            run = asyncio.run if self._loop is None else self._loop.run_until_complete
            return run(_await(awaitable))
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise _LoopRunsError("an event loop runs here already; use `await client.acall(...)`")


async def _await(awaitable: Awaitable[Any], /) -> Any:
    return await awaitable


def _finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("a call of the test client has suspended")
