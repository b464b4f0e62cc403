"""The connection between a worker and its supervisor, from the worker's side.

The worker sends a line for each stage that it reaches. With monitoring, it sends a line with the
address to serve, and then, as long as its event loop turns, a line of its health each half second.
The supervisor sends a line to stop it. When the supervisor is gone, for any reason, the connection
ends, and the worker stops too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable

import attrs

from arbprov.cli.supervisor.restart_policy import Stage

__all__ = ["BEAT", "SERVE", "STOP", "Beat", "ControlChannel", "parse_beat", "parse_report"]

logger = logging.getLogger("arbprov")

STOP = b"stop\n"
# The first words of lines that report no stage.
SERVE = b"serve "
BEAT = b"beat "


@attrs.frozen
class Beat:
    """A worker's health.

    Args:
        has_started: Whether its startup hooks have run.
        unready: Why it gets no task; empty if it may get one.
    """

    has_started: bool
    unready: str


class ControlChannel:
    """A worker's end of the connection to its supervisor.

    Args:
        descriptor: File descriptor of the socket.
        drain_timeout: Seconds that a stop of this worker may take.
        provider: The provider's name.
    """

    def __init__(self, descriptor: int, drain_timeout: float, provider: str) -> None:
        self._socket = socket.socket(fileno=descriptor)
        # This process inherited it; programs that handlers start must not.
        self._socket.set_inheritable(False)
        self._drain_timeout = drain_timeout
        # As JSON, it has no line break.
        self._provider = json.dumps(provider)

    def report(self, stage: Stage) -> None:
        """Report the stage that this worker has reached."""
        # If the supervisor is gone, the thread of `on_stop` notices.
        with contextlib.suppress(OSError):
            self._socket.sendall(f"{stage.value} {self._drain_timeout} {self._provider}\n".encode())

    def serve(self, address: str) -> None:
        """Have the supervisor serve the monitoring of all workers at an address."""
        with contextlib.suppress(OSError):
            self._socket.sendall(SERVE + f"{address}\n".encode())

    def beat(self, has_started: bool, unready: str) -> None:
        """Report this worker's health; called on its event loop, so it never waits."""
        line = BEAT + json.dumps([has_started, unready]).encode() + b"\n"
        # If the supervisor is stopped, its buffer is full some day, and it misses nothing then.
        with contextlib.suppress(OSError):
            self._socket.send(line, socket.MSG_DONTWAIT)

    def on_stop(self, stop: Callable[[], object]) -> None:
        """Call `stop` on a thread when the supervisor asks for it or is gone."""

        def wait() -> None:
            try:
                message = self._socket.recv(len(STOP))
            except OSError:  # e.g. the supervisor was killed before it read a report
                message = b""
            if not message:
                logger.warning("the supervisor is gone; draining")
            stop()

        threading.Thread(target=wait, daemon=True).start()


def parse_beat(line: bytes) -> Beat:
    """Return the health in a worker's line.

    >>> parse_beat(b'beat [true, "it is draining"]')
    Beat(has_started=True, unready='it is draining')
    """
    return Beat(*json.loads(line.removeprefix(BEAT)))


def parse_report(line: bytes) -> tuple[Stage, float, str]:
    """Return the stage, the drain timeout in seconds, and the provider's name in a worker's report.

    >>> parse_report(b'2 25.0 "the weather"')
    (<Stage.CONNECTED: 2>, 25.0, 'the weather')
    """
    stage, drain_timeout, provider = line.split(maxsplit=2)
    return Stage(int(stage)), float(drain_timeout), json.loads(provider)
