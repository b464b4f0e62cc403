"""Running an app whose monitoring is served on a free port."""

from __future__ import annotations

import contextlib

import pytest
from support.monitored import Pages
from support.waiting import TIMEOUT

from arbprov.testing import serving


@pytest.fixture
def watch(hub, log_line, caplog):
    """Return a function that runs an app until the test is over, and returns its pages."""
    caplog.set_level("INFO", "arbprov")
    with contextlib.ExitStack() as running:

        def watch(app, its_hub=hub):
            app.config = app.config.override(monitoring="127.0.0.1:0")
            running.enter_context(serving(app, its_hub, stop_within=TIMEOUT))
            return Pages(log_line("serving the monitoring at").rpartition("/")[2])

        yield watch
