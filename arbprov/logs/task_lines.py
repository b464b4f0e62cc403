"""The line that each task leaves in the log."""

from __future__ import annotations

import asyncio
import logging
import time

from arbprov.printable import quoted
from arbprov.task import TaskResult

__all__ = ["TaskLog"]

_MESSAGE = "task %s of action %s: %s"


class TaskLog:
    """Logs how each task has ended.

    What logging finds out for each record is the same for all of these: who logs, from where, on
    which thread. To find it out once makes a line a third cheaper, by cachegrind. Where an author
    makes records in another way, that is used.

    It belongs to the thread that makes it.

    Args:
        logger: Where the lines go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._makes_records = type(logger).makeRecord is not logging.Logger.makeRecord
        line = TaskLog.ended.__code__.co_firstlineno
        first = logging.LogRecord(
            logger.name, logging.INFO, __file__, line, _MESSAGE, (), None, "ended"
        )
        self._template = vars(first)
        self._began = first.created - first.relativeCreated / 1000

    def ended(self, result: TaskResult) -> None:
        """Log a result's status, if that is to be seen."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        told = (quoted(result.id), quoted(result.action), result.status.value)
        if self._makes_records or logging.getLogRecordFactory() is not logging.LogRecord:
            self._logger.info(_MESSAGE, *told)
        else:
            self._logger.handle(self._record(told))

    def _record(self, told: tuple[str, ...]) -> logging.LogRecord:
        now = time.time()
        record = logging.LogRecord.__new__(logging.LogRecord)
        vars(record).update(self._template)
        record.args = told
        record.created = now
        record.msecs = now % 1 * 1000 // 1
        record.relativeCreated = (now - self._began) * 1000
        if "taskName" in self._template:  # pragma: no cover - it is from Python 3.12 on
            vars(record)["taskName"] = _task_name()
        return record


def _task_name() -> str | None:  # pragma: no cover - as above
    if not getattr(logging, "logAsyncioTasks", False):
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None
    return None if task is None else task.get_name()
