"""Ending a command that would go on for ever."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["interruption"]


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; a second one ends the command where it is.

    It ends by an exception, so that what the command has started is ended too.
    """
    interrupted = threading.Event()

    def handle(*_: object) -> None:
        if interrupted.is_set():
            raise SystemExit(1)
        interrupted.set()

    previous = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
