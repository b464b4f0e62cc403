"""Runs a worker in an event loop of its own, until a signal or a stop ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from arbprov.config import Config
from arbprov.dispatcher import Dispatcher
from arbprov.errors import ConfigurationError
from arbprov.executors.forking import ForkGuard, stop_loop_in_forks
from arbprov.hooks import Hooks
from arbprov.logs import ensure_handler, flush_log
from arbprov.outbox.journal import Journal, MemoryJournal
from arbprov.wire.client import GrpcHub
from arbprov.wire.tokens import Token
from arbprov.worker.garbage import tuned_gc
from arbprov.worker.stopping import StopSignal
from arbprov.worker.worker import Worker, WorkerSettings

__all__ = ["run_provider"]

logger = logging.getLogger("arbprov")

# It has threads of its own from its first use on, and they never end.
_grpc = ForkGuard("gRPC, of an app,")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What still runs when the loop closes is cancelled, and then waited for no longer than this.
_LAST_WAIT = 0.5


def run_provider(
    config: Config, token: Token, dispatcher: Dispatcher, hooks: Hooks, stop: StopSignal
) -> None:
    """Work until `stop` is turned or a signal comes; see `ProviderApp.run` for what it raises."""
    ensure_handler()
    _refuse_running_loop()
    _grpc.claim()
    loop = _new_loop()
    try:
        with stop_loop_in_forks(loop), tuned_gc(config.concurrency):
            loop.run_until_complete(_work(config, token, dispatcher, hooks, stop))
    finally:
        _close(loop)
        flush_log()


def _refuse_running_loop() -> None:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ConfigurationError(
            "app.run() has an event loop of its own, and one runs in this thread already; "
            "call it in a thread: await asyncio.to_thread(app.run)"
        )


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _work(
    config: Config, token: Token, dispatcher: Dispatcher, hooks: Hooks, stop: StopSignal
) -> None:
    loop = asyncio.get_running_loop()
    journal = _journal(config)
    hub = _hub(config, token)
    worker = Worker(dispatcher, hub, hooks, _settings(config, dispatcher), journal)
    logger.info("provider %r works for the hub at %s", config.name, config.hub_url)
    with stop.listen(lambda: loop.call_soon_threadsafe(worker.stop)), _signals(loop, stop.turn):
        await worker.run()
    logger.info("provider %r has stopped", config.name)


def _hub(config: Config, token: Token) -> GrpcHub:
    return GrpcHub(
        config.hub_url,
        provider=config.name,
        token=token,
        poll_timeout=config.poll_timeout,
        submit_timeout=config.submit_timeout,
        tls=config.tls(),
        max_message_size=config.max_message_size,
    )


def _journal(config: Config) -> Journal:
    if not config.spool:
        return MemoryJournal()
    # SQLite is in Python, but not in each build of it.
    from arbprov.outbox.spool import Spool

    return Spool(config.spool)


def _settings(config: Config, dispatcher: Dispatcher) -> WorkerSettings:
    return WorkerSettings(
        concurrency=config.concurrency,
        drain_timeout=config.drain_timeout,
        start_timeout=config.start_timeout,
        longest_timeout=max(
            (route.timeout for route in dispatcher.routes.values()),
            default=config.execution_timeout,
        ),
    )


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> Iterator[None]:
    """Have the first signal stop gracefully and the second end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(1)  # pragma: no cover - nothing of this process is measured after it
        received.append(number)
        # Not from here: what logs and what stops may hold locks where it was interrupted.
        threading.Thread(target=begin_stop, args=(number,), daemon=True).start()

    def begin_stop(number: int) -> None:
        logger.info("%s: finishing what is begun; again to exit now", signal.Signals(number).name)
        stop()

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        # Wakes the loop by a signal that comes just before it begins to wait; what it calls is not
        # for the loop, which a handler may keep.
        loop.add_signal_handler(number, lambda: None)
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    # Not as `asyncio.run` does it, which waits for ever for a task that ignores its cancelling.
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST_WAIT))
    loop.set_exception_handler(lambda loop, context: None)
    loop.close()
