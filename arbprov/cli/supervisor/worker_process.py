"""A worker in a process of its own, from the supervisor's side."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from typing_extensions import Self

from arbprov.cli.supervisor.control_channel import STOP, read_stage
from arbprov.cli.supervisor.restart_policy import Stage

__all__ = ["WorkerProcess"]

# What it told last may come after its end; but whoever it has forked keeps the link open.
_LAST_WORDS = 0.2


class WorkerProcess:
    """A process that runs `arbprov run`, as one of several workers; see `start`.

    Attributes:
        stage: How far it has come.
        drain_timeout: How long a stop of it may take, in seconds.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_stage: Callable[[Stage], object],
    ) -> None:
        self.stage = Stage.STARTING
        self.drain_timeout = 0.0
        self._process = process
        self._reader, self._writer = link
        self._on_stage = on_stage
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, command: Sequence[str], on_stage: Callable[[Stage], object]) -> Self:
        """Return a worker that has been started.

        Args:
            command: Its program and arguments, to which the descriptor of the link is added.
            on_stage: Called when it has come further.

        Raises:
            OSError: The system has no room for it.
        """
        ours, theirs = socket.socketpair()
        link = await asyncio.open_connection(sock=ours)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    # Ctrl-C reaches the supervisor only, which tells the workers once.
                    start_new_session=True,
                )
            except OSError:
                link[1].close()
                raise
        return cls(process, link, on_stage)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    async def ended(self) -> int:
        """Wait for its end; return its exit code, below 0 if a signal has killed it."""
        code = await self._process.wait()
        await asyncio.wait([self._listener], timeout=_LAST_WORDS)
        self._listener.cancel()
        self._writer.close()
        return code

    def stop(self) -> None:
        """Have it finish what it has begun, and end."""
        with contextlib.suppress(OSError):
            self._writer.write(STOP)
        # While it starts it does not listen, and there is nothing to finish.
        if self.stage is Stage.STARTING:
            self._signal(self._process.terminate)

    def kill(self) -> None:
        """End it now."""
        self._signal(self._process.kill)

    def _signal(self, send: Callable[[], None]) -> None:
        with contextlib.suppress(ProcessLookupError):
            send()

    async def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while line := await self._reader.readline():
                self.stage, self.drain_timeout = read_stage(line)
                self._on_stage(self.stage)
