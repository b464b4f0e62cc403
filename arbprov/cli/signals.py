"""Ending a command that would go on for ever."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["interruption"]


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; a second signal does what it always does."""
    interrupted = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(*_: object) -> None:
        restore()
        interrupted.set()

    for number in signals:
        signal.signal(number, handle)
    try:
        yield interrupted
    finally:
        restore()
