"""Waiting for another thread or process where no event reports its progress."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Seconds before a test gives up waiting; even on a busy machine, nothing takes as long.
TIMEOUT = 60.0


def wait_until(condition: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """Call `condition` until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {timeout:g} s"
        time.sleep(0.005)
    return outcome


def wait_for_line(process: subprocess.Popen[str], text: str, timeout: float = TIMEOUT) -> str:
    """Read a process's stderr up to the line with `text`, and return the lines before it."""
    lines: list[str] = []
    found: list[bool] = []

    def read() -> None:
        while (line := process.stderr.readline()) and text not in line:
            lines.append(line)
        found.append(bool(line))

    # On a thread, since nothing bounds the time of `readline`.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout)
    how = "has ended without a line" if found else f"has written no line in {timeout:g} s"
    assert any(found), f"the process {how} with {text!r}: {''.join(lines)}"
    return "".join(lines)
