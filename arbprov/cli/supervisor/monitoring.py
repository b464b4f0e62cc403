"""The monitoring of a provider in several processes: the supervisor serves that of all workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from arbprov.instrumentation.health import WorkerHealth, livez
from arbprov.instrumentation.systemd import SystemdNotifier, make_notifier

if TYPE_CHECKING:
    from arbprov.cli.supervisor.control_channel import Beat
    from arbprov.instrumentation.server import MonitoringServer
    from arbprov.instrumentation.totals import Totals

__all__ = ["Monitoring", "metrics_folder"]

logger = logging.getLogger("arbprov")

# Seconds between two reports of a worker.
_BEAT_INTERVAL = 0.5
# Seconds between two signs of life for systemd.
_LIFE_SIGN = 0.5


class _Worker(Protocol):
    beat: Beat | None
    beat_at: float

    @property
    def pid(self) -> int: ...


class _Crew(Protocol):
    @property
    def workers(self) -> Mapping[int, _Worker]: ...

    @property
    def is_stopping(self) -> bool: ...


def metrics_folder(folder: str) -> Path:
    """Return where the workers keep their metrics, in the folder that they share."""
    return Path(folder, "metrics")


class Monitoring:
    """Serves the health and the metrics of all workers, once a worker asks for it.

    Args:
        folder: A folder for files of the workers; empty if there is none.

    Attributes:
        environ: Variables for the environment of the workers.
    """

    def __init__(self, folder: str) -> None:
        self._notifier = make_notifier()
        self._server: MonitoringServer | None = None
        self._totals: Totals | None = None
        self._folder = metrics_folder(folder) if folder else None
        self.environ: dict[str, str] = {}
        if self._folder is not None and os.environ.get("ARBPROV_MONITORING"):
            self._folder.mkdir()
            # prometheus-client reads it at its import, which may be the provider's own.
            self.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder)

    def serve(self, crew: _Crew, address: str) -> None:
        """Serve at an address from now on; once it serves, do nothing.

        Args:
            crew: Knows the workers that run, by number; read on other threads too.
            address: ``HOST:PORT``.

        Raises:
            ConfigurationError: It can't listen there.
        """
        if self._server is not None:
            return
        # Slow to import.
        from arbprov.instrumentation.pages import make_pages
        from arbprov.instrumentation.server import MonitoringServer
        from arbprov.instrumentation.setup import make_totals

        self._server = MonitoringServer(address)
        self._totals = None if self._folder is None else make_totals(self._folder)
        render = None if self._totals is None else self._totals.render
        self._server.start(make_pages(lambda: _read(crew), render))
        logger.info("serving the monitoring at http://%s", self._server.address)

    def forget(self, pid: int) -> None:
        """Keep the counts of a process that has ended, and forget what it did."""
        if self._totals is not None:
            self._totals.forget(pid)

    @contextlib.contextmanager
    def watch(self, crew: _Crew) -> Iterator[None]:
        """Tell systemd of the workers inside the ``with`` block, and close the server after it."""
        telling = asyncio.create_task(_keep_telling(self._notifier, crew))
        try:
            yield
        finally:
            telling.cancel()
            if self._server is not None:
                self._server.close()


def _read(crew: _Crew) -> list[WorkerHealth]:
    now = time.monotonic()
    return [
        WorkerHealth(
            f"worker {number} (pid {worker.pid})",
            beat.has_started,
            beat.unready,
            max(0.0, now - worker.beat_at - _BEAT_INTERVAL),
        )
        for number, worker in list(crew.workers.items())
        if (beat := worker.beat) is not None
    ]


async def _keep_telling(notifier: SystemdNotifier | None, crew: _Crew) -> None:
    while notifier is not None:
        workers = _read(crew)
        notifier.tell(
            has_started=any(worker.has_started for worker in workers),
            is_draining=crew.is_stopping,
            is_alive=livez(workers)[0] == 200,
        )
        await asyncio.sleep(_LIFE_SIGN)
