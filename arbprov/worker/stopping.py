"""Asking what runs to stop, from any thread, even before it has begun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["StopSignal"]


class StopSignal:
    """Calls whoever listens; a turn that nobody hears waits for the next listener."""

    def __init__(self) -> None:
        # Whoever turns it may be a signal's handler, which comes in the midst of this, too.
        self._lock = threading.RLock()
        self._listener: Callable[[], object] | None = None
        self._turned = False

    def turn(self) -> None:
        """Ask for a stop."""
        with self._lock:
            self._turned = True
            if self._listener is not None:
                self._listener()

    @contextmanager
    def listen(self, listener: Callable[[], object]) -> Iterator[None]:
        """Have `listener` called for each turn, at once if there was one already.

        Raises:
            RuntimeError: Somebody listens already.
        """
        with self._lock:
            if self._listener is not None:
                raise RuntimeError("this app runs already")
            self._listener = listener
            if self._turned:
                listener()
        try:
            yield
        finally:
            with self._lock:
                self._listener, self._turned = None, False
