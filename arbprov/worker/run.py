"""Runs a worker in an event loop of its own, until a signal or `ProviderApp.stop` ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from arbprov._utils import format_user_stack, indent_lines, open_standard_streams
from arbprov.config import Config
from arbprov.dispatcher import Dispatcher
from arbprov.errors import ConfigurationError
from arbprov.executors.forking import ForkGuard, stop_loop_in_forks
from arbprov.hooks import Hooks
from arbprov.instrumentation import tracing
from arbprov.instrumentation.setup import make_observers
from arbprov.logs.setup import add_filter, ensure_handler, flush_log
from arbprov.outbox.journal import Journal, MemoryJournal
from arbprov.wire.client import GrpcHub
from arbprov.wire.tokens import Token
from arbprov.worker.background import close_loop
from arbprov.worker.monitoring import Monitoring, Report
from arbprov.worker.stopping import DRAINING, StopSignal
from arbprov.worker.worker import Worker, WorkerSettings

__all__ = ["run_provider", "tuned_gc"]

logger = logging.getLogger("arbprov")

# gRPC starts threads on its first use, and they never end.
_grpc = ForkGuard("gRPC, of an app,")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds beyond `drain_timeout` until a stop is known to be blocked.
_EXIT_GRACE = 1.0
# Objects that a task may hold while it is in flight; most hold about 45 that the collector tracks.
_OBJECTS_PER_TASK = 150


def run_provider(
    config: Config,
    token: Token,
    dispatcher: Dispatcher,
    hooks: Hooks,
    stop: StopSignal,
    report: Report | None = None,
) -> None:
    """Work until `stop` is set or a signal arrives; see `ProviderApp.run` for its errors.

    Args:
        config: The app's settings.
        token: The hub's token, already read.
        dispatcher: Takes the tasks to their actions.
        hooks: The hooks around the worker's life.
        stop: Stops the worker from any thread.
        report: Tells a supervisor, which serves the monitoring; see `Monitoring`.
    """
    open_standard_streams()
    ensure_handler(provider=config.name)
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ConfigurationError(
            "app.run() has an event loop of its own, and this thread already runs one; "
            "call it in a thread: await asyncio.to_thread(app.run)"
        )
    _grpc.claim()
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    try:
        with (
            Monitoring(config.monitoring, dispatcher, report) as monitoring,
            stop_loop_in_forks(loop),
            tuned_gc(config.concurrency),
        ):
            loop.run_until_complete(_work(config, token, dispatcher, hooks, stop, monitoring))
    finally:
        close_loop(loop)
        flush_log()


async def _work(
    config: Config,
    token: Token,
    dispatcher: Dispatcher,
    hooks: Hooks,
    stop: StopSignal,
    monitoring: Monitoring,
) -> None:
    loop = asyncio.get_running_loop()
    journal: Journal = MemoryJournal()
    if config.spool:
        # Imported here: some builds of Python have no SQLite.
        from arbprov.outbox.spool import Spool
        from arbprov.outbox.sqlite import SpoolOrigin

        journal = Spool(config.spool, origin=SpoolOrigin(config.name, config.hub_url))
    hub = GrpcHub(
        config.hub_url,
        provider=config.name,
        token=token,
        poll_timeout=config.poll_timeout,
        submit_timeout=config.submit_timeout,
        tls=config.tls(),
        max_message_size=config.max_message_size,
        reads_traces=tracing.is_set_up(),
    )
    timeouts = [route.timeout for route in dispatcher.routes.values()]
    settings = WorkerSettings(
        concurrency=config.concurrency,
        drain_timeout=config.drain_timeout,
        start_timeout=config.start_timeout,
        max_task_timeout=max(timeouts, default=config.execution_timeout),
    )
    if tracing.is_set_up():
        add_filter(tracing.add_trace)
    observers = make_observers(config.name, monitoring.metrics)
    worker = Worker(dispatcher, hub, hooks, settings, journal, observers)
    logger.info("provider %r starts for the hub at %s", config.name, config.hub_url)
    wake = lambda: loop.call_soon_threadsafe(worker.stop)  # noqa: E731
    try:
        with (
            monitoring.watch(worker),
            stop.listen(wake),
            _signals(loop, stop.set, config.drain_timeout + _EXIT_GRACE),
        ):
            await worker.run()
    finally:
        if observers is not None:
            observers.run_ended()
    logger.info("provider %r has stopped", config.name)


@contextlib.contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], object], timeout: float
) -> Iterator[None]:
    """Stop gracefully at the first signal, and end the process at once at the second.

    Args:
        loop: The event loop.
        stop: Starts the stop.
        timeout: Seconds after which a stop that has not ended never will: code of the author's
            blocks the event loop. Then the process exits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    ended, main_thread = threading.Event(), threading.get_ident()

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(1)  # pragma: no cover - nothing of this process is measured after it
        received.append(number)
        # On a thread: the interrupted code may hold locks that logging and stopping need.
        threading.Thread(target=start_draining, args=(number,), daemon=True).start()

    def start_draining(number: int) -> None:
        name = signal.Signals(number).name
        stop()
        logger.info(DRAINING, name)
        if not ended.wait(timeout):  # pragma: no cover - this ends the process, and its coverage
            frame = sys._current_frames().get(main_thread)
            blocking = indent_lines(format_user_stack(frame)) if frame else ""
            logger.critical(
                "the event loop is blocked, so the stop can't end; exiting\n%s", blocking
            )
            flush_log()
            os._exit(1)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        # The loop's handler wakes the loop, should the signal arrive just before it waits. Python's
        # handler does the work, since it runs even while a task blocks the loop.
        loop.add_signal_handler(number, lambda: None)
        signal.signal(number, handle)
    try:
        yield
    finally:
        ended.set()
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextlib.contextmanager
def tuned_gc(tasks: int) -> Iterator[None]:
    """Keep the garbage collector away from objects in use: imported modules and tasks in flight.

    With Python's own threshold, the collector looks through each task in flight several times
    before it ends; for a tiny task, that takes up to a tenth of its time. If the author has
    disabled the collector, raised its threshold or frozen objects, it stays so.

    Args:
        tasks: How many are in flight at once.
    """
    thresholds = gc.get_threshold()
    raises = gc.isenabled() and 0 < thresholds[0] < tasks * _OBJECTS_PER_TASK
    freezes = gc.get_freeze_count() == 0
    if raises:
        gc.set_threshold(tasks * _OBJECTS_PER_TASK, *thresholds[1:])
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        # Connections must be closed before this process may be forked. Generation by generation:
        # all at once, a younger socket would end before the older connection that closes it, and
        # Python would warn of an unclosed socket.
        for generation in range(3):
            gc.collect(generation)
        if freezes:
            # Puts younger objects behind the frozen objects in the collector's list, as before.
            gc.freeze()
            gc.unfreeze()
        if raises:
            gc.set_threshold(*thresholds)
