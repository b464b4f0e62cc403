"""Processes that a benchmark starts, and what they take of the machine."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["BenchmarkError", "Child", "started"]

_PATIENCE = 15.0


class BenchmarkError(Exception):
    """Something that takes part has failed, so nothing can be measured."""


class Child:
    """A process that gets lines on stdin and says lines on stdout; its stderr is in a file."""

    def __init__(self, command: list[str], environ: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as stderr:
            self._popen = subprocess.Popen(
                command,
                env=environ,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._popen.stdout as stdout:
            for line in stdout:
                self._lines.put(line)

    def say(self, line: str) -> None:
        """Send a line."""
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()

    def hear(self, seconds: float, check: Callable[[], object] = lambda: None) -> str:
        """Return the next line that it says.

        Args:
            seconds: How long to wait for it.
            check: Asked again and again meanwhile; what it raises ends the waiting.

        Raises:
            BenchmarkError: It ended instead, or said nothing in time.
        """
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=0.5)
            self.check()
            check()
        raise BenchmarkError(f"{self._popen.args} said nothing for {seconds:g} s\n{self.tail()}")

    def check(self) -> None:
        """Raise a `BenchmarkError` if it has ended."""
        if self._popen.poll() is not None:
            code = self._popen.returncode
            raise BenchmarkError(f"{self._popen.args} ended with {code}\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def cpu_seconds(self) -> float:
        """Return the processor time that it and its children have taken."""
        times = [process.cpu_times() for process in self._family()]
        return sum(one.user + one.system for one in times)

    def resident_mib(self) -> float:
        """Return what it and its children hold of the memory, in MiB."""
        return sum(process.memory_info().rss for process in self._family()) / 2**20

    def _family(self) -> list:
        import psutil

        parent = psutil.Process(self._popen.pid)
        return [parent, *parent.children(recursive=True)]

    def end(self) -> None:
        """Ask it to end, and end it if it does not."""
        self._popen.terminate()
        try:
            self._popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        # What it has left behind may hold its stdout open.
        self._reader.join(_PATIENCE)


@contextlib.contextmanager
def started(command: list[str], environ: dict[str, str], log: Path) -> Iterator[Child]:
    """Run a process until the context ends."""
    child = Child(command, environ, log)
    try:
        yield child
    finally:
        child.end()
