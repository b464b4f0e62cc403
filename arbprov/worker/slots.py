"""The slots of a worker: each fetches a task, runs it, and gives its result to the outbox."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

from arbprov._utils import quote
from arbprov.dispatcher import Call, Dispatcher
from arbprov.errors import HubError
from arbprov.executors.executor import Executor
from arbprov.instrumentation.observer import Observers
from arbprov.logs.current import current_task
from arbprov.logs.task_lines import TaskLog, log_failure
from arbprov.outbox.outbox import Outbox
from arbprov.task import Task
from arbprov.wire.hub import Hub, Pause
from arbprov.worker.admission import Admission
from arbprov.worker.background import Background
from arbprov.worker.connection import HubConnection
from arbprov.worker.leases import Leases
from arbprov.worker.polling import PollThrottle
from arbprov.worker.reports import Reporter
from arbprov.worker.stuck import StuckHandlers

__all__ = ["Slots", "run_on_thread"]

logger = logging.getLogger("arbprov")

# The longest pause that a hub can ask for, in seconds.
_MAX_PAUSE = 3600.0


# Bytes of a payload and an account; larger ones are validated on a thread, since other tasks and a
# stop would wait for it.
_MAX_ON_LOOP = 64 * 1024


async def run_on_thread(function: Callable[[], Call]) -> Call:
    """Call a function on a thread of its own, for which the end of the process does not wait."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Call] = loop.create_future()

    def finish(end: Callable[[Any], None], outcome: Any) -> None:
        if not done.cancelled():
            end(outcome)

    def run() -> None:
        end: Callable[[Any], None]
        outcome: Any
        try:
            end, outcome = done.set_result, function()
        except BaseException as error:
            end, outcome = done.set_exception, error
        # The loop is closed if the worker has given up the task.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, end, outcome)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=[run], name="arbprov-payload", daemon=True).start()
    return await done


@attrs.define(eq=False, kw_only=True)
class Slots:
    """Runs one task at a time in each slot.

    It belongs to the event loop that runs when it is made.

    Args:
        tasks: Runs the slots.
        hub: Provides the tasks.
        connection: Notes whether the hub answers.
        throttle: Says when a slot may poll the hub.
        dispatcher: Turns tasks into results.
        admission: Asks the limits of calls.
        executor: Runs the handlers of calls.
        stuck: Waits for handlers that outlive their deadlines.
        outbox: Sends the results.
        leases: Renews the leases of the tasks.
        reporter: Reports to the hub.
        observers: Are told of each task; None if there are none.
    """

    tasks: Background
    _hub: Hub
    _connection: HubConnection
    _throttle: PollThrottle
    _dispatcher: Dispatcher
    _admission: Admission
    _executor: Executor
    _stuck: StuckHandlers
    _outbox: Outbox
    _leases: Leases
    _reporter: Reporter
    _observers: Observers | None = None
    _log: TaskLog = attrs.field(factory=lambda: TaskLog(logger), init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop, init=False)
    # The slots whose polls the hub holds.
    _polling: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    def open(self, count: int) -> None:
        """Start `count` slots."""
        for _ in range(count):
            self.tasks.spawn(self._work())

    @property
    def are_polling(self) -> bool:
        """Whether the hub holds polls."""
        return bool(self._polling)

    def cancel_polls(self) -> None:
        """Cancel the polls that the hub still holds, and their slots with them."""
        for slot in self._polling:
            slot.cancel()

    async def interrupt(self, timeout: float) -> int:
        """Cancel the slots that still run a task, and wait at most `timeout` seconds for them.

        Returns:
            The number of their tasks; their results are unknown.
        """
        unfinished = {slot for slot in self.tasks.tasks - self._polling if not slot.done()}
        for slot in unfinished:
            slot.cancel()
        await self.tasks.wait(timeout)
        return len(unfinished)

    async def _work(self) -> None:
        slot = asyncio.current_task()
        assert slot is not None
        while await self._throttle.acquire():
            task = await self._poll(slot)
            if task is not None and await self._outbox.begin(task):
                await self._run(task)
            # Drop the reference now: the next task may not arrive for a long time.
            del task

    async def _poll(self, slot: asyncio.Task[None]) -> Task | None:
        """Return the task that the hub has for this slot, if any."""
        self._polling.add(slot)
        started_at = self._loop.time()
        try:
            answer = await self._hub.fetch()
        except HubError as error:
            # Polls that fail at the same time count as a single failure, with a single pause.
            pause = 0.0 if self._throttle.is_pausing else self._connection.next_pause()
            self._throttle.pause(pause)
            self._connection.mark_down(error)
            return None
        finally:
            self._polling.discard(slot)
        self._connection.answered_at = now = self._loop.time()
        if not self._connection.is_up:
            self._connection.mark_up()
        if self._hub.renew_interval:
            self._leases.start()
        if self._hub.report_interval:
            self._reporter.start()
        return self._handle_answer(answer, now - started_at)

    def _handle_answer(self, answer: Task | Pause | None, held: float) -> Task | None:
        """Tell the throttle how a poll has ended, and return the task if it is new.

        Args:
            answer: The hub's answer.
            held: Seconds until it arrived.
        """
        if isinstance(answer, Pause):
            seconds = min(answer.seconds, _MAX_PAUSE)
            if answer.seconds > seconds:
                text = "the hub asks for no polls for %g s; it is polled again after %g s"
                logger.warning(text, answer.seconds, seconds)
            else:
                logger.info("the hub asks for no polls for %g s", seconds)
            self._throttle.pause(seconds)
            return None
        if answer is not None and self._outbox.note_duplicate(answer.key):
            task = quote(answer.id)
            logger.info("task %s was redelivered while it is in flight; it runs only once", task)
            answer = None
        if answer is None:
            self._throttle.poll_empty(held)
        else:
            self._throttle.task_received()
        return answer

    async def _run(self, task: Task) -> None:
        """Run a task, and give its result to the outbox."""
        current_task.set(task)
        if self._observers is not None:
            # Not the loop's time: uvloop's is of whole milliseconds.
            started_at = time.perf_counter()
            self._observers.task_started(task)
        if len(task.payload) + len(task.account) <= _MAX_ON_LOOP:
            call = self._dispatcher.prepare(task)
        else:
            call = await run_on_thread(lambda: self._dispatcher.prepare(task))
        self._leases.calls.add(call)
        try:
            result = await self._dispatcher.run(call, self._admission, self._executor)
        finally:
            self._leases.calls.discard(call)
        if call.error is not None and not call.expired:
            log_failure(self._dispatcher, call)
        self._log.log_result(result)
        if self._observers is not None:
            seconds = time.perf_counter() - started_at
            self._observers.task_ended(result, seconds, call.error)
        await self._outbox.put(result)
        if call.expired:
            await self._stuck.wait_for(call)
            # The handler may have raised RateLimited after its deadline; the limits need it still.
            await self._admission.settle(call)
            if call.decision.held and call.ended.done():
                await self._admission.release(call)
        # What this slot logs from now on, such as failed polls, belongs to no task.
        current_task.set(None)
