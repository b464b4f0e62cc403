"""The slots of a worker: each fetches a task, has it run, and hands its result to the outbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import attrs

from arbprov._utils import quote
from arbprov.dispatcher import Dispatcher
from arbprov.errors import HubError
from arbprov.executors.executor import Executor
from arbprov.logs import TaskLog, log_failure
from arbprov.outbox.outbox import Outbox
from arbprov.task import Task
from arbprov.wire.hub import Hub, Pause
from arbprov.worker.admission import Admission
from arbprov.worker.connection import HubConnection
from arbprov.worker.polling import PollThrottle
from arbprov.worker.stuck import StuckHandlers

__all__ = ["Slots"]

logger = logging.getLogger("arbprov")


@attrs.define(eq=False, kw_only=True)
class Slots:
    """Runs as many tasks at once as there are slots.

    It belongs to the event loop that runs when it is made.

    Args:
        dispatcher: Takes the tasks to their actions.
        admission: Asks the limits of their calls.
        executor: Runs their calls.
        stuck: Waits for handlers that outlive their deadlines.
        hub: Where the tasks come from.
        connection: Is told whether the hub answers.
        throttle: Says when to poll the hub.
        outbox: Where the results go.
        on_error: Called with an error that nobody expected.
    """

    _dispatcher: Dispatcher
    _admission: Admission
    _executor: Executor
    _stuck: StuckHandlers
    _hub: Hub
    _connection: HubConnection
    _throttle: PollThrottle
    _outbox: Outbox
    _on_error: Callable[[BaseException], object]
    _log: TaskLog = attrs.field(factory=lambda: TaskLog(logger), init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop, init=False)
    _slots: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _polling: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    def open(self, count: int) -> None:
        """Begin to work, with `count` slots."""
        for _ in range(count):
            slot = self._loop.create_task(self._work())
            self._slots.add(slot)
            slot.add_done_callback(self._on_done)

    async def wait(self, timeout: float) -> None:
        """Wait until the slots have nothing to do any more, but no longer than some seconds."""
        if self._slots:
            await asyncio.wait(self._slots, timeout=timeout)

    def cancel_polls(self) -> None:
        """Give up the polls that the hub still holds."""
        for slot in self._polling:
            slot.cancel()

    async def interrupt(self, timeout: float) -> int:
        """Cancel the calls that still run, and wait some seconds for their ends.

        Returns:
            How many there were; nobody will know how they ended.
        """
        unfinished = set(self._slots)
        for slot in unfinished:
            slot.cancel()
        await self.wait(timeout)
        return len(unfinished)

    def _on_done(self, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        if not slot.cancelled() and (error := slot.exception()) is not None:
            self._on_error(error)

    async def _work(self) -> None:
        slot = asyncio.current_task()
        assert slot is not None
        while await self._throttle.acquire():
            task = await self._poll(slot)
            if task is not None and await self._outbox.begin(task):
                await self._run(task)
            # The next task may not arrive for a long time, and this one may be large.
            del task

    async def _poll(self, slot: asyncio.Task[None]) -> Task | None:
        self._polling.add(slot)
        started_at = self._loop.time()
        try:
            answer = await self._hub.fetch()
        except HubError as error:
            # Polls that fail together are one failure: their pause is the first one's.
            pause = 0.0 if self._throttle.is_pausing else self._connection.next_pause()
            self._throttle.pause(pause)
            self._connection.mark_down(error)
            return None
        finally:
            self._polling.discard(slot)
        if not self._connection.is_up:
            self._connection.mark_up()
        return self._handle_answer(answer, self._loop.time() - started_at)

    def _handle_answer(self, answer: Task | Pause | None, held: float) -> Task | None:
        """Return the task that the hub has answered with, unless it is in flight already.

        Args:
            answer: The hub's answer.
            held: Seconds until it came.
        """
        if isinstance(answer, Pause):
            logger.info("the hub asks for no polls for %g s", answer.seconds)
            self._throttle.pause(answer.seconds)
            return None
        if answer is not None and self._outbox.note_duplicate(answer.id):
            task = quote(answer.id)
            logger.info("task %s was redelivered while it is in flight; it runs only once", task)
            answer = None
        if answer is None:
            self._throttle.poll_empty(held)
        else:
            self._throttle.task_received()
        return answer

    async def _run(self, task: Task) -> None:
        """Run a task and put its result on its way to the hub."""
        call = self._dispatcher.prepare(task)
        result = await self._dispatcher.run(call, self._admission, self._executor)
        if call.error is not None and not call.ctx.cancelled:
            log_failure(self._dispatcher, call)
        self._log.ended(result)
        await self._outbox.put(result)
        if call.ctx.cancelled:
            await self._stuck.wait_for(call)
            # The handler may have raised RateLimited after its deadline, which is as true then.
            await self._admission.settle(call)
