"""The log of a new process, for tests in this process."""

from __future__ import annotations

import json
import logging

import pytest

from arbprov.logs.setup import LIBRARIES, ensure_handler


@pytest.fixture
def fresh_log(monkeypatch):
    """Have the loggers as a new process has them, and restore them."""
    for variable in ("ARBPROV_LOG_FORMAT", "ARBPROV_LOG_LEVEL"):
        monkeypatch.delenv(variable, raising=False)
    loggers = [logging.getLogger(name) for name in ("", "arbprov", "py.warnings", *LIBRARIES)]
    for logger in loggers:
        monkeypatch.setattr(logger, "handlers", [])
        monkeypatch.setattr(logger, "level", logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger().manager._clear_cache()
    yield
    logging.captureWarnings(False)
    logging.getLogger().manager._clear_cache()


@pytest.fixture
def set_up(fresh_log, monkeypatch):
    """Return a function that sets up the log, where an author has set up some handlers."""

    def set_up(*arguments, handlers=(), **options):
        # Here, since pytest has added its own handlers by now.
        monkeypatch.setattr(logging.getLogger(), "handlers", list(handlers))
        ensure_handler(*arguments, **options)

    return set_up


@pytest.fixture
def logged(capsys):
    """Return a function that returns what stderr has had since the last call: objects."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
