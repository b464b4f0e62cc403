"""The worker: polls, runs, submits, and stops without losing what it has begun."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import attrs

from arbprov._types import Hook
from arbprov._utils import escape_line, quote
from arbprov.backoff import Backoff
from arbprov.dispatcher import HOOKS_GRACE, Call, Dispatcher
from arbprov.errors import HubError, ProviderError, TaskTimeoutError
from arbprov.executors.executor import Executor, ThreadPool
from arbprov.hooks import Hooks
from arbprov.logs import TaskLog, log_failure
from arbprov.outbox.journal import Journal, MemoryJournal
from arbprov.outbox.outbox import Outbox, OutboxEvents
from arbprov.task import Task, TaskResult
from arbprov.wire.hub import Hub, Pause
from arbprov.worker.admission import Admission
from arbprov.worker.connection import HubConnection
from arbprov.worker.hangs import StuckHandlers
from arbprov.worker.polling import PollThrottle
from arbprov.worker.timeouts import Deadlines

__all__ = ["Worker", "WorkerSettings"]

logger = logging.getLogger("arbprov")

# Pauses between polls, in seconds: of a hub that has nothing, and of one in trouble.
_IDLE = (0.025, 1.0)
_TROUBLE = (0.5, 10.0)
# Results that may wait for the hub, however few tasks are in flight.
_MOST_RESULTS = 256
# Of the drain, for what comes after the last task: shutdown hooks, closing.
_CLOSING = 0.5
# What has come of a call: its result, or an error of arbprov's own.
Outcome = TaskResult | BaseException
# What calls end with that are cancelled, or killed, at their deadlines.
_ENDED_BY_US = (asyncio.CancelledError, TaskTimeoutError)


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """What a worker keeps to; times are in seconds.

    Args:
        concurrency: Tasks in flight at once.
        drain_timeout: How long a stop may take.
        start_timeout: How long the hub may stay away at the start.
        longest_timeout: The longest that any handler may run.
    """

    concurrency: int
    drain_timeout: float
    start_timeout: float
    longest_timeout: float


class Worker:
    """Brings tasks from a hub to a dispatcher and the results back.

    It belongs to the event loop that runs when it is made.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        hub: Hub,
        hooks: Hooks,
        settings: WorkerSettings,
        journal: Journal | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._hub = hub
        self._hooks = hooks
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPool(self._loop, "arbprov")
        self._executor = Executor(dispatcher, self._threads)
        self._log = TaskLog(logger)
        self._gate = PollThrottle(settings.concurrency, Backoff(*_IDLE))
        self._outbox = Outbox(
            hub,
            journal or MemoryJournal(),
            dispatcher.provider,
            dispatcher.fail,
            OutboxEvents(
                on_refused=self._refused,
                on_error=self._trouble,
                on_capacity=lambda available: self._gate.block(not available),
                spawn=self._in_background,
            ),
            # Each task in flight may have a result on its way, when the hub is well.
            max_results=max(_MOST_RESULTS, settings.concurrency),
        )
        self._deadlines = Deadlines(self._loop)
        self._hangs = StuckHandlers(settings.concurrency, self._fail)
        self._contact = HubConnection(self._loop.time(), settings.start_timeout)
        self._trouble_pause = Backoff(*_TROUBLE)
        self._stopping: asyncio.Future[None] = self._loop.create_future()
        self._failure: BaseException | None = None
        most_waiting = settings.concurrency // 2
        self._admission = Admission(
            dispatcher, self._threads, most_waiting, self._stopping, self._executor.make_ready
        )
        self._context = contextvars.copy_context()
        self._slots: set[asyncio.Task[None]] = set()
        # Those whose handlers have outlived their deadlines, and the future of what comes of each.
        self._late: dict[asyncio.Task[None], asyncio.Future[Outcome]] = {}
        self._interrupts = False
        self._polling: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Work until `stop`, and then until all that was begun is done and sent.

        Raises:
            HubConnectionError: The hub was not reached within the start's budget.
            AuthenticationError: The hub refuses the token.
            ProviderError: Something could not be finished in the time that a stop may take.
        """
        try:
            await _run_hooks(self._hooks.on_startup)
            await self._outbox.recover()
            await self._serve()
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    @property
    def unready(self) -> str:
        """Why it would run no task now, in a few words; an empty text if it would.

        Whether the hub is there is not looked at.
        """
        return "stopping" if self._stopping.done() else self._hangs.reason

    def stop(self) -> None:
        """Stop polling, finish what is in flight, and let `run` return."""
        self._gate.close()
        if not self._stopping.done():
            self._stopping.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.stop()

    async def _serve(self) -> None:
        for _ in range(self._settings.concurrency):
            self._open_slot()
        if any(route.limits.blocks for route in self._dispatcher.routes.values()):
            self._in_background(self._keep_limits())
        await self._stopping
        await self._drain()

    async def _drain(self) -> None:
        patience = max(0.0, self._settings.drain_timeout - _CLOSING)
        ends = self._loop.time() + patience
        # Hooks and connections take their time too, and the process has to end.
        last = ends + _CLOSING / 2
        self._outbox.start_draining()
        # A poll that the hub holds may bring a task yet, which needs time to run.
        reserve = min(patience / 2, self._settings.longest_timeout + 1.0)
        await self._wait_for_slots(patience - reserve)
        for slot in self._slots & self._polling:
            slot.cancel()
        await self._wait_for_slots(ends - self._loop.time())
        self._interrupts, pending = True, set(self._slots)
        for slot in pending:
            slot.cancel()
        await _wait(pending, _CLOSING)
        await self._outbox.interrupt()
        # A hub that was given up takes nothing, and what is in a spool needs no more tries.
        if self._outbox.lost or not isinstance(self._failure, HubError):
            await self._outbox.flush(last - self._loop.time())
        await self._outbox.close()
        await _wait(set(self._background), last - self._loop.time())
        self._report(pending)

    async def _wait_for_slots(self, timeout: float) -> None:
        # One that is open yet is followed by another, which finds the gate closed.
        gives_up_at = self._loop.time() + timeout
        while self._slots and (left := gives_up_at - self._loop.time()) > 0:
            await asyncio.wait(self._slots, timeout=left)

    def _report(self, unfinished: set[asyncio.Task[None]]) -> None:
        undelivered, lost = self._outbox.undelivered, self._outbox.lost
        if len(undelivered) > len(lost):
            kept = len(undelivered) - len(lost)
            logger.warning("%d results wait in the spool; the next start sends them", kept)
        if lost or unfinished:
            self._fail(
                ProviderError(
                    f"stopped after {self._settings.drain_timeout:g} s with {len(unfinished)} "
                    "tasks unfinished; results that the hub never took: "
                    f"{[*map(escape_line, lost)]}"
                )
            )

    async def _close(self) -> None:
        try:
            await _run_hooks(self._hooks.on_shutdown)
        finally:
            self._executor.close()
            await self._outbox.close()
            await self._hub.close()

    def _watch(self, task: asyncio.Task[Any]) -> None:
        """Let nothing end unnoticed: an error that nobody expected ends the worker."""
        self._background.discard(task)
        self._slots.discard(task)
        self._late.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _keep_limits(self) -> None:
        """Have the limits' stores give signs of life, and come back after an outage."""
        upkeep = self._dispatcher.limiter.upkeep
        while not self._stopping.done() and (pause := await self._threads.run(upkeep)):
            await asyncio.wait([self._stopping], timeout=pause)

    # One slot: one task after the other. A handler on the loop runs in the slot's own asyncio task,
    # which costs less than to wait for another one. So the slot goes on in a new task afterwards:
    # what the handler has set in its context, and whoever cancels its task late, reach nothing.

    def _open_slot(self, ended: tuple[Call, Outcome] | None = None) -> None:
        """Have a slot go on, after it has put the result of a call on its way, if one has ended."""
        self._occupy(self._context.run(self._loop.create_task, self._slot(ended)))

    def _occupy(self, task: asyncio.Task[None]) -> None:
        self._slots.add(task)
        task.add_done_callback(self._watch)

    async def _slot(self, ended: tuple[Call, Outcome] | None) -> None:
        slot = asyncio.current_task()
        assert slot is not None
        if ended is not None:
            await self._end(*ended)
            # Here and below: the next task may be long in coming, and the last one large.
            del ended
        while call := await self._next_call(slot):
            outcome = await self._outcome(call, slot)
            if self._interrupts:
                return  # the outbox tells the hub that nobody knows how it ended
            if slot in self._late or not call.route.blocking:
                self._go_on_elsewhere(call, outcome, slot)
                return
            await self._end(call, outcome)
            del call, outcome

    async def _next_call(self, slot: asyncio.Task[None]) -> Call | None:
        """Return the next call that is to be made; None when there will be none any more."""
        while await self._gate.enter():
            task = await self._poll(slot)
            if task is not None and (call := await self._begin(task)):
                return call
        return None

    def _go_on_elsewhere(self, call: Call, outcome: Outcome, slot: asyncio.Task[None]) -> None:
        late = self._late.pop(slot, None)
        if late is not None:
            late.set_result(outcome)
        self._open_slot((call, outcome) if late is None else None)

    async def _poll(self, slot: asyncio.Task[Any]) -> Task | None:
        self._polling.add(slot)
        began = self._loop.time()
        try:
            answer = await self._hub.fetch()
        except HubError as error:
            # Polls that fail together are one failure: their pause is the first one's.
            pause = 0.0 if self._gate.is_pausing else self._trouble_pause.next()
            self._gate.pause(self._contact.limited(pause, self._loop.time()))
            self._trouble(error)
            return None
        finally:
            self._polling.discard(slot)
        self._reached()
        return self._sort(answer, self._loop.time() - began)

    def _sort(self, answer: Task | Pause | None, held: float) -> Task | None:
        if isinstance(answer, Pause):
            logger.info("the hub asks for no polls for %g s", answer.seconds)
            self._gate.pause(answer.seconds)
            return None
        if answer is not None and self._outbox.note_duplicate(answer.id):
            task = quote(answer.id)
            logger.info("task %s came again while it is here; its result will do", task)
            answer = None
        if answer is None:
            self._gate.nothing(held)
        else:
            self._gate.found()
        return answer

    async def _begin(self, task: Task) -> Call | None:
        """Return the call that a task asks for, unless its result is known before it."""
        if not await self._outbox.begin(task):
            return None
        call = self._dispatcher.prepare(task)
        if isinstance(call, Call) and call.error is None and call.route.limits:
            call = await self._admitted(call)
        if isinstance(call, Call):
            return call
        self._log.ended(call)
        await self._outbox.put(call)
        return None

    async def _admitted(self, call: Call) -> Call | TaskResult:
        admitted = await self._admission.admit(call)
        if isinstance(admitted, TaskResult):
            self._executor.release(call)
        return admitted

    async def _outcome(self, call: Call, slot: asyncio.Task[None]) -> Outcome:
        """Make a call and return what has come of it, however late that is."""
        running: asyncio.Future[Any] = slot
        if call.route.blocking:
            await self._executor.make_ready(call)
            running = self._executor.start(call)
        self._deadlines.start(call.route.timeout, call, self._overdue, call, slot, running)
        try:
            return await (self._executor.perform(call, slot) if running is slot else running)
        except Exception as error:
            return error
        finally:
            self._deadlines.stop(call.route.timeout, call)

    def _overdue(self, call: Call, slot: asyncio.Task[None], running: asyncio.Future[Any]) -> None:
        """Have somebody else tell the hub of a call that has not ended in time."""
        if running.done():
            return  # it has, and its slot is about to hear of it
        # Before it hears of it: it may end at once.
        call.ctx.cancelled = True
        if running is slot:
            slot.cancel()
        self._slots.discard(slot)
        self._late[slot] = self._loop.create_future()
        self._occupy(self._loop.create_task(self._end_late(call, self._late[slot])))

    async def _end(self, call: Call, outcome: Outcome) -> None:
        """Put the result of a call that has ended on its way."""
        if call.ctx.cancelled:
            result = await self._expired(call)
            _log_late(call, outcome)
        else:
            result = self._dispatcher.finish(call, outcome)
            log_failure(self._dispatcher, call)
        await self._put(call, result)

    async def _end_late(self, call: Call, future: asyncio.Future[Any]) -> None:
        """Put the result of a call that does not end in time on its way, and wait for its end."""
        future.add_done_callback(lambda ended: _log_late(call, _ended(ended)))
        await self._put(call, await self._expired(call))
        if not future.done():
            # A handler that outlives its deadline keeps its slot, or they would pile up.
            either: list[asyncio.Future[Any]] = [future, self._stopping]
            with self._hangs.counted(call):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        # What the API has told a handler is true, however late it was told.
        await self._admission.settle(call)

    async def _put(self, call: Call, result: TaskResult) -> None:
        await self._admission.settle(call)
        self._log.ended(result)
        await self._outbox.put(result)

    async def _expired(self, call: Call) -> TaskResult:
        expired = self._dispatcher.expire(call)
        self._executor.abandon(call)
        if isinstance(expired, TaskResult):
            return expired
        hooks = self._executor.start(expired)
        await asyncio.wait([hooks], timeout=HOOKS_GRACE)
        if hooks.done():
            return self._dispatcher.finish(expired, _ended(hooks))
        self._executor.abandon(expired)
        return self._dispatcher.finish(expired, TaskTimeoutError(call.route.timeout))

    # The hub's side.

    def _reached(self) -> None:
        self._trouble_pause.reset()
        if self._contact.reached():
            logger.info("connected to the hub")
            self._in_background(_run_hooks(self._hooks.on_connect))

    def _trouble(self, error: HubError) -> None:
        if self._contact.lost():
            logger.warning("lost the hub, trying again until it is back: %s", error)
            self._in_background(_run_hooks(self._hooks.on_disconnect, error))
        elif self._contact.failed_first():
            logger.warning("the hub is not reached yet, trying on: %s", error)
        verdict = self._contact.verdict(error, self._loop.time())
        if verdict is not None:
            self._fail(verdict)

    def _refused(self, result: TaskResult, error: HubError) -> None:
        self._in_background(_run_hooks(self._hooks.on_submit_failed, result, error))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._watch)
        return task


async def _run_hooks(hooks: Sequence[Hook], *arguments: Any) -> None:
    for hook in hooks:
        value = hook(*arguments)
        if inspect.isawaitable(value):
            await value


async def _wait(tasks: set[asyncio.Task[None]], timeout: float) -> set[asyncio.Task[None]]:
    """Return the tasks that are not done after `timeout` seconds."""
    if not tasks:
        return tasks
    return (await asyncio.wait(tasks, timeout=timeout))[1]


def _ended(future: asyncio.Future[Any]) -> Outcome:
    try:
        return cast("Outcome", future.result())
    except BaseException as error:
        return error


def _log_late(call: Call, outcome: Outcome) -> None:
    if not isinstance(outcome, asyncio.CancelledError) and not isinstance(call.error, _ENDED_BY_US):
        logger.warning(
            "task %s of action %r ended after its timeout of %g s; that result is dropped",
            quote(call.task.id),
            call.task.action,
            call.route.timeout,
        )
