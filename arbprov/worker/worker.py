"""A worker's life: it starts, works in its slots, and drains without losing a task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import attrs

from arbprov._types import Hook
from arbprov._utils import describe_handler, escape_line, format_count
from arbprov.backoff import Backoff
from arbprov.dispatcher import Dispatcher, call_and_wait
from arbprov.errors import HubError, ProviderError
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.executors.upkeep import StoreUpkeep
from arbprov.hooks import Hooks
from arbprov.instrumentation.observer import ObservedHub, Observers
from arbprov.instrumentation.status import WorkerStatus
from arbprov.outbox.journal import Journal, MemoryJournal
from arbprov.outbox.outbox import Outbox, OutboxEvents
from arbprov.wire.hub import Hub
from arbprov.worker.admission import Admission
from arbprov.worker.background import Background
from arbprov.worker.connection import HubConnection
from arbprov.worker.leases import Leases
from arbprov.worker.life_hooks import LifeHooks
from arbprov.worker.polling import PollThrottle
from arbprov.worker.reports import Reporter
from arbprov.worker.slots import Slots
from arbprov.worker.stuck import StuckHandlers

__all__ = ["Worker", "WorkerSettings"]

logger = logging.getLogger("arbprov")

# The first and the longest pause between polls of a hub that has no task, in seconds.
_IDLE_PAUSE = (0.025, 1.0)
# Results that may wait for the hub, however few tasks are in flight.
_MAX_RESULTS = 256
# Seconds of `drain_timeout` reserved for shutdown hooks and closing.
_CLOSING = 0.5
# Seconds after which a stop checks again whether the hub can answer its polls.
_CONNECTION_CHECK = 0.25
# Seconds in which the hub accepts no result, until a stop leaves the results to the spool.
_SPOOLED_PATIENCE = 2.0


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """A worker's settings; times are in seconds.

    Args:
        concurrency: The number of slots: tasks in flight at once.
        drain_timeout: How long a stop may take.
        start_timeout: How long the hub may be unreachable at the start.
        max_task_timeout: The longest timeout of any action.
    """

    concurrency: int
    drain_timeout: float
    start_timeout: float
    max_task_timeout: float


class Worker:
    """Runs a provider's tasks from its start until it has drained.

    It belongs to the event loop that runs when it is made.

    Args:
        dispatcher: Turns tasks into results.
        hub: Provides the tasks and takes the results.
        hooks: The hooks around the worker's life.
        settings: Its settings.
        journal: Remembers tasks and results; without it, they are remembered in memory.
        observers: Are told of polls, tasks and submissions; None if there are none.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        hub: Hub,
        hooks: Hooks,
        settings: WorkerSettings,
        journal: Journal | None = None,
        observers: Observers | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._hub = hub = hub if observers is None else ObservedHub(hub, observers)
        self._hooks = hooks
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._failure: BaseException | None = None
        self._has_started = False
        self._stopping: asyncio.Future[None] = self._loop.create_future()
        self._stop_ends_at: float | None = None
        self._life_hooks = LifeHooks(self._stopping, max(0.0, settings.drain_timeout - _CLOSING))
        self._background = Background(self._fail)
        self._threads = ThreadPool(self._loop, "arbprov")
        self._executor = Executor(dispatcher, self._threads)
        self._upkeep = StoreUpkeep(dispatcher.limiter.upkeep, self._fail_from_thread)
        self._throttle = PollThrottle(settings.concurrency, Backoff(*_IDLE_PAUSE))
        self._stuck = StuckHandlers(settings.concurrency, self._stopping, self._fail)
        self._connection = HubConnection(
            start_timeout=settings.start_timeout,
            on_connect=lambda: self._run_in_background(hooks.on_connect),
            on_disconnect=lambda error: self._run_in_background(hooks.on_disconnect, error),
            give_up=self._fail,
        )
        self._outbox = self._make_outbox(journal or MemoryJournal())
        self._leases = Leases(hub, self._outbox, Background(self._fail))
        max_waiting = settings.concurrency // 2
        self._admission = Admission(
            dispatcher, self._threads, self._executor, max_waiting, self._stopping
        )
        self._reporter = Reporter(
            hub,
            dispatcher,
            self.status,
            self._admission.waiting_by_bucket,
            Background(self._fail),
        )
        self._slots = Slots(
            tasks=Background(self._fail),
            hub=hub,
            connection=self._connection,
            throttle=self._throttle,
            dispatcher=dispatcher,
            admission=self._admission,
            executor=self._executor,
            stuck=self._stuck,
            outbox=self._outbox,
            leases=self._leases,
            reporter=self._reporter,
            observers=observers,
        )

    def _make_outbox(self, journal: Journal) -> Outbox:
        on_failed = self._hooks.on_submit_failed
        return Outbox(
            self._hub,
            journal,
            self._dispatcher.provider,
            self._dispatcher.fail,
            OutboxEvents(
                on_refused=lambda result, error: self._run_in_background(on_failed, result, error),
                on_error=self._connection.mark_down,
                on_capacity=lambda available: self._throttle.set_blocked(not available),
                spawn=self._background.spawn,
            ),
            # At least one for each task in flight, or the slots would wait for the outbox.
            max_results=max(_MAX_RESULTS, self._settings.concurrency),
        )

    def _run_in_background(self, hooks: Sequence[Hook], *arguments: Any) -> None:
        async def run() -> None:
            try:
                for hook in hooks:
                    await call_and_wait(None, hook, *arguments)
            except (KeyboardInterrupt, SystemExit) as error:
                # asyncio would let them out of the event loop, and no task could finish.
                self._fail(error)

        self._background.spawn(run())

    async def run(self) -> None:
        """Work until `stop`, then drain: finish the tasks in flight and send their results.

        Raises:
            HubConnectionError: The hub was not reached within `start_timeout`.
            AuthenticationError: The hub refuses the token.
            ProviderError: Tasks or results were left after `drain_timeout`, or handlers that are
                stuck have all slots.
            Exception: A hook around the worker's life has failed.
        """
        try:
            self._dispatcher.state = await self._life_hooks.run_startup(self._hooks)
            await self._outbox.recover()
            self._slots.open(self._settings.concurrency)
            self._has_started = True
            if any(route.limits.settling_blocks for route in self._dispatcher.routes.values()):
                self._upkeep.start()
            await self._work()
        finally:
            # If the start has failed, the hooks have all the time of a stop.
            left = self._settings.drain_timeout
            if self._stop_ends_at is not None:
                left = max(_CLOSING / 2, self._stop_ends_at - self._loop.time())
            try:
                await self._life_hooks.run_shutdown(self._hooks, left)
            finally:
                self._upkeep.close()
                self._executor.close()
                await self._outbox.close()
                await self._leases.close()
                await self._reporter.close()
                await self._hub.close()
        if self._failure is not None:
            raise self._failure

    async def _work(self) -> None:
        """Wait for `stop`, and drain.

        A task group of the lifespan cancels this when a task in it fails. Without draining, the
        tasks in flight would have no results; the lifespan raises its error when it is left.
        """
        try:
            await asyncio.wait([self._stopping])
            await self._drain()
        except asyncio.CancelledError:
            lifespan = self._hooks.lifespan
            if lifespan is None or not lifespan.is_async or self._stopping.done():
                raise
            self._fail(
                ProviderError(
                    f"the lifespan {describe_handler(lifespan.function)} has cancelled the "
                    f"provider, as a task group does when a task in it fails"
                )
            )
            draining = self._loop.create_task(self._drain())
            while not draining.done():
                # Some libraries cancel it again and again.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([draining])
            draining.result()

    def status(self) -> WorkerStatus:
        """Return what the worker is doing now; only its event loop may ask."""
        now, oldest = self._loop.time(), self._outbox.oldest_put_at
        connection, answered_at = self._connection, self._connection.answered_at
        # A hub without tasks may hold the first poll for as long as it likes.
        is_held = self._slots.are_polling and self._hub.is_connected
        return WorkerStatus(
            has_started=self._has_started,
            is_connected=connection.is_up or (is_held and not connection.has_failed_lately),
            is_draining=self._stopping.done(),
            unhealthy_reason=self._stuck.unhealthy_reason,
            slots=self._settings.concurrency,
            in_flight=self._outbox.in_flight,
            waiting=self._admission.waiting,
            stuck=len(self._stuck),
            undelivered=len(self._outbox.undelivered),
            undelivered_bytes=self._outbox.waiting_bytes,
            oldest_undelivered=0.0 if oldest is None else now - oldest,
            since_poll=None if answered_at is None else now - answered_at,
        )

    def stop(self) -> None:
        """Stop polling and drain; `run` returns after that."""
        self._throttle.close()
        if not self._stopping.done():
            self._stop_ends_at = self._loop.time() + self._settings.drain_timeout
            self._stopping.set_result(None)

    def _fail_from_thread(self, error: BaseException) -> None:
        # The loop is closed if the worker has ended meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.stop()

    async def _drain(self) -> None:
        timeout = max(0.0, self._settings.drain_timeout - _CLOSING)
        ends_at = self._loop.time() + timeout
        flush_ends_at = ends_at + _CLOSING / 2
        self._outbox.start_draining()
        # A poll that the hub still holds may bring a task, and that needs time to run.
        reserve = min(timeout / 2, self._settings.max_task_timeout + 1.0)
        await self._finish_polls(ends_at - reserve)
        await self._slots.tasks.wait(ends_at - self._loop.time())
        unfinished = await self._slots.interrupt(_CLOSING)
        await self._outbox.interrupt()
        await self._flush(flush_ends_at - self._loop.time())
        await self._outbox.close()
        await self._background.wait(flush_ends_at - self._loop.time())
        lost = self._outbox.lost
        if kept := len(self._outbox.undelivered) - len(lost):
            logger.warning(
                "the spool keeps %s for the next start to send", format_count(kept, "result")
            )
        if lost or unfinished:
            self._fail(
                ProviderError(
                    f"stopped after {self._settings.drain_timeout:g} s with "
                    f"{format_count(unfinished, 'task')} unfinished; results that the hub "
                    f"never took: {[*map(escape_line, lost)]}"
                )
            )

    async def _finish_polls(self, ends_at: float) -> None:
        """Let the hub answer the polls that it holds, unless no answer can come."""
        while self._slots.tasks.tasks and (left := ends_at - self._loop.time()) > 0:
            if not self._hub.is_connected:
                self._slots.cancel_polls()
            await self._slots.tasks.wait(min(left, _CONNECTION_CHECK))
        self._slots.cancel_polls()

    async def _flush(self, timeout: float) -> None:
        """Let the hub have the results; the wait for results that a spool keeps is short."""
        if self._outbox.lost:
            await self._outbox.flush(timeout)
        elif not isinstance(self._failure, HubError):
            patience = _SPOOLED_PATIENCE if self._hub.is_connected else _CONNECTION_CHECK
            await self._outbox.flush(timeout, patience)
