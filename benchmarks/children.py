"""The processes of a benchmark, and the processor time and memory that they use."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["BenchmarkError", "Child", "run_process"]

_TIMEOUT = 15.0


class BenchmarkError(Exception):
    """A hub or a contestant has failed, so nothing can be measured."""


class Child:
    """A process that reads lines and writes lines; its stderr goes to a file."""

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
        """Return the next line that it writes.

        Args:
            seconds: How long to wait for it.
            check: Called repeatedly in the meantime; an exception of it ends the waiting.

        Raises:
            BenchmarkError: The process ended, or wrote nothing in time.
        """
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=0.5)
            self.check()
            check()
        raise BenchmarkError(f"{self._popen.args} said nothing for {seconds:g} s\n{self.tail()}")

    def check(self) -> None:
        """Raise a `BenchmarkError` if the process has ended."""
        if self._popen.poll() is not None:
            code = self._popen.returncode
            raise BenchmarkError(f"{self._popen.args} ended with {code}\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def cpu_seconds(self) -> float:
        """Return the processor time that the process and its children have used, in seconds."""
        times = [process.cpu_times() for process in self._family()]
        return sum(one.user + one.system for one in times)

    def resident_mib(self) -> float:
        """Return the memory that the process and its children hold, in MiB."""
        return sum(process.memory_info().rss for process in self._family()) / 2**20

    def _family(self) -> list:
        import psutil

        parent = psutil.Process(self._popen.pid)
        return [parent, *parent.children(recursive=True)]

    def end(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        self._popen.terminate()
        try:
            self._popen.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        # A process that it started may still hold its stdout open.
        self._reader.join(_TIMEOUT)


@contextlib.contextmanager
def run_process(command: list[str], environ: dict[str, str], log: Path) -> Iterator[Child]:
    """Run a process until the context ends."""
    child = Child(command, environ, log)
    try:
        yield child
    finally:
        child.end()
