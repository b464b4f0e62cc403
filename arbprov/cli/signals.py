"""Ending a command that runs until it is interrupted."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Iterator

__all__ = ["Interruption", "catch_interruption"]


class Interruption:
    """Whether a signal that ends the command has arrived; see `catch_interruption`.

    Not a `threading.Event`, because setting an event takes the lock that this thread holds while it
    waits for the event: a signal at that moment would block for ever.
    """

    def __init__(self, wakeups: socket.socket) -> None:
        self._wakeups = wakeups
        self._has_arrived = False

    def is_set(self) -> bool:
        """Tell whether a signal has arrived."""
        return self._has_arrived

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a signal, `timeout` seconds at most; return whether it has arrived."""
        while not self._has_arrived and select.select([self._wakeups], [], [], timeout)[0]:
            # Read the wakeups of other signals too, or each later wait would return at once.
            self._wakeups.recv(64)
        return self._has_arrived

    def handle(self, *_: object) -> None:
        """Handle a signal.

        Raises:
            SystemExit: It is the second signal.
        """
        if self._has_arrived:
            raise SystemExit(1)
        self._has_arrived = True


@contextlib.contextmanager
def catch_interruption() -> Iterator[Interruption]:
    """Yield an object that SIGTERM, SIGINT and SIGHUP set; a second signal raises `SystemExit`.

    An exception, so that the command's ``with`` blocks end the processes that it has started.
    """
    with contextlib.ExitStack() as stack:
        receiver, sender = (stack.enter_context(end) for end in socket.socketpair())
        sender.setblocking(False)
        interruption = Interruption(receiver)
        # Python calls a signal handler only between two instructions, so not while `select` waits;
        # the wakeup descriptor is written to at once.
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(sender.fileno()))
        for number in _find_signals():
            previous = signal.signal(number, interruption.handle)
            stack.callback(signal.signal, number, previous)
        yield interruption


def _find_signals() -> list[signal.Signals]:
    """Return the signals that end a command; a terminal that closes sends SIGHUP."""
    found = [signal.SIGTERM, signal.SIGINT]
    # Not on Windows; and `nohup` has it ignored.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return found
