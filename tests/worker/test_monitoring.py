"""The monitoring of a worker that a supervisor watches."""

from __future__ import annotations

import threading

import pytest
from support.monitored import parse
from support.running import Running
from support.waiting import TIMEOUT

from arbprov import ProviderApp
from arbprov.worker.monitoring import Monitoring
from arbprov.worker.worker import Worker


@pytest.fixture
def app(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    app = ProviderApp("watched", rate_limit="9/hour")
    app.action("work")(lambda: None)
    return app


@pytest.fixture
def watched(app, monkeypatch):
    """Return a function that runs a worker for a supervisor, and returns its reports."""
    reports = []

    def run(seconds=2.0, report=lambda *report: reports.append(report), address="127.0.0.1:0"):
        work = Worker.run
        dispatcher = app._live_dispatcher()
        run.monitoring = Monitoring(address, dispatcher, report)

        async def watched(worker):
            with run.monitoring.watch(worker):
                run.entered()
                await work(worker)

        monkeypatch.setattr(Worker, "run", watched)
        Running(app).until(seconds)
        return reports

    run.entered = lambda: None
    return run


def test_a_worker_reports_that_it_starts_works_and_drains(watched):
    reports = watched()
    assert reports[0] == (False, "the startup hooks have not ended")
    assert (True, "") in reports
    assert reports[-1] == (True, "it is draining")


def test_without_monitoring_a_worker_only_reports(watched):
    assert (True, "") in watched(address="")
    assert watched.monitoring.metrics is None


def test_without_anything_to_tell_nothing_is_watched(watched):
    assert watched(address="", report=None) == []


def test_the_last_decisions_of_limits_are_counted_at_the_end(watched, app):
    watched.entered = lambda: app.invoke("work")
    watched()
    samples = parse(watched.monitoring.metrics.render().decode())
    assert samples["arbprov_limit_allowed_total"] == {("", "9/hour", "app"): 1}


def test_decisions_that_can_not_be_counted_at_the_end_are_logged(watched, monkeypatch, caplog):
    def fail(self):
        raise OSError("No space left on device")

    monkeypatch.setattr("arbprov.instrumentation.metrics.Metrics.count", fail)
    watched()
    assert "the last metrics could not be counted" in caplog.messages


@pytest.mark.parametrize("error", [None, OSError("No space left on device")])
def test_the_gauges_for_a_supervisor_are_updated_until_that_fails(
    watched, monkeypatch, caplog, error
):
    monkeypatch.setattr("arbprov.worker.monitoring._UPDATE_INTERVAL", 0.01)
    updated, enough = [], threading.Event()

    def update(self, *arguments):
        updated.append(arguments)
        if len(updated) == 3 or error:
            enough.set()
        if error:
            raise error

    monkeypatch.setattr("arbprov.instrumentation.metrics.Metrics.update", update)
    watched.entered = lambda: enough.wait(TIMEOUT)
    before = set(threading.enumerate())
    watched()
    for thread in set(threading.enumerate()) - before:
        thread.join(TIMEOUT)
    failures = ["the metrics have failed, and are not updated any more"] if error else []
    assert [text for text in caplog.messages if "metrics" in text] == failures
    assert (len(updated) == 1) == bool(error)
