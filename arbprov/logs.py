"""arbprov's log: its handler for stderr, the line of each task, and the tracebacks of failures."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from arbprov._utils import MEBIBYTE, format_user_traceback, indent_lines, quote
from arbprov.dispatcher import Call, Dispatcher
from arbprov.errors import TaskError
from arbprov.payload.validation import ValidationFailure
from arbprov.responses import error_response
from arbprov.task import TaskResult

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "BatchingHandler",
    "Formatter",
    "TaskLog",
    "ensure_handler",
    "flush_log",
    "log_failure",
]

logger = logging.getLogger("arbprov")
# Two apps of one process may start at once.
_adding_handler = threading.Lock()
# Seconds that a line may wait in its batch.
_BATCH_SECONDS = 0.05
# Bytes that a pipe takes at once, by POSIX.
_PIPE_BUF = 512
# Bytes that are kept while nothing reads stderr.
_MAX_PENDING = MEBIBYTE
_TASK_MESSAGE = "task %s of action %s: %s"


def log_failure(dispatcher: Dispatcher, call: Call) -> None:
    """Log the traceback of a call that failed in the author's code; ignore all other calls."""
    error = call.error
    if error is None or issubclass(type(error), TaskError):
        return
    if issubclass(type(error), ValidationFailure):
        text = error_response(error).message
    else:
        text = format_user_traceback(error)
    logger.error(
        "task %s of action %r failed\n%s",
        quote(call.task.id),
        call.task.action,
        indent_lines(dispatcher.redact(text, call)),
    )


def _handle_safely(record: logging.LogRecord) -> None:
    """Handle a record of arbprov; an error of an author's handler or filter is only reported."""
    try:
        type(logger).handle(logger, record)
    except BaseException:
        _report_once()


@functools.lru_cache(maxsize=1)
def _report_once() -> None:
    with contextlib.suppress(Exception):
        print("arbprov: a log handler or filter failed:", file=sys.stderr)  # noqa: T201
        traceback.print_exc()


logger.handle = _handle_safely  # type: ignore[method-assign]


def flush_log() -> None:
    """Write all lines that arbprov's handlers still hold."""
    for handler in logger.handlers:
        handler.flush()


def ensure_handler(level: int = logging.INFO, who: str = "") -> None:
    """Send arbprov's log to stderr, unless the author has configured logging.

    Args:
        level: The lowest level to log, unless the author has set a level.
        who: The process's name on each line, as a `logging` format: ``"worker-%(process)d "``.
    """
    with _adding_handler:
        if logger.hasHandlers():
            return
        handler = BatchingHandler()
        handler.setFormatter(Formatter(f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"))
        logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


class Formatter(logging.Formatter):
    """Formats records as `logging` does, but formats the date of each second only once."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return a record's time as text."""
        return f"{_format_second(int(record.created))},{int(record.msecs):03d}"


@functools.lru_cache(maxsize=4)
def _format_second(second: int) -> str:
    return time.strftime(logging.Formatter.default_time_format, time.localtime(second))


class BatchingHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic in Python 3.10
    """Writes log lines to stderr, in batches if they are logged on an event loop.

    Writing each line by itself takes longer than running a small task. Warnings, and lines that
    are logged where no loop runs, are written at once, together with the batch before them.

    Writing never blocks: while nothing reads stderr, lines are kept, and then dropped and counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        # Formatted lines that stderr has not taken, since nothing reads it.
        self._pending = b""
        self._dropped = 0
        # The loop on which `flush` is scheduled. It may be closed before that.
        self._loop: asyncio.AbstractEventLoop | None = None
        # A forked process would write the same batch again.
        os.register_at_fork(before=self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record to the batch; `logging` holds the handler's lock."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)
        if record.levelno >= logging.WARNING or not self._schedule_flush():
            self.flush()

    def flush(self) -> None:
        """Write the batch, as far as that does not block."""
        self.acquire()
        try:
            self._loop = None
            self._pending += "".join(self._lines).encode(errors="backslashreplace")
            self._lines.clear()
            # A closed stderr must not make a task fail.
            try:
                self._write_pending()
            except (OSError, ValueError):
                self._pending = b""
            if len(self._pending) > _MAX_PENDING:
                # The oldest lines stay; the first of them may be written in part already.
                kept = self._pending.rfind(b"\n", 0, _MAX_PENDING) + 1
                self._dropped += self._pending.count(b"\n", kept)
                self._pending = self._pending[:kept]
            if self._pending:
                self._schedule_flush()
        finally:
            self.release()

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
        while self._pending and _is_writable(descriptor):
            # A pipe takes this much without blocking once it is writable.
            written = os.write(descriptor, self._pending[:_PIPE_BUF])
            self._pending = self._pending[written:]
            if self._dropped and not self._pending:
                self._pending = (
                    f"... {self._dropped} lines of the log were dropped: stderr was not read\n"
                ).encode()
                self._dropped = 0

    def _schedule_flush(self) -> bool:
        """Have the running event loop write the batch soon; return False if no loop runs."""
        # Imported here: asyncio would make `import arbprov` and the test client much slower.
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(_BATCH_SECONDS, self.flush)
        return True


def _is_writable(descriptor: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - there, select is for sockets only
        return True
    # Not select(), which takes no descriptor above 1023.
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


class TaskLog:
    """Logs the status of each task's result.

    For each record, `logging` determines the logger, the source line and the thread. Here, they are
    always the same: copying them from a first record makes a line a third cheaper (by cachegrind).
    If the author has another logger class or record factory, that makes the records.

    It belongs to the thread that makes it.

    Args:
        logger: The logger to log to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._makes_records = type(logger).makeRecord is not logging.Logger.makeRecord
        line = TaskLog.log_result.__code__.co_firstlineno
        first = logging.LogRecord(
            logger.name, logging.INFO, __file__, line, _TASK_MESSAGE, (), None, "log_result"
        )
        self._template = vars(first)
        self._started_at = first.created - first.relativeCreated / 1000

    def log_result(self, result: TaskResult) -> None:
        """Log a result's task, action and status."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        arguments = (quote(result.id), quote(result.action), result.status.value)
        if self._makes_records or logging.getLogRecordFactory() is not logging.LogRecord:
            self._logger.info(_TASK_MESSAGE, *arguments)
            return
        now = time.time()
        record = logging.LogRecord.__new__(logging.LogRecord)
        vars(record).update(self._template)
        record.args = arguments
        record.created = now
        record.msecs = now % 1 * 1000 // 1
        record.relativeCreated = (now - self._started_at) * 1000
        if "taskName" in self._template:  # pragma: no cover - from Python 3.12 on
            vars(record)["taskName"] = _task_name()
        self._logger.handle(record)


def _task_name() -> str | None:  # pragma: no cover - from Python 3.12 on
    import asyncio

    if not getattr(logging, "logAsyncioTasks", False):
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None
    return None if task is None else task.get_name()
