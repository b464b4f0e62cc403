"""The sum of the metrics of several processes, which prometheus-client keeps in files."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

__all__ = ["Totals"]

logger = logging.getLogger("arbprov")

# In place of a process's number: the sum of the processes that have ended.
_ENDED = "ended"
# The kinds of metrics whose values are added up.
_ADDED = ("counter", "histogram", "summary")


class Totals(Collector):
    """The metrics in the files of a folder, added up.

    Args:
        folder: The folder that ``PROMETHEUS_MULTIPROC_DIR`` names for the processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A value must not be read while it is in two files.
        self._lock = threading.Lock()

    def render(self) -> bytes:
        """Return the metrics in Prometheus's format."""
        registry = CollectorRegistry()
        registry.register(self)
        with self._lock:
            # Isolated handlers have processes of their own.
            for pid in {_pid_of(path) for path in self._folder.glob("*.db")}:
                if pid is not None and not _runs(pid):
                    self._forget(pid)
            return generate_latest(registry)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics, for prometheus-client."""
        # A process that has just made its file has written nothing yet.
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files, accumulate=True)
        return metrics

    def forget(self, pid: int) -> None:
        """Drop the gauges of a process that has ended, and keep its counts.

        The counts go into one file for all such processes: a worker that ends again and again would
        fill the disk, and each reading would take longer.
        """
        with self._lock:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        try:
            mark_process_dead(pid, str(self._folder))
            for kind in _ADDED:
                self._keep(self._folder / f"{kind}_{pid}.db", kind)
        except Exception:
            logger.exception("the metrics of process %d could not be added up", pid)

    def _keep(self, ended: Path, kind: str) -> None:
        if not ended.exists():
            return
        try:
            if ended.stat().st_size:
                _add(ended, self._folder / f"{kind}_{_ENDED}.db")
        finally:
            # Whatever is wrong with it, it must not be in the way of each scrape.
            ended.unlink()


def _pid_of(path: Path) -> int | None:
    """Return the number of a file's process; None for the file of all that have ended."""
    text = path.stem.rpartition("_")[2]
    return int(text) if text.isdecimal() else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _add(source: Path, target: Path) -> None:
    sums = MmapedDict(str(target))
    with contextlib.closing(sums):
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(source)):
            sums.write_value(key, sums.read_value(key)[0] + value, timestamp)
