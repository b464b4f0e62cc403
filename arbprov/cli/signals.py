"""Ending a command that would go on for ever."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Iterator

__all__ = ["Interruption", "interruption"]


class Interruption:
    """Whether SIGTERM or SIGINT has come.

    No `threading.Event`: a signal may come while this thread waits for one, and so holds the very
    lock that setting it takes.
    """

    def __init__(self, woken: socket.socket) -> None:
        self._woken = woken
        self._has_come = False

    def is_set(self) -> bool:
        """Tell whether one has come."""
        return self._has_come

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for one, `timeout` seconds at most; return whether one has come."""
        while not self._has_come and select.select([self._woken], [], [], timeout)[0]:
            # Or other signals, that somebody else handles, would make each wait a short one.
            self._woken.recv(64)
        return self._has_come

    def handle(self, *_: object) -> None:
        """Note a signal.

        Raises:
            SystemExit: It is the second one.
        """
        if self._has_come:
            raise SystemExit(1)
        self._has_come = True


@contextlib.contextmanager
def interruption() -> Iterator[Interruption]:
    """Yield what SIGTERM and SIGINT set; a second one ends the command where it is.

    It ends by an exception, so that what the command has started is ended too.
    """
    with contextlib.ExitStack() as stack:
        woken, waking = (stack.enter_context(one) for one in socket.socketpair())
        waking.setblocking(False)
        interrupted = Interruption(woken)
        # Written to at once: Python calls a handler later, and not before a wait that has begun.
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(waking.fileno()))
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.signal(number, interrupted.handle)
            stack.callback(signal.signal, number, previous)
        yield interrupted
