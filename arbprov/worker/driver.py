"""How the worker has calls run: on the loop or on threads, and no longer than their timeouts."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from arbprov._utils import quote
from arbprov.dispatcher import Call
from arbprov.errors import TaskTimeoutError
from arbprov.executors.executor import Executor
from arbprov.limits import Decision
from arbprov.task import TaskResult
from arbprov.worker.admission import Admission
from arbprov.worker.timeouts import Deadlines, StuckHandlers

__all__ = ["LoopDriver"]

logger = logging.getLogger("arbprov")

# Errors of calls that were cancelled, or whose process was killed, at their deadlines.
_ENDED_AT_DEADLINE = (asyncio.CancelledError, TaskTimeoutError)


class LoopDriver:
    """Drives the calls of a worker; see `arbprov.dispatcher.Driver`.

    It belongs to the event loop that runs when it is made.

    Args:
        executor: Runs the calls.
        admission: Asks the limits.
        stuck: Is told of handlers that run on after their deadlines.
        stopping: Is done when the worker stops, and waits for such handlers no longer.
    """

    def __init__(
        self,
        executor: Executor,
        admission: Admission,
        stuck: StuckHandlers,
        stopping: asyncio.Future[None],
    ) -> None:
        self._executor = executor
        self._admission = admission
        self._stuck = stuck
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)

    async def decide(self, call: Call) -> Decision:
        """Ask the limits of a call; see `Admission.decide`."""
        try:
            return await self._admission.decide(call)
        except BaseException:
            self._executor.release(call)
            raise

    async def wait(self, call: Call, refused: Decision) -> Decision:
        """Wait for the limits of a call; see `Admission.wait`."""
        decision = refused
        try:
            decision = await self._admission.wait(call, refused)
        finally:
            if not decision.allowed:
                self._executor.release(call)
        return decision

    async def settle(self, call: Call) -> None:
        """Tell the limits how a call has ended."""
        await self._admission.settle(call)

    async def run(self, call: Call, timeout: float) -> TaskResult:
        """Run a call until it ends or its time is up; see `Driver.run`."""
        if call.route.blocking:
            await self._executor.make_ready(call)
        outcome: asyncio.Future[TaskResult] = self._loop.create_future()
        call.ended = self._executor.start(call, outcome)
        self._deadlines.start(timeout, call, self._on_timeout, call, outcome)
        try:
            return await outcome
        except asyncio.CancelledError:
            # The worker stops; a handler on the loop may clean up first.
            self._executor.abandon(call)
            if not call.route.blocking:
                await asyncio.wait([call.ended])
            raise
        finally:
            self._deadlines.stop(timeout, call)

    def _on_timeout(self, call: Call, outcome: asyncio.Future[TaskResult]) -> None:
        if outcome.done():
            return  # it has ended in time, and its slot is about to hear of it
        # First: it may end at once.
        call.ctx.cancelled = True
        self._executor.abandon(call)
        outcome.set_exception(TaskTimeoutError(call.route.timeout))

    async def wait_until_ended(self, call: Call) -> None:
        """Wait until a call whose time was up has really ended, or the worker stops."""
        call.ended.add_done_callback(lambda ended: _log_late(call, ended))
        if not call.ended.done():
            # A handler that outlives its deadline keeps its slot, or they would pile up.
            either: list[asyncio.Future[Any]] = [call.ended, self._stopping]
            with self._stuck.track(call):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        # What the API has told a handler is true, however late it was told.
        await self._admission.settle(call)


def _log_late(call: Call, ended: asyncio.Future[Any]) -> None:
    if ended.cancelled() or isinstance(call.error, _ENDED_AT_DEADLINE):
        return
    logger.warning(
        "task %s of action %r ended after its timeout of %g s; its result is dropped",
        quote(call.task.id),
        call.task.action,
        call.route.timeout,
    )
