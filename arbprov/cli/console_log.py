"""The log as `arbprov dev` shows it: the time of each record, and lines that fit the terminal."""

from __future__ import annotations

import logging
import time

from arbprov._utils import escape_line
from arbprov.cli.terminal import Terminal
from arbprov.logs.handler import BatchingHandler
from arbprov.logs.setup import quiet_libraries, read_level, set_level
from arbprov.logs.task_lines import TaskLog, log_failure
from arbprov.worker.stopping import DRAINING

__all__ = ["INDENT", "MAX_TEXT", "clock_time", "console", "set_up_log"]

# For lines about tasks. Not part of the loggers' tree: an author's own handlers get none of them.
console = logging.Logger("arbprov dev")

# The columns of a line before its text: a time and two spaces.
INDENT = 10
# Characters of a line, before it is folded.
MAX_TEXT = 2_000

# These log each task, which the console shows in its own way.
_TASK_LOGGERS = {TaskLog.log_result.__name__, log_failure.__name__}


def _is_shown(record: logging.LogRecord) -> bool:
    # `dev` stops its provider with a signal that its user knows nothing of.
    return record.funcName not in _TASK_LOGGERS and record.msg != DRAINING


def set_up_log(terminal: Terminal, *, is_quiet: bool) -> None:
    """Send arbprov's log and the author's to stderr; an author's own handlers stay as they are.

    Args:
        terminal: The terminal that stderr writes to.
        is_quiet: Whether arbprov's own log has only warnings and errors.

    Raises:
        ConfigurationError: A variable is not valid.
    """
    handler = BatchingHandler()
    handler.setFormatter(_ConsoleFormatter(terminal))
    console.handlers[:] = [handler]
    # On the logger, so that an author's own handlers don't show these either.
    logging.getLogger("arbprov").addFilter(_is_shown)
    root = logging.getLogger()
    if root.handlers:
        return
    if is_quiet:
        warning = logging.WARNING
        handler.addFilter(lambda record: record.name != "arbprov" or record.levelno >= warning)
    root.addHandler(handler)
    quiet_libraries()
    set_level(root, read_level())


def clock_time(seconds: float) -> str:
    """Return the local time of day of a moment, given in seconds since the epoch."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


class _ConsoleFormatter(logging.Formatter):
    """Formats a record: the time, the logger, and the message folded to the terminal's width."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        if record.name == console.name:
            return record.getMessage()
        first, *others = super().format(record).split("\n")
        if record.name != "arbprov":
            # The logger of a handler's context is named after its action.
            first = f"{record.name.removeprefix('arbprov.')}: {first}"
        if record.levelno >= logging.WARNING:
            first = f"{record.levelname} {first}"
        lines = self._terminal.fold(escape_line(first, MAX_TEXT), INDENT)
        for line in others:
            text = escape_line(line.replace("\t", "    "), MAX_TEXT)
            indent = min(len(text) - len(text.lstrip()), 20)
            lines += self._terminal.fold(text.strip(), INDENT + indent)
        lines[0] = clock_time(record.created) + lines[0][INDENT - 2 :]
        if record.levelno >= logging.ERROR:
            lines[0] = self._terminal.style(lines[0], fg="red")
        elif record.levelno >= logging.WARNING:
            lines[0] = self._terminal.style(lines[0], fg="yellow")
        elif record.name == "arbprov":
            lines[0] = self._terminal.style(lines[0], dim=True)
        return "\n".join(lines)
