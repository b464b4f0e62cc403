"""Writing the lines of the log together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

__all__ = ["GatheringHandler"]

# Seconds for which a line may be kept back, so that many are written at once.
_HELD = 0.05


class GatheringHandler(logging.StreamHandler):  # type: ignore[type-arg]  # none in Python 3.10
    """Writes to stderr what is logged on an event loop in the lines of a moment at once.

    To write each by itself takes longer than to run the task that it tells of. Warnings, and what
    is logged where no loop runs, are written at once, and what was gathered before them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        # The loop that will write them; a closed one never will.
        self._loop: asyncio.AbstractEventLoop | None = None
        # A child would write them once more.
        os.register_at_fork(before=self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; `logging` holds the handler's lock."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)
        if record.levelno >= logging.WARNING or not self._is_awaited():
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        self.acquire()
        try:
            text, self._loop = "".join(self._lines), None
            self._lines.clear()
            # Whoever has read the log may be gone; nothing that is logged may end for that.
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(text)
                self.stream.flush()
        finally:
            self.release()

    def _is_awaited(self) -> bool:
        """Return whether a loop will see to it that the lines are written."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(_HELD, self.flush)
        return True
