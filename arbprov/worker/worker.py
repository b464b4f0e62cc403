"""A worker's life: it starts, polls, runs and submits, and stops without losing a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import attrs

from arbprov._utils import escape_line
from arbprov.backoff import Backoff
from arbprov.dispatcher import Dispatcher, run_hooks
from arbprov.errors import HubError, ProviderError
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.hooks import Hooks
from arbprov.outbox.journal import Journal, MemoryJournal
from arbprov.outbox.outbox import Outbox, OutboxEvents
from arbprov.task import TaskResult
from arbprov.wire.hub import Hub
from arbprov.worker.admission import Admission
from arbprov.worker.connection import HubConnection
from arbprov.worker.polling import PollThrottle
from arbprov.worker.slots import Slots
from arbprov.worker.stuck import StuckHandlers

__all__ = ["Worker", "WorkerSettings"]

logger = logging.getLogger("arbprov")

# Pauses between polls of a hub that has no task, in seconds.
_IDLE = (0.025, 1.0)
# Results that may wait for the hub, however few tasks are in flight.
_MAX_RESULTS = 256
# Seconds of `drain_timeout` reserved for shutdown hooks and closing.
_CLOSING = 0.5


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """What a worker keeps to; times are in seconds.

    Args:
        concurrency: Tasks in flight at once.
        drain_timeout: How long a stop may take.
        start_timeout: How long the hub may stay away at the start.
        max_task_timeout: The longest that any handler may run.
    """

    concurrency: int
    drain_timeout: float
    start_timeout: float
    max_task_timeout: float


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
        self._throttle = PollThrottle(settings.concurrency, Backoff(*_IDLE))
        self._stopping: asyncio.Future[None] = self._loop.create_future()
        self._stuck = StuckHandlers(settings.concurrency, self._stopping, self._fail)
        self._failure: BaseException | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._connection = HubConnection(
            start_timeout=settings.start_timeout,
            on_connect=lambda: self._in_background(run_hooks(hooks.on_connect)),
            on_disconnect=lambda error: self._in_background(run_hooks(hooks.on_disconnect, error)),
            give_up=self._fail,
        )
        self._outbox = self._make_outbox(journal or MemoryJournal())
        self._slots = self._make_slots()

    def _make_outbox(self, journal: Journal) -> Outbox:
        def on_refused(result: TaskResult, error: HubError) -> None:
            self._in_background(run_hooks(self._hooks.on_submit_failed, result, error))

        return Outbox(
            self._hub,
            journal,
            self._dispatcher.provider,
            self._dispatcher.fail,
            OutboxEvents(
                on_refused=on_refused,
                on_error=self._connection.mark_down,
                on_capacity=lambda available: self._throttle.set_blocked(not available),
                spawn=self._in_background,
            ),
            # Each task in flight may have a result on its way, when the hub is well.
            max_results=max(_MAX_RESULTS, self._settings.concurrency),
        )

    def _make_slots(self) -> Slots:
        max_waiting = self._settings.concurrency // 2
        return Slots(
            dispatcher=self._dispatcher,
            admission=Admission(
                self._dispatcher, self._threads, self._executor, max_waiting, self._stopping
            ),
            executor=self._executor,
            stuck=self._stuck,
            hub=self._hub,
            connection=self._connection,
            throttle=self._throttle,
            outbox=self._outbox,
            on_error=self._fail,
        )

    async def run(self) -> None:
        """Work until `stop`, and then until all that was begun is done and sent.

        Raises:
            HubConnectionError: The hub was not reached within the start's budget.
            AuthenticationError: The hub refuses the token.
            ProviderError: Something could not be finished in the time that a stop may take.
        """
        try:
            await run_hooks(self._hooks.on_startup)
            await self._outbox.recover()
            self._slots.open(self._settings.concurrency)
            if any(route.limits.blocks for route in self._dispatcher.routes.values()):
                self._in_background(self._keep_limits())
            await self._stopping
            await self._drain()
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    @property
    def unready(self) -> str:
        """Why it would run no task now, in a few words; an empty text if it would.

        Whether the hub is there is not looked at.
        """
        return "stopping" if self._stopping.done() else self._stuck.unhealthy_reason

    def stop(self) -> None:
        """Stop polling, finish what is in flight, and let `run` return."""
        self._throttle.close()
        if not self._stopping.done():
            self._stopping.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.stop()

    async def _drain(self) -> None:
        patience = max(0.0, self._settings.drain_timeout - _CLOSING)
        ends = self._loop.time() + patience
        # Hooks and connections take their time too, and the process has to end.
        last = ends + _CLOSING / 2
        self._outbox.start_draining()
        # A poll that the hub holds may bring a task yet, which needs time to run.
        reserve = min(patience / 2, self._settings.max_task_timeout + 1.0)
        await self._slots.wait(patience - reserve)
        self._slots.cancel_polls()
        await self._slots.wait(ends - self._loop.time())
        unfinished = await self._slots.interrupt(_CLOSING)
        await self._outbox.interrupt()
        # A hub that was given up takes nothing, and what is in a spool needs no more tries.
        if self._outbox.lost or not isinstance(self._failure, HubError):
            await self._outbox.flush(last - self._loop.time())
        await self._outbox.close()
        if self._background:
            await asyncio.wait(self._background, timeout=last - self._loop.time())
        self._report(unfinished)

    def _report(self, unfinished: int) -> None:
        undelivered, lost = self._outbox.undelivered, self._outbox.lost
        if len(undelivered) > len(lost):
            kept = len(undelivered) - len(lost)
            logger.warning("%d results wait in the spool; the next start sends them", kept)
        if lost or unfinished:
            self._fail(
                ProviderError(
                    f"stopped after {self._settings.drain_timeout:g} s with {unfinished} "
                    "tasks unfinished; results that the hub never took: "
                    f"{[*map(escape_line, lost)]}"
                )
            )

    async def _close(self) -> None:
        try:
            await run_hooks(self._hooks.on_shutdown)
        finally:
            self._executor.close()
            await self._outbox.close()
            await self._hub.close()

    async def _keep_limits(self) -> None:
        """Have the limits' stores give signs of life, and come back after an outage."""
        upkeep = self._dispatcher.limiter.upkeep
        while not self._stopping.done() and (pause := await self._threads.run(upkeep)):
            await asyncio.wait([self._stopping], timeout=pause)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        """Let no error in the background go unnoticed: it ends the worker."""
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
