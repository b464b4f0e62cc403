"""The handler that writes log lines to stderr, in batches, and never blocks."""

from __future__ import annotations

import contextvars
import logging
import os
import select
import sys
from typing import TYPE_CHECKING

from arbprov._utils import MEBIBYTE
from arbprov.logs.formats import substitute_record

if TYPE_CHECKING:
    import asyncio

__all__ = ["BatchingHandler"]

# Seconds that a line may wait in its batch.
_BATCH_SECONDS = 0.05
# Bytes that a pipe takes at once, without mixing them with the bytes of another process.
_PIPE_BUF = getattr(select, "PIPE_BUF", 512)
# Bytes that are kept while nothing reads stderr.
_MAX_PENDING = MEBIBYTE


class BatchingHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic in Python 3.10
    """Writes log lines to stderr, in batches if they are logged on an event loop.

    Writing each line by itself takes longer than running a small task. Warnings, and lines that
    are logged where no loop runs, are written at once, together with the batch before them.

    Writing never blocks: while nothing reads stderr, lines are kept, and then dropped and counted.
    A record that can't be formatted raises nothing: its line says why. Lines of up to 4 KiB (on
    Linux) stay whole if several processes write to a pipe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        # Formatted lines that stderr has not taken, since nothing reads it.
        self._pending = b""
        self._dropped = 0
        self._is_flushing = False
        # The loop on which `flush` is scheduled. It may be closed before that.
        self._loop: asyncio.AbstractEventLoop | None = None
        # A forked process would write the same batch again, and another thread may be writing.
        os.register_at_fork(before=self.flush, after_in_child=self._begin_again)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record to the batch; `logging` holds the handler's lock."""
        self._lines.append(self._format_safely(record) + self.terminator)
        if record.levelno >= logging.WARNING or not self._schedule_flush():
            self.flush()

    def flush(self) -> None:
        """Write the batch, as far as that does not block."""
        self.acquire()
        try:
            # A signal's handler may log while this thread writes, and so may the stream itself.
            if not self._is_flushing:
                self._is_flushing = True
                try:
                    self._flush()
                finally:
                    self._is_flushing = False
        finally:
            self.release()

    def _begin_again(self) -> None:
        self._is_flushing = False

    def _flush(self) -> None:
        self._loop = None
        lines, self._lines = self._lines, []
        self._pending += "".join(lines).encode(errors="backslashreplace")
        # A closed stderr, or what the author has put in its place, must not make a task fail.
        try:
            self._write_pending()
        except Exception:
            self._pending = b""
        if len(self._pending) > _MAX_PENDING:
            # The oldest lines stay; the first of them may be written in part already.
            kept = self._pending.rfind(b"\n", 0, _MAX_PENDING) + 1
            self._dropped += self._pending.count(b"\n", kept)
            self._pending = self._pending[:kept]
        if self._pending or self._lines:
            self._schedule_flush()

    def _format_safely(self, record: logging.LogRecord) -> str:
        """Return the line of a record; the author's objects in it may raise anything."""
        try:
            return self.format(record)
        except BaseException as error:
            return self.format(substitute_record(record, error))

    def _write_pending(self) -> None:
        if self.stream is None:  # stderr was closed when Python started
            self._pending = b""
            return
        try:
            descriptor = self.stream.fileno()
        except (AttributeError, OSError):  # in memory
            self.stream.write(self._pending.decode())
            self.stream.flush()
            self._pending = b""
            return
        self.stream.flush()
        self._pending = _write(descriptor, self._pending)
        if self._dropped and not self._pending:
            self._pending = _write(descriptor, self._describe_dropped().encode())
            self._dropped = 0

    def _describe_dropped(self) -> str:
        """Return a line about the lines that were dropped; it belongs to no task."""
        text = f"{self._dropped} lines of the log were dropped: stderr was not read"
        record = logging.LogRecord(
            "arbprov", logging.WARNING, __file__, 0, text, None, None, "_describe_dropped"
        )
        return contextvars.Context().run(self.format, record) + self.terminator

    def _schedule_flush(self) -> bool:
        """Have the running event loop write the batch soon; return False if no loop runs."""
        try:
            # Imported here: asyncio would make `import arbprov` and the test client much slower.
            import asyncio

            loop = asyncio.get_running_loop()
        except (ImportError, RuntimeError):  # at the end of the process, nothing can be imported
            return False
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(_BATCH_SECONDS, self.flush)
        return True


def _write(descriptor: int, data: bytes) -> bytes:
    """Write whole lines, as far as that does not block; return the rest."""
    position = 0
    while position < len(data) and _is_writable(descriptor):
        # A pipe takes this much without blocking once it is writable.
        end = position + _PIPE_BUF
        if end < len(data):
            # If no line ends there, a part of a line.
            end = data.rfind(b"\n", position, end) + 1 or end
        position += os.write(descriptor, data[position:end])
    return data[position:]


def _is_writable(descriptor: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - there, select is for sockets only
        return True
    # Not select(), which takes no descriptor above 1023.
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
