"""The link between a worker and its supervisor, from the worker's side.

The worker tells how far it has come, one line for each stage. The supervisor tells it to stop; and
when the supervisor is gone, however that came about, the link ends, which tells the worker too.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

from arbprov.cli.supervisor.restart_policy import Stage

__all__ = ["STOP", "SupervisorLink", "read_stage"]

logger = logging.getLogger("arbprov")

STOP = b"stop\n"


class SupervisorLink:
    """Tells the supervisor, and hears from it.

    Args:
        descriptor: Of the socket.
        drain_timeout: How long a stop of this worker may take, in seconds.
    """

    def __init__(self, descriptor: int, drain_timeout: float) -> None:
        self._socket = socket.socket(fileno=descriptor)
        # It was inherited; what the handlers start shall not.
        self._socket.set_inheritable(False)
        self._drain_timeout = drain_timeout

    def tell(self, stage: Stage) -> None:
        """Tell how far this worker has come."""
        # A supervisor that is gone is noticed by who listens.
        with contextlib.suppress(OSError):
            self._socket.sendall(f"{stage.value} {self._drain_timeout}\n".encode())

    def listen(self, stop: Callable[[], object]) -> None:
        """Have `stop` called, on a thread, when the supervisor says so or is gone."""
        threading.Thread(target=self._listen, args=(stop,), daemon=True).start()

    def _listen(self, stop: Callable[[], object]) -> None:
        if not self._heard():
            logger.warning("the supervisor is gone: finishing what is begun")
        stop()

    def _heard(self) -> bytes:
        try:
            return self._socket.recv(len(STOP))
        except OSError:  # as when it was killed with something unread
            return b""


def read_stage(line: bytes) -> tuple[Stage, float]:
    """Return what a worker told: its stage, and how long a stop of it may take, in seconds."""
    stage, drain_timeout = line.split()
    return Stage(int(stage)), float(drain_timeout)
