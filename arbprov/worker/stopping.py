"""Asking a worker to stop, from any thread, even before it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["DRAINING", "StopSignal"]

# What the log says of a signal that stops a provider; the argument is the signal's name.
DRAINING = "%s: draining; send the signal again to exit now"


class StopSignal:
    """Calls its listener each time it is set; without a listener, the next listener is called.

    >>> stop = StopSignal()
    >>> stop.set()
    >>> with stop.listen(lambda: print("stopping")):
    ...     pass
    stopping
    """

    def __init__(self) -> None:
        # Reentrant: a signal's handler may set it while the same thread holds the lock.
        self._lock = threading.RLock()
        self._listener: Callable[[], object] | None = None
        self._is_set = False

    def set(self) -> None:
        """Ask for a stop."""
        with self._lock:
            self._is_set = True
            if self._listener is not None:
                self._listener()

    @contextmanager
    def listen(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call `listener` each time a stop is asked for, and at once if one was before.

        Raises:
            RuntimeError: There is a listener already.
        """
        with self._lock:
            if self._listener is not None:
                raise RuntimeError("this app runs already")
            self._listener = listener
            if self._is_set:
                listener()
        try:
            yield
        finally:
            with self._lock:
                self._listener, self._is_set = None, False
