"""The lines about tasks: the status of each result, and the tracebacks of failures."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
import traceback

from arbprov._utils import class_name, format_user_traceback, indent_lines, quote, text_of
from arbprov.dispatcher import Call, Dispatcher
from arbprov.errors import TaskError
from arbprov.logs.json_lines import EXCEPTION_MESSAGE, EXCEPTION_TYPE
from arbprov.payload.validation import ValidationFailure
from arbprov.responses import error_response
from arbprov.task import TaskResult

__all__ = ["TaskLog", "log_failure"]

logger = logging.getLogger("arbprov")
_TASK_MESSAGE = "task %s of action %s: %s"


def log_failure(dispatcher: Dispatcher, call: Call) -> None:
    """Log the traceback of a call that failed in the author's code; ignore all other calls."""
    error = call.error
    if error is None or issubclass(type(error), TaskError):
        return
    extra: dict[str, str] = {}
    if issubclass(type(error), ValidationFailure):
        text = error_response(error).message
    else:
        text = format_user_traceback(error)
        extra[EXCEPTION_TYPE] = dispatcher.redact(class_name(error), call)
        extra[EXCEPTION_MESSAGE] = dispatcher.redact(text_of(error), call)
    logger.error(
        "task %s of action %r failed\n%s",
        quote(call.task.id),
        call.task.action,
        indent_lines(dispatcher.redact(text, call)),
        extra=extra,
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
