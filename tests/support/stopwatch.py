"""Times that are the same on a busy machine."""

from __future__ import annotations

import time
from pathlib import Path


class Stopwatch:
    """Measures how long something takes, less the time that it waits for a core.

    That time is known on Linux only; elsewhere it counts too.

    Args:
        pid: The process whose main thread is measured; this thread by default.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._file = Path("/proc", "thread-self" if pid is None else str(pid), "schedstat")
        self._began = self._now()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._now() - self._began

    def _now(self) -> float:
        return time.monotonic() - self._waited_for_a_core()

    def _waited_for_a_core(self) -> float:
        try:
            return int(self._file.read_text().split()[1]) / 1e9
        except FileNotFoundError:
            return 0.0
