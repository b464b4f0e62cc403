"""A worker's process, from the supervisor's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import Self

from arbprov.cli.supervisor.control_channel import (
    BEAT,
    SERVE,
    STOP,
    Beat,
    parse_beat,
    parse_report,
)
from arbprov.cli.supervisor.restart_policy import Stage

__all__ = ["WorkerProcess"]

# Seconds to read a worker's last reports after its exit. Without a bound, a process that it forked
# would keep the connection open.
_DRAIN_GRACE = 0.2


class WorkerProcess:
    """A process of `arbprov run` that is a worker; `start` makes it.

    Attributes:
        stage: The stage that the worker has reached.
        drain_timeout: Seconds that a stop of the worker may take.
        provider: The provider's name, once the worker has reported it.
        beat: What it has last reported of its health; None if nothing yet.
        beat_at: When that was, by `time.monotonic`.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_stage: Callable[[Stage], object],
        on_serve: Callable[[str], object],
    ) -> None:
        self.beat: Beat | None = None
        self.beat_at = 0.0
        self.stage = Stage.STARTING
        self.drain_timeout = 0.0
        self.provider = ""
        self._process = process
        self._reader, self._writer = streams
        self._on_stage = on_stage
        self._on_serve = on_serve
        self._reading = asyncio.create_task(self._read_reports())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        on_stage: Callable[[Stage], object],
        on_serve: Callable[[str], object] = lambda address: None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a worker.

        Args:
            command: The program and its arguments; the file descriptor of the connection is added.
            on_stage: Called with each stage that the worker reaches.
            on_serve: Called with the address where the worker has its monitoring served.
            environ: Variables of its environment, beside the variables of this process.

        Raises:
            OSError: The system can't start the process.
        """
        ours, theirs = socket.socketpair()
        streams = await asyncio.open_connection(sock=ours)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **(environ or {})},
                    # So that Ctrl-C reaches only the supervisor; it then stops each worker once.
                    start_new_session=True,
                )
            except OSError:
                streams[1].close()
                raise
        return cls(process, streams, on_stage, on_serve)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for the exit; return the exit code, or a signal's negative number."""
        code = await self._process.wait()
        await asyncio.wait([self._reading], timeout=_DRAIN_GRACE)
        self._reading.cancel()
        self._writer.close()
        return code

    def stop(self) -> None:
        """Ask the worker to finish its running tasks and exit."""
        with contextlib.suppress(OSError):
            self._writer.write(STOP)
        # A worker that is starting does not read yet, and has no tasks to finish.
        if self.stage is Stage.STARTING:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """Kill the worker now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read_reports(self) -> None:
        with contextlib.suppress(OSError):
            while line := await self._reader.readline():
                if line.startswith(BEAT):
                    self.beat, self.beat_at = parse_beat(line), time.monotonic()
                elif line.startswith(SERVE):
                    self._on_serve(line.removeprefix(SERVE).decode().strip())
                else:
                    self.stage, self.drain_timeout, self.provider = parse_report(line)
                    self._on_stage(self.stage)
