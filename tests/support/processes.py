"""Hubs and providers in processes of their own, which tests kill, freeze and restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from support.records import Tail
from support.stopwatch import Stopwatch
from support.waiting import TIMEOUT, wait_until

_TESTS = Path(__file__).parent.parent


def _path() -> list[str]:
    """Return the folders for imports: the tests', and then this process's own."""
    return [str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]


class Process:
    """A Python process, whose standard error is read continuously."""

    def __init__(self, arguments: list[str], folder: Path, **environ: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(_path())} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.popen.stderr as stderr:
            self._lines.extend(stderr)

    @property
    def log(self) -> str:
        """The log so far."""
        return "".join(self._lines)

    def has_logged(self, words: str) -> bool:
        """Tell whether a line of the log has these words."""
        return any(words in line for line in self._lines)

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for the exit; return the exit code."""
        code = self.popen.wait(timeout)
        self._reader.join(timeout)
        self.popen.stdout.close()
        return code

    def kill(self) -> None:
        self.popen.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the exit; return the seconds that this took.

        Seconds in which the process waited for a free core are not counted.
        """
        stopwatch = Stopwatch(self.popen.pid)
        self.send(number)
        if sys.platform == "linux":
            # The system keeps the figures of a process until its exit code is read.
            flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
            wait_until(lambda: os.waitid(os.P_PID, self.popen.pid, flags))
            took = stopwatch.seconds
            self.wait()
            return took
        self.wait()
        return stopwatch.seconds


class HubProcess:
    """A durable hub that can be killed and restarted."""

    def __init__(self, folder: Path, address: str = "127.0.0.1:0", **settings: Any) -> None:
        self._folder = folder
        self._settings = {"log": "log", "address": address} | settings
        self._results = Tail(folder / "log", b'"result"')
        self._handed = Tail(folder / "log", b'"handed"')
        self._starts = 0
        self.start()

    def start(self) -> None:
        self._starts += 1
        settings = json.dumps(self._settings | {"seed": self._starts})
        self._process = Process(["-m", "support.durable_hub", settings], self._folder)
        self.port = int(self._process.popen.stdout.readline())

    def kill(self) -> None:
        self._process.kill()

    def freeze(self) -> None:
        self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send(signal.SIGCONT)

    @property
    def address(self) -> str:
        """The address that the hub listens on now."""
        return f"127.0.0.1:{self.port}"

    @property
    def results(self) -> int:
        """The number of results that the hub has accepted, with repetitions."""
        return self._results.count

    @property
    def handed(self) -> int:
        """The number of tasks that the hub has handed out."""
        return self._handed.count

    def __enter__(self) -> HubProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def start_provider(folder: Path, hub_url: str, **environ: str) -> Process:
    """Start the provider that keeps records."""
    environ = {"HUB_GRPC_URL": hub_url, "PROVIDER_AUTH_TOKEN": "sample-token"} | environ
    return Process(["-m", "support.chaos_provider"], folder, **environ)
