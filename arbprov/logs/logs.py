"""Showing arbprov's log where the author has set up none."""

from __future__ import annotations

import functools
import logging
import threading
import time

from arbprov.dispatcher import Call, Dispatcher
from arbprov.printable import indented, quoted

__all__ = ["Formatter", "ensure_handler", "flush_log", "log_failure"]

logger = logging.getLogger("arbprov")
# Two apps of one process may start at once.
_adding = threading.Lock()


def log_failure(dispatcher: Dispatcher, call: Call) -> None:
    """Log what went wrong in a call by its own code, with the traceback, if anything did."""
    if failure := dispatcher.failure_of(call):
        task = quoted(call.task.id)
        logger.error("task %s of action %r failed\n%s", task, call.task.action, indented(failure))


def flush_log() -> None:
    """Write what is kept back of arbprov's log."""
    for handler in logger.handlers:
        handler.flush()


def ensure_handler(level: int = logging.INFO, who: str = "") -> None:
    """Send arbprov's log to stderr from `level` on, unless logging is set up already.

    Args:
        level: The lowest level that is shown, unless the author has set one.
        who: What each line names the process with; a format, as logging has them.
    """
    with _adding:
        if not logger.hasHandlers():
            _add_handler(level, who)


def _add_handler(level: int, who: str) -> None:
    # asyncio would make the import of all who test a provider much slower.
    from arbprov.logs.batching import GatheringHandler

    handler = GatheringHandler()
    line = f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"
    handler.setFormatter(Formatter(line))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(level)


class Formatter(logging.Formatter):
    """Writes lines as logging does, but each second's date and time only once."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the time of a record."""
        return f"{_written(int(record.created))},{int(record.msecs):03d}"


@functools.lru_cache(maxsize=4)
def _written(second: int) -> str:
    return time.strftime(logging.Formatter.default_time_format, time.localtime(second))
