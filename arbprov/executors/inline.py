"""Running tasks in the calling thread: for the test client, `app.invoke` and `arbprov invoke`."""

from __future__ import annotations

import contextvars
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import attrs

from arbprov._types import Clock
from arbprov._utils import quote
from arbprov.context import NOT_ENTERED
from arbprov.dispatcher import Call, Dispatcher, Wait, call_life_hook
from arbprov.errors import TaskError, TaskTimeoutError
from arbprov.executors.contexts import ContextChanges, SharedContext
from arbprov.executors.lifespans import EnteredLifespan
from arbprov.hooks import Hooks
from arbprov.limits import Acquirer, Acquisition, ActionLimits, Decision
from arbprov.logs.current import current_task
from arbprov.logs.task_lines import log_failure
from arbprov.payload.serialize import TaskData, encode_task_data
from arbprov.task import Task, TaskResult

if TYPE_CHECKING:
    import asyncio

    from arbprov.executors.turns import Turns

__all__ = ["InlineRunner", "drive", "make_task"]

logger = logging.getLogger("arbprov")

T = TypeVar("T")
NewLoop = Callable[[], "asyncio.AbstractEventLoop"]
# Seconds until a shared store has to hear of a call in flight.
_HEARTBEAT_INTERVAL = 2.0
# Seconds for what has been cancelled to end.
_END_TIMEOUT = 10.0


class InlineRunner:
    """Runs one task at a time, in the thread that asks for it.

    In a ``with`` statement, it enters the lifespan, runs the startup and shutdown hooks, and its
    tasks share an event loop; ``async with`` does it in the running loop. All handlers run in this
    thread, isolated ones too. At its deadline, an ``async`` handler is cancelled. A plain handler
    runs to its end, and is found to have taken too long then.

    Args:
        dispatcher: Turns tasks into results.
        hooks: The hooks of the worker's life.
        sleep: Lets some seconds pass, for a call that waits for its limits.
        new_loop: Returns an event loop for ``async`` functions; asyncio's own without it.
        worked: Returns seconds that grow while code runs; needed if the dispatcher's clock stands
            still meanwhile.

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
        self,
        dispatcher: Dispatcher,
        hooks: Hooks,
        sleep: Callable[[float], object],
        new_loop: NewLoop | None = None,
        worked: Callable[[], float] | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._sleep = sleep
        self._new_loop = new_loop
        self._worked = worked
        # By event loop.
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()
        # Within a `with` statement, the loop of all tasks, and the startup hooks' variables.
        self._shared_loop: _LazyLoop | None = None
        self._lifespan: EnteredLifespan | None = None
        self._changes = ContextChanges()

    def run(self, task: Task, raise_errors: bool = False) -> TaskResult:
        """Run a task and return its result; an ``async`` handler gets an event loop.

        Args:
            task: The task; see `make_task`.
            raise_errors: Whether to raise a handler's exception, instead of making it a result.

        Raises:
            RuntimeError: An event loop runs in this thread, and the handler needs one.
            Exception: The handler's exception, with `raise_errors`.
        """
        loop = self._shared_loop or _LazyLoop(self._new_loop)
        steps = _BlockingSteps(self._dispatcher, self._sleep, self._worked, self._turns, loop)
        try:
            return self._drive_in_context(self._run(task, steps, raise_errors))
        finally:
            if loop is not self._shared_loop:
                loop.close()

    async def run_async(self, task: Task, raise_errors: bool = False) -> TaskResult:
        """Run a task in the running event loop; see `run`."""
        steps = _AwaitingSteps(
            self._dispatcher, self._sleep, self._worked, self._turns, self._changes
        )
        return await self._run(task, steps, raise_errors)

    def _drive_in_context(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Drive a coroutine in a copy of the context, as the worker does for each task."""
        context = contextvars.copy_context()
        context.run(self._changes.apply)
        return context.run(drive, coroutine)

    def __enter__(self) -> InlineRunner:
        self._shared_loop = _LazyLoop(self._new_loop)
        try:
            started = self._start(self._shared_loop.run)
            self._changes.record(lambda: drive(started))
        except BaseException:
            self._close_shared_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._shared_loop is not None
        try:
            ended = self._end(self._shared_loop.run)
            self._changes.run_again(lambda: drive(ended))
        finally:
            self._close_shared_loop()

    async def __aenter__(self) -> InlineRunner:
        await self._start(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(None)

    async def _start(self, wait: Wait | None) -> None:
        """Enter the lifespan and run the startup hooks, or else end what has started.

        Args:
            wait: Waits for awaitables by blocking; without it, they are awaited.
        """
        try:
            if self._hooks.lifespan is not None:
                lifespan = EnteredLifespan(self._hooks.lifespan)
                self._dispatcher.state = await self._call_lifespan(lifespan.enter, wait)
                self._lifespan = lifespan
            for hook in self._hooks.on_startup:
                await call_life_hook("on_startup hook", hook, wait)
        except BaseException:
            await self._end(wait)
            raise

    async def _end(self, wait: Wait | None) -> None:
        """Run the shutdown hooks, and leave the lifespan if it was entered."""
        try:
            for hook in self._hooks.on_shutdown:
                await call_life_hook("on_shutdown hook", hook, wait)
        finally:
            lifespan, self._lifespan = self._lifespan, None
            if lifespan is not None:
                self._dispatcher.state = NOT_ENTERED
                await self._call_lifespan(lifespan.leave, wait)

    async def _call_lifespan(self, step: Callable[[], Any], wait: Wait | None) -> Any:
        assert self._hooks.lifespan is not None
        return await call_life_hook("lifespan", self._hooks.lifespan.function, wait, step)

    def _close_shared_loop(self) -> None:
        self._changes = ContextChanges()
        loop, self._shared_loop = self._shared_loop, None
        assert loop is not None
        loop.close()

    async def _run(self, task: Task, steps: _Steps, raise_errors: bool) -> TaskResult:
        token = current_task.set(task)
        try:
            return await self._run_current(task, steps, raise_errors)
        finally:
            current_task.reset(token)

    async def _run_current(self, task: Task, steps: _Steps, raise_errors: bool) -> TaskResult:
        call = self._dispatcher.prepare(task)
        # Before the handler runs, which may change the payload.
        ignored = tuple(field.path for field in call.ignored_fields())
        if call.route.limits.may_hold and call.route.limits.blocks:
            result = await self._run_with_upkeep(call, steps)
        else:
            result = await self._dispatcher.run(call, admitter=steps, runner=steps)
        error = call.error
        if type(error) is _LoopRunsError:
            raise error
        if call.expired:
            await self._wait_for_end(call, steps)
            if call.ended is None or call.ended.done():
                await steps.release(call)
            else:
                decision = call.decision
                call.ended.add_done_callback(lambda _: decision.release())
        else:
            if raise_errors and error is not None and not issubclass(type(error), TaskError):
                raise error
            log_failure(self._dispatcher, call)
        # The data as the hub will read them.
        data = result.envelope["data"]["response"]
        return TaskResult(result.task, result.status, result.message, data, result.body, ignored)

    async def _run_with_upkeep(self, call: Call, steps: _Steps) -> TaskResult:
        """Run a call that may hold units of a shared store, which has to know that it is alive."""
        from arbprov.executors.upkeep import StoreUpkeep

        upkeep = StoreUpkeep(self._dispatcher.limiter.upkeep, _log_failed_upkeep)
        upkeep.start(_HEARTBEAT_INTERVAL)
        try:
            return await self._dispatcher.run(call, admitter=steps, runner=steps)
        finally:
            upkeep.close()

    async def _wait_for_end(self, call: Call, steps: _Steps) -> None:
        """Wait for the handler of a call that has been cancelled at its deadline."""
        if call.ended is None:
            return
        if not call.ended.done():
            await steps.wait_for_end(call.ended)
        if not call.ended.done():
            logger.warning(
                "action %r (task %s) was cancelled at its timeout of %g s, and still runs %g s "
                "later; let asyncio.CancelledError through",
                call.task.action,
                quote(call.task.id),
                call.route.timeout,
                _END_TIMEOUT,
            )
        # The handler may have raised RateLimited while it was cancelled.
        self._dispatcher.settle(call)


class _LoopRunsError(RuntimeError):
    """Is raised by `InlineRunner.run`, and not made an error result: the caller is wrong."""


@attrs.define
class _LazyLoop:
    """An event loop that is made when it is needed, for asyncio takes long to import."""

    _new_loop: NewLoop | None
    _loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable to its end, and return its result.

        Raises:
            RuntimeError: An event loop runs in this thread.
        """
        result: T = SharedContext(awaitable).wait(self.get(awaitable).run_until_complete)
        return result

    def get(self, awaitable: Awaitable[Any] | None = None) -> asyncio.AbstractEventLoop:
        """Return the loop.

        Args:
            awaitable: What it is to run; closed, if there is an error.

        Raises:
            RuntimeError: An event loop runs in this thread.
        """
        import asyncio

        if asyncio._get_running_loop() is not None:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            raise _LoopRunsError(
                "an event loop runs in this thread already; use `await client.acall(...)` of a "
                "test client, and `async with` in place of `with`, or "
                "`await asyncio.to_thread(app.invoke, ...)`"
            )
        if self._loop is None:
            self._loop = (self._new_loop or asyncio.new_event_loop)()
        return self._loop

    def close(self) -> None:
        """Cancel the tasks of the loop, if there is one, end its threads, and close it."""
        if self._loop is None:
            return
        try:
            self._loop.run_until_complete(_end_all(self._loop))
        finally:
            self._loop.close()
            self._loop = None


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_END_TIMEOUT)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


@attrs.define
class _Steps:
    """The `Admitter` of a call that runs in this thread, and half of its `Runner`."""

    _dispatcher: Dispatcher
    _sleep: Callable[[float], object]
    _worked: Callable[[], float] | None
    _turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]

    def acquirer(self, call: Call) -> Acquirer:
        return _Acquirer(self._dispatcher.clock, self._sleep, self._turns, self.blocks(call))

    def blocks(self, call: Call) -> bool:
        """Tell whether a call may block the event loop of this thread, if there is one."""
        raise AssertionError

    async def decide(self, call: Call) -> Decision:
        return self._dispatcher.decide(call)

    async def wait(self, call: Call, refused: Decision, waited: float) -> Decision:
        clock, decision = self._dispatcher.clock, refused
        started_at = clock.monotonic() - waited
        while not decision.allowed and decision.may_wait(clock.monotonic() - started_at):
            self._sleep(decision.pause(clock.monotonic() - started_at))
            decision = self._dispatcher.decide(call)
        return decision

    def readmit(self, call: Call) -> None:
        decision = self._dispatcher.decide_again(call)
        if not decision.allowed:
            drive(self._dispatcher.await_turn(call, self, decision))

    async def pause(self, seconds: float) -> bool:
        self._sleep(seconds)
        return True

    async def settle(self, call: Call) -> None:
        self._dispatcher.settle(call)

    async def release(self, call: Call) -> None:
        call.decision.release()

    async def run(self, call: Call, timeout: float) -> TaskResult:
        raise AssertionError

    async def wait_for_end(self, task: asyncio.Future[Any]) -> None:
        raise AssertionError

    def _stopwatch(self, timeout: float) -> Callable[[], bool] | None:
        """Return a function that tells whether code has really run for longer than `timeout`."""
        worked = self._worked
        if worked is None:
            return None
        latest = worked() + timeout
        return lambda: worked() > latest


@attrs.frozen
class _Acquirer:
    """Asks the limits on behalf of a handler; see `arbprov.limits.Acquirer`.

    Args:
        clock: Tells the time.
        sleep: Lets some seconds pass.
        turns: The calls that wait, by event loop.
        may_block: Whether the handler may block the event loop of this thread.
    """

    _clock: Clock
    _sleep: Callable[[float], object]
    _turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]
    _may_block: bool

    def acquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        # Without asyncio there is no loop, and to import it takes long.
        if not self._may_block and "asyncio" in sys.modules:
            from arbprov.executors.turns import refuse_to_block

            refuse_to_block()
        first = decision = acquisition.charge()
        started_at = self._clock.monotonic()
        while not decision.allowed and decision.may_wait(self._clock.monotonic() - started_at):
            self._sleep(decision.wait_time)
            decision = acquisition.charge()
        return first, decision

    async def aacquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        import asyncio

        from arbprov.executors.turns import Turns

        async def charge() -> Decision:
            return acquisition.charge()

        turns = self._turns.setdefault(asyncio.get_running_loop(), Turns())
        ahead = turns.demand_ahead(acquisition.charges())
        decision = acquisition.peek(ahead) if ahead else None
        if decision is None or decision.allowed:
            decision = acquisition.charge()
        if decision.allowed or not decision.may_wait(0.0):
            return decision, decision
        return decision, await turns.wait(decision, 0.0, charge)

    def tell(self, limits: ActionLimits, change: Callable[[], object]) -> None:
        change()


@attrs.define
class _BlockingSteps(_Steps):
    """Of a call that has this thread for itself: where it waits, it blocks."""

    _loop: _LazyLoop

    def blocks(self, call: Call) -> bool:
        return False

    async def run(self, call: Call, timeout: float) -> TaskResult:
        overran = self._stopwatch(timeout)
        if call.route.blocking:

            def wait(awaitable: Awaitable[Any], /) -> Any:
                loop = self._loop.get(awaitable)
                return SharedContext(awaitable).wait(
                    lambda work: _run_until_deadline(loop, call, work, call.ctx.remaining)
                )

            result = await self._dispatcher.perform(call, wait, overran)
        else:
            loop = self._loop.get()
            performing = self._dispatcher.perform(call, None, overran)
            result = _run_until_deadline(loop, call, performing, timeout)
        if call.expired:
            raise TaskTimeoutError(timeout)
        return result

    async def wait_for_end(self, task: asyncio.Future[Any]) -> None:
        import asyncio

        self._loop.run(asyncio.wait([task], timeout=_END_TIMEOUT))


@attrs.define
class _AwaitingSteps(_Steps):
    """Of a call in an event loop that runs already."""

    _changes: ContextChanges

    def blocks(self, call: Call) -> bool:
        # As a plain handler does in any case.
        return call.route.blocking

    async def decide(self, call: Call) -> Decision:
        import asyncio

        if turns := self._turns.get(asyncio.get_running_loop()):
            limiter, limits = self._dispatcher.limiter, call.route.limits
            peeked = limiter.peek(limits, call.seen_by_limits)
            if ahead := turns.demand_ahead(peeked.charges):
                peeked = limiter.peek(limits, call.seen_by_limits, ahead)
                if not peeked.allowed:
                    return peeked
        return self._dispatcher.decide(call)

    async def wait(self, call: Call, refused: Decision, waited: float) -> Decision:
        import asyncio

        from arbprov.executors.turns import Turns

        if not refused.awaits_calls:
            return await _Steps.wait(self, call, refused, waited)
        loop = asyncio.get_running_loop()
        started_at = loop.time() - waited

        async def charge() -> Decision:
            decision = self._dispatcher.decide(call)
            if decision.awaits_calls:
                return decision
            return await _Steps.wait(self, call, decision, loop.time() - started_at)

        # The calls in flight need this loop to end.
        turns = self._turns.setdefault(loop, Turns())
        return await turns.wait(refused, waited, charge)

    async def release(self, call: Call) -> None:
        import asyncio

        held = call.decision.held_charges
        call.decision.release()
        if (turns := self._turns.get(asyncio.get_running_loop())) is not None:
            turns.notify(held)

    async def run(self, call: Call, timeout: float) -> TaskResult:
        import asyncio

        async def perform() -> TaskResult:
            # In the context of the new task, not in the test's.
            self._changes.apply()
            return await self._dispatcher.perform(call, None, self._stopwatch(timeout))

        call.ended = task = asyncio.ensure_future(perform())
        try:
            granted = 0.0
            await asyncio.wait([task], timeout=timeout)
            while not task.done() and call.extra_time > granted:
                more, granted = call.extra_time - granted, call.extra_time
                await asyncio.wait([task], timeout=more)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        if not task.done():
            call.expire()
            task.cancel()
        if call.expired:
            raise TaskTimeoutError(timeout)
        return task.result()

    async def wait_for_end(self, task: asyncio.Future[Any]) -> None:
        import asyncio

        await asyncio.wait([task], timeout=_END_TIMEOUT)


def _log_failed_upkeep(error: BaseException) -> None:
    logger.error("the limits' store could not be told that this process is alive: %s", error)


def _run_until_deadline(
    loop: asyncio.AbstractEventLoop, call: Call, work: Coroutine[Any, Any, T], timeout: float
) -> T:
    """Run some work of a call, and cancel it at the call's deadline.

    Args:
        loop: The event loop to run it in.
        call: Its `ended` is set to the task that does the work.
        work: The work.
        timeout: Seconds until the deadline, unless it has passed before.

    Returns:
        The result.

    Raises:
        TaskTimeoutError: The deadline has passed. The task is cancelled, but may still have to end.
    """
    started_at = loop.time()
    timer: asyncio.TimerHandle | None = None
    call.ended = task = loop.create_task(work)

    def stop(_: object) -> None:
        loop.stop()

    def check_deadline() -> None:
        nonlocal timer
        deadline = started_at + timeout + call.extra_time
        if task.done() or call.expired:
            return
        if loop.time() < deadline:
            timer = loop.call_at(deadline, check_deadline)
            return
        call.expire()
        task.cancel()
        loop.stop()

    task.add_done_callback(stop)
    # After the task's first step, with which most tasks end: a timer would take longer.
    loop.call_soon(check_deadline)
    try:
        loop.run_forever()
    except BaseException:
        if task.done() and not task.cancelled():
            task.exception()  # it is on its way already
        raise
    finally:
        task.remove_done_callback(stop)
        if timer is not None:
            timer.cancel()
    if task.done():
        return task.result()
    if call.expired:
        raise TaskTimeoutError(timeout)
    raise RuntimeError(f"action {call.task.action!r} has stopped the event loop")


def make_task(id: str, action: str, payload: TaskData, account: TaskData) -> Task:
    """Return a task; `payload` and `account` are mappings, to be encoded as JSON, or bytes."""
    account_json = b"" if account is None else encode_task_data(account)
    return Task(id, action, encode_task_data(payload), account_json)


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
