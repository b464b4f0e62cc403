"""Runs a provider in several worker processes: starts, replaces and stops them.

The supervisor itself imports neither the provider nor gRPC. The first worker starts alone, so that
an error in the provider, its settings or its token is found and logged only once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol

from arbprov._utils import describe_exit
from arbprov.cli.exit_codes import BAD_CONFIGURATION
from arbprov.cli.supervisor.control_channel import Beat
from arbprov.cli.supervisor.monitoring import Monitoring
from arbprov.cli.supervisor.restart_policy import RestartDelays, Stage, final_exit_code
from arbprov.cli.supervisor.worker_process import WorkerProcess
from arbprov.errors import ConfigurationError
from arbprov.logs.setup import SUPERVISOR, ensure_handler, name_provider

__all__ = ["Supervisor", "Worker", "supervise"]

logger = logging.getLogger("arbprov")

# In seconds. How long the other workers wait, once the first runs, for the hub to refuse its token.
_CONNECT_TIMEOUT = 1.0
# How long a worker may take to exit beyond its drain timeout, before it is killed.
_EXIT_GRACE = 2.0


class Worker(Protocol):
    """A started worker; see `WorkerProcess`."""

    stage: Stage
    drain_timeout: float
    beat: Beat | None
    beat_at: float

    @property
    def pid(self) -> int:
        """The process's number."""
        ...

    async def wait(self) -> int:
        """Wait for the exit; return the exit code, or a signal's negative number."""
        ...

    def stop(self) -> None:
        """Ask the worker to finish its running tasks and exit."""
        ...

    def kill(self) -> None:
        """Kill the worker now."""
        ...


OnStage = Callable[[Stage], object]
# Starts the worker of a number, and calls the function with each stage that it reaches.
StartWorker = Callable[[int, OnStage], Awaitable[Worker]]


class Supervisor:
    """Keeps workers running until a signal, or an exit that ends them all.

    It belongs to the event loop that is running when it is made.

    Args:
        start: Starts a worker.
        count: The number of workers.
        on_exit: Called with the number of each process that has ended.

    Attributes:
        workers: The workers that run, by number.
    """

    def __init__(
        self,
        start: StartWorker,
        count: int,
        on_exit: Callable[[int], object] = lambda pid: None,
    ) -> None:
        self._on_worker_exit = on_exit
        self._start = start
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._furthest = Stage.STARTING
        self._others_may_start = asyncio.Event()
        self._stopping = asyncio.Event()
        self.workers: dict[int, Worker] = {}
        self._exit_code = 0
        self._is_killing = False

    async def run(self) -> int:
        """Keep the workers running, then stop them; return the exit code of the whole."""
        keepers = [self._loop.create_task(self._keep_running(1))]
        await self._wait_for(self._others_may_start, keepers)
        if not self._stopping.is_set():
            others = range(2, self._count + 1)
            keepers += [self._loop.create_task(self._keep_running(number)) for number in others]
            await self._wait_for(self._stopping, keepers)
        self._stop()
        await self._drain(keepers)
        return self._exit_code

    def interrupt(self, number: int) -> None:
        """Handle a signal: the first drains the workers, the second kills them.

        Args:
            number: The signal's number.
        """
        if self._stopping.is_set():
            self._fail(1)
            self._kill()
            return
        name = signal.Signals(number).name
        logger.info("%s: draining the workers; send the signal again to kill them", name)
        self._stop()

    @property
    def is_stopping(self) -> bool:
        """Whether the workers stop, and are not replaced any more."""
        return self._stopping.is_set()

    def refuse(self, error: ConfigurationError) -> None:
        """Stop all workers, because a setting that they have in common is wrong."""
        if not self._stopping.is_set():
            logger.error("Error: %s", error)
            self._fail(BAD_CONFIGURATION)
            self._stop()

    # All workers.

    async def _wait_for(self, event: asyncio.Event, keepers: Iterable[asyncio.Task[None]]) -> None:
        """Wait for an event, or for the end of a keeper, caused by a stop or a bug."""
        waiting = self._loop.create_task(event.wait())
        await asyncio.wait({waiting, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            for worker in self.workers.values():
                worker.stop()

    def _kill(self) -> None:
        self._is_killing = True
        for worker in self.workers.values():
            worker.kill()

    def _fail(self, code: int) -> None:
        self._exit_code = self._exit_code or code

    async def _drain(self, keepers: Iterable[asyncio.Task[None]]) -> None:
        """Wait for the exit of all workers, and kill workers that take too long."""
        started_at, pending = self._loop.time(), set(keepers)
        while pending:
            # A worker that is still starting reports its drain timeout later.
            timeout = max((w.drain_timeout for w in self.workers.values()), default=0.0)
            left = started_at + timeout + _EXIT_GRACE - self._loop.time()
            if left <= 0:
                break
            _, pending = await asyncio.wait(
                pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        for number, worker in self.workers.items():
            logger.error("worker %d (pid %d) did not stop in time; killing it", number, worker.pid)
            self._fail(1)
        self._kill()
        await asyncio.gather(*keepers)

    # Each worker.

    async def _keep_running(self, number: int) -> None:
        """Run the worker of a number again and again, until the stop."""
        delays = RestartDelays()
        while not self._stopping.is_set():
            started_at = self._loop.time()
            exit_text = await self._run_worker(number)
            if self._stopping.is_set():
                return
            delay = delays.next(self._loop.time() - started_at)
            logger.warning("%s; restarting it in %g s", exit_text, delay)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _run_worker(self, number: int) -> str:
        """Start a worker, wait for its exit and handle it; return how it ended."""
        try:
            worker = await self._start(number, self._on_stage)
        except OSError as error:
            # Temporary, e.g. too many processes.
            return f"worker {number} can't be started: {error}"
        self.workers[number] = worker
        if self._stopping.is_set():
            (worker.kill if self._is_killing else worker.stop)()
        code = await worker.wait()
        del self.workers[number]
        self._on_worker_exit(worker.pid)
        exit_text = f"worker {number} (pid {worker.pid}) {describe_exit(code)}"
        self._on_exit(code, worker.stage, exit_text)
        return exit_text

    def _on_stage(self, stage: Stage) -> None:
        self._furthest = max(self._furthest, stage)
        if stage is Stage.CONNECTED:
            self._others_may_start.set()
        else:
            # A hub may hold the first poll for a long time.
            self._loop.call_later(_CONNECT_TIMEOUT, self._others_may_start.set)

    def _on_exit(self, code: int, stage: Stage, exit_text: str) -> None:
        """Stop all workers if an exit is final; during a stop, log an exit that is not clean."""
        if self._stopping.is_set():
            # SIGTERM is how `Worker.stop` ends a worker that is starting.
            is_clean = code == 0 or (stage is Stage.STARTING and code == -signal.SIGTERM)
            if not (is_clean or self._is_killing or code == self._exit_code):
                logger.error("%s during the stop", exit_text)
                self._fail(1)
            return
        final = final_exit_code(code, stage, self._furthest)
        if final is None:
            return
        # A first worker that exits by itself has logged the error.
        if code < 0 or self.workers:
            logger.error("%s; stopping all workers", exit_text)
        self._fail(final)
        self._stop()


def supervise(command: Sequence[str], count: int, *, is_quiet: bool = False) -> int:
    """Run a provider in several processes until it ends; return its exit code.

    Args:
        command: Runs a worker; the values of `WorkerInfo` are added.
        count: The number of workers.
        is_quiet: Whether to log only warnings and errors.

    Raises:
        ConfigurationError: A variable of the log is not valid.
    """
    run_name = uuid.uuid4().hex

    async def run(folder: str) -> int:
        monitoring = Monitoring(folder)

        def serve(address: str) -> None:
            try:
                monitoring.serve(supervisor, address)
            except ConfigurationError as error:
                supervisor.refuse(error)

        async def start(number: int, on_stage: OnStage) -> Worker:
            def note(stage: Stage) -> None:
                # Only the workers import the provider, and know its name.
                name_provider(worker.provider)
                on_stage(stage)

            values = (str(number), str(count), run_name, folder)
            worker = await WorkerProcess.start([*command, *values], note, serve, monitoring.environ)
            return worker

        supervisor = Supervisor(start, count, monitoring.forget)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.interrupt, number)
        with monitoring.watch(supervisor):
            return await supervisor.run()

    ensure_handler(worker=SUPERVISOR, is_quiet=is_quiet)
    with _temporary_folder() as folder:
        return asyncio.run(run(folder))


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    """Make a folder for this user only, until the end; its path is empty if that is impossible."""
    try:
        folder = tempfile.mkdtemp(prefix="arbprov-")
    except OSError as error:
        logger.warning(
            "a worker that is replaced while the limits' store is away will have its share of the "
            "limits again, since there is no temporary folder: %s",
            error,
        )
        yield ""
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
