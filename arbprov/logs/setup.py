"""BEGIN HERE: sets up the log of a process, unless the author has."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

from arbprov.errors import ConfigurationError
from arbprov.logs.formats import TextFormatter
from arbprov.logs.handler import BatchingHandler
from arbprov.logs.json_lines import SERVICE_NAME, WORKER, JsonFormatter

__all__ = [
    "SUPERVISOR",
    "add_filter",
    "ensure_handler",
    "flush_log",
    "name_provider",
    "quiet_libraries",
    "read_format",
    "read_level",
    "set_level",
]

# The name of the process that starts the workers; its lines of text have no name.
SUPERVISOR = "supervisor"

_FORMAT = "ARBPROV_LOG_FORMAT"
_LEVEL = "ARBPROV_LOG_LEVEL"
_FORMATS = ("console", "json")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Loggers of libraries that log whole URLs, requests or credentials below WARNING: each of them at
# INFO or at DEBUG.
LIBRARIES = (
    "azure.core.pipeline.policies.http_logging_policy",
    "botocore",
    "elastic_transport",
    "gql.transport",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "opensearch",
    "urllib3",
)

logger = logging.getLogger("arbprov")
# Two apps of one process may start at once.
_adding_handler = threading.Lock()


def ensure_handler(
    level: int = logging.INFO,
    *,
    provider: str = "",
    worker: str = "",
    is_quiet: bool = False,
    is_for_people: bool = False,
) -> None:
    """Send the log of the process to stderr, unless the author has configured logging.

    Args:
        level: The lowest level to log, unless the variable or the author has set a level.
        provider: The provider's name, if it is known.
        worker: The process's name on each line, if there are several.
        is_quiet: Whether to log only warnings and errors.
        is_for_people: Whether to write text even where nothing asks for it.

    Raises:
        ConfigurationError: A variable is not valid.
    """
    log_format, level = read_format(), read_level(level)
    root = logging.getLogger()
    with _adding_handler:
        if root.handlers or logger.handlers:
            return
        handler = BatchingHandler()
        if log_format == "console" or is_for_people:
            who = "%(processName)s[%(process)d] " if worker not in {"", SUPERVISOR} else ""
            handler.setFormatter(
                TextFormatter(f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s")
            )
        else:
            names = {SERVICE_NAME: provider, WORKER: worker}
            handler.setFormatter(JsonFormatter({n: text for n, text in names.items() if text}))
            # They would be text among the lines of JSON.
            logging.captureWarnings(True)
        if is_quiet:
            handler.setLevel(logging.WARNING)
        quiet_libraries()
        set_level(root, level)
        root.addHandler(handler)


def set_level(root: logging.Logger, level: int) -> None:
    """Set the root logger's level, unless the author has; the variable overrides both."""
    if root.level == logging.WARNING or _LEVEL in os.environ:  # Python's default
        root.setLevel(level)


def add_filter(add: Callable[[logging.LogRecord], bool]) -> None:
    """Have arbprov's handler call a function with each record, in the context of its author."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BatchingHandler):
            handler.addFilter(add)


def flush_log() -> None:
    """Write all lines that arbprov's handlers still hold."""
    for handler in (*logger.handlers, *logging.getLogger().handlers):
        if isinstance(handler, BatchingHandler):
            handler.flush()


def name_provider(name: str) -> None:
    """Have the lines of arbprov's handler name the provider from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter) and name:
            formatter = handler.formatter
            formatter.resource = {SERVICE_NAME: name, **formatter.resource}


def quiet_libraries() -> None:
    """Let libraries that log URLs log only warnings, unless the author has set their levels."""
    for name in LIBRARIES:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)


def read_format() -> str:
    """Return how the log is written: ``"console"`` or ``"json"``.

    Raises:
        ConfigurationError: The variable is not valid.
    """
    text = os.environ.get(_FORMAT)
    if text is None:
        return "console" if _is_terminal() else "json"
    if text not in _FORMATS:
        raise ConfigurationError(f"{_FORMAT} {text!r} must be console or json")
    return text


def read_level(default: int = logging.INFO) -> int:
    """Return the lowest level to log.

    Args:
        default: The level without the variable.

    Raises:
        ConfigurationError: The variable is not valid.
    """
    text = os.environ.get(_LEVEL)
    if text is None:
        return default
    if text.upper() not in _LEVELS:
        raise ConfigurationError(f"{_LEVEL} {text!r} must be {', '.join(_LEVELS[:-1])} or CRITICAL")
    level: int = getattr(logging, text.upper())
    return level


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except Exception:  # it is closed, or the author has put something else in its place
        return False
