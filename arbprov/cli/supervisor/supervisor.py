"""Several workers of one provider: all are started, replaced when they die, and stopped as one.

The supervisor itself loads no provider and no gRPC. The first worker goes ahead: what is wrong with
the provider, its settings or its token is found, and told, by that one alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from arbprov._utils import describe_exit
from arbprov.cli.supervisor.restart_policy import Pauses, Stage, final_code
from arbprov.cli.supervisor.worker_process import WorkerProcess
from arbprov.logs import ensure_handler

__all__ = ["Supervisor", "Worker", "supervise"]

logger = logging.getLogger("arbprov")

# How long the others wait, once the first is at work, for what the hub says to its token.
_FIRST_CONTACT = 1.0
# A worker ends within its drain_timeout by itself; beyond that, something keeps it.
_GRACE = 2.0


class Worker(Protocol):
    """A worker that has been started; see `WorkerProcess`."""

    stage: Stage
    drain_timeout: float

    @property
    def pid(self) -> int:
        """The number of its process."""
        ...

    async def ended(self) -> int:
        """Wait for its end; return its exit code, below 0 if a signal has killed it."""
        ...

    def stop(self) -> None:
        """Have it finish what it has begun, and end."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


# Starts the worker of a number, and has each stage told that it comes to.
OnStage = Callable[[Stage], object]
StartWorker = Callable[[int, OnStage], Awaitable[Worker]]


class Supervisor:
    """Keeps a number of workers running, until a signal or an end that is final for all.

    It belongs to the event loop that runs when it is made.

    Args:
        start: Starts a worker.
        count: How many there are to be.
    """

    def __init__(self, start: StartWorker, count: int) -> None:
        self._start = start
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._furthest = Stage.STARTING
        self._others_may_start = asyncio.Event()
        self._stopping = asyncio.Event()
        self._workers: dict[int, Worker] = {}
        self._code = 0
        self._is_killing = False

    async def run(self) -> int:
        """Keep the workers running, and then stop them; return the exit code of all."""
        keepers = [self._loop.create_task(self._keep(1))]
        await self._either(self._others_may_start, keepers)
        if not self._stopping.is_set():
            others = range(2, self._count + 1)
            keepers += [self._loop.create_task(self._keep(number)) for number in others]
            await self._either(self._stopping, keepers)
        self._stop()
        await self._drain(keepers)
        return self._code

    def interrupt(self, number: int) -> None:
        """Stop the workers gracefully; at the second time, end them at once."""
        if self._stopping.is_set():
            self._fail(1)
            self._kill()
            return
        name = signal.Signals(number).name
        logger.info("%s: the workers finish what is begun; again to end them now", name)
        self._stop()

    # All of them.

    async def _either(self, event: asyncio.Event, keepers: Iterable[asyncio.Task[None]]) -> None:
        """Wait for an event, or for the end of a keeper, which only a stop or a bug brings."""
        waiting = self._loop.create_task(event.wait())
        await asyncio.wait({waiting, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    def _reached(self, stage: Stage) -> None:
        self._furthest = max(self._furthest, stage)
        if stage is Stage.CONNECTED:
            self._others_may_start.set()
        else:
            # A hub may hold a first poll for long.
            self._loop.call_later(_FIRST_CONTACT, self._others_may_start.set)

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            for worker in self._workers.values():
                worker.stop()

    def _kill(self) -> None:
        self._is_killing = True
        for worker in self._workers.values():
            worker.kill()

    def _fail(self, code: int) -> None:
        self._code = self._code or code

    async def _drain(self, keepers: Iterable[asyncio.Task[None]]) -> None:
        began, pending = self._loop.time(), set(keepers)
        while pending and (left := began + self._patience() - self._loop.time()) > 0:
            _, pending = await asyncio.wait(
                pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        for number, worker in self._workers.items():
            logger.error("worker %d (pid %d) did not stop, and is killed", number, worker.pid)
            self._fail(1)
        self._kill()
        await asyncio.gather(*keepers)

    def _patience(self) -> float:
        return max((one.drain_timeout for one in self._workers.values()), default=0.0) + _GRACE

    # One of them.

    async def _keep(self, number: int) -> None:
        """Have a worker of this number, until the stop."""
        pauses = Pauses()
        while not self._stopping.is_set():
            began = self._loop.time()
            end = await self._life(number)
            if self._stopping.is_set():
                return
            pause = pauses.after(self._loop.time() - began)
            logger.warning("%s; another starts in %g s", end, pause)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _life(self, number: int) -> str:
        """Start a worker, wait for its end and draw the conclusions; return how it ended."""
        try:
            worker = await self._start(number, self._reached)
        except OSError as error:
            # The system may have room again later.
            return f"worker {number} can't be started: {error}"
        self._workers[number] = worker
        if self._stopping.is_set():
            (worker.kill if self._is_killing else worker.stop)()
        code = await worker.ended()
        del self._workers[number]
        end = f"worker {number} (pid {worker.pid}) {describe_exit(code)}"
        self._judge(code, worker.stage, end)
        return end

    def _judge(self, code: int, stage: Stage, end: str) -> None:
        """Stop all if an end is final; note an end that was not what a stop is for."""
        if self._stopping.is_set():
            # Of one that was starting, this is all that a stop can be.
            is_clean = code == 0 or (stage is Stage.STARTING and code == -signal.SIGTERM)
            if not (is_clean or self._is_killing or code == self._code):
                logger.error("%s at the stop", end)
                self._fail(1)
            return
        final = final_code(code, stage, self._furthest)
        if final is None:
            return
        # The first one has said by itself what is wrong, if it had the time to.
        if code < 0 or self._workers:
            logger.error("%s, so all end", end)
        self._fail(final)
        self._stop()


def supervise(command: Sequence[str], count: int) -> int:
    """Run a provider in several processes until it ends; return its exit code.

    Args:
        command: Runs one worker; its number and the rest of its place are added.
        count: How many there are to be.
    """
    ensure_handler()
    return asyncio.run(_supervised(command, count))


async def _supervised(command: Sequence[str], count: int) -> int:
    def start(number: int, on_stage: OnStage) -> Awaitable[Worker]:
        return WorkerProcess.start([*command, str(number), str(count)], on_stage)

    supervisor = Supervisor(start, count)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.interrupt, number)
    return await supervisor.run()
