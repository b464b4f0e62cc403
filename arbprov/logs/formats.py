"""The log as text, and the substitute of a record that can't be formatted."""

from __future__ import annotations

import functools
import logging
import time

from arbprov._utils import class_name, text_of

__all__ = ["TextFormatter", "message_of", "substitute_record"]


class TextFormatter(logging.Formatter):
    """Formats records as `logging` does, but formats the date of each second only once."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return a record's time as text."""
        return f"{_format_second(int(record.created))},{int(record.msecs):03d}"


@functools.lru_cache(maxsize=4)
def _format_second(second: int) -> str:
    return time.strftime(logging.Formatter.default_time_format, time.localtime(second))


def message_of(record: logging.LogRecord) -> str:
    """Return a record's message; if its arguments do not fit it, the message says so.

    >>> message_of(logging.makeLogRecord({"msg": "%d of %d", "args": (1, 2)}))
    '1 of 2'
    >>> message_of(logging.makeLogRecord({"msg": "%d of %d", "args": (1,)}))
    "'%d of %d' can't be logged: TypeError: not enough arguments for format string"
    """
    try:
        message = record.getMessage()
        # A subclass of str may have methods of the author's.
        return message if type(message) is str else text_of(message)
    except BaseException as error:
        return f"{text_of(record.msg)!r} can't be logged: {class_name(error)}: {text_of(error)}"


def substitute_record(record: logging.LogRecord, error: BaseException) -> logging.LogRecord:
    """Return a record that any formatter can format, in place of a record that has raised `error`.

    Python's own way, `logging.Handler.handleError`, may block: it writes to stderr.
    """
    place = f"{text_of(record.pathname)}:{text_of(record.lineno)}"
    text = f"{text_of(record.msg)!r} of {place} can't be logged: {class_name(error)}: "
    return logging.makeLogRecord(
        {
            "name": text_of(record.name),
            "levelno": logging.ERROR,
            "levelname": "ERROR",
            "msg": f"{text}{text_of(error)}",
        }
    )
