"""What observers are told of a worker's polls, tasks and submissions."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from support.hubs import ScriptedHub
from support.loops import JumpingLoop, run_jumping
from support.running import Running, away, tasks
from support.waiting import TIMEOUT

from arbprov import InvalidPayloadError, ProviderApp
from arbprov.instrumentation.observer import ObservedHub, Observer, Observers
from arbprov.wire.hub import Pause, Renewal

current = contextvars.ContextVar("current", default="")


class Recording(Observer):
    def __init__(self):
        self.told = []

    def polled(self, seconds, task, error):
        self.told.append(("polled", task and task.id, error and str(error)))

    def task_started(self, task):
        current.set(task.id)
        self.told.append(("started", task.id))

    def task_ended(self, result, seconds, error):
        assert 0 <= seconds < TIMEOUT
        self.told.append(("ended", result.id, result.status.value, current.get(), error))

    def submitted(self, key, seconds, error):
        self.told.append(("submitted", key, error and str(error)))


class Failing(Observer):
    calls = 0

    def polled(self, seconds, task, error):
        Failing.calls += 1
        raise ValueError("the backend is away")


@pytest.fixture
def app():
    app = ProviderApp("test")

    @app.action
    async def work(seconds: float = 0.0) -> str:
        await asyncio.sleep(seconds)
        return current.get()

    @app.action
    def plain() -> str:
        return current.get()

    return app


def told(app, *events, until=1.0, **script):
    """Return what an observer is told of some kinds of events."""
    recording, running = Recording(), Running(app, **script)
    running.observers = Observers([recording])
    running.until(until)
    return [event for event in recording.told if event[0] in events]


def test_each_poll_is_told_with_its_task(app):
    assert told(app, "polled", polls=[*tasks(1), Pause(7.0)])[:2] == [
        ("polled", "t0", None),
        ("polled", None, None),
    ]


def test_a_poll_that_fails_is_told_with_its_error(app):
    assert told(app, "polled", polls=[away()])[0] == ("polled", None, "away")


def test_a_task_is_told_at_its_start_and_at_its_end(app):
    script = {"polls": tasks(1, payload=b'{"seconds": 0.25}')}
    assert told(app, "started", "ended", **script) == [
        ("started", "t0"),
        ("ended", "t0", "success", "t0", None),
    ]


def test_a_task_that_is_refused_is_told_too(app):
    ((*ended, error),) = told(app, "ended", polls=tasks(1, payload=b"[]"))
    assert ended == ["ended", "t0", "error", "t0"]
    assert isinstance(error, InvalidPayloadError)


def test_the_leases_of_an_observed_hub_are_renewed():
    hub = ScriptedHub(renew_interval=20.0)
    observed = ObservedHub(hub, Observers([]))
    answer = run_jumping(observed.renew([("t0", 1)]), JumpingLoop())
    assert (answer, observed.renew_interval) == (Renewal(), 20.0)
    assert [keys for _, keys in hub.renewed] == [[("t0", 1)]]


def test_an_observed_hub_gets_reports():
    hub = ScriptedHub(report_interval=5.0, reports=[True])
    observed = ObservedHub(hub, Observers([]))
    assert run_jumping(observed.report(b'{"process":"1"}'), JumpingLoop())
    assert observed.report_interval == 5.0
    assert [fields for _, fields in hub.reported] == [{"process": "1"}]


def test_each_attempt_to_send_a_result_is_told(app):
    sent = told(app, "submitted", polls=tasks(1), submits=[away()], until=5.0)
    assert sent == [("submitted", ("t0", 0), "away"), ("submitted", ("t0", 0), None)]


def test_a_handler_has_the_context_of_the_start(app):
    running = Running(app, polls=tasks(1))
    running.observers = Observers([Recording()])
    assert running.until(1.0).results[0][1].data == "t0"


def test_an_observer_that_raises_changes_no_task(app):
    running = Running(app, polls=tasks(3))
    running.observers = Observers([Failing(), Recording()])
    assert running.until(1.0).statuses == ["success"] * 3


def test_an_observer_that_raises_is_reported_once_and_told_no_more(app, caplog):
    Failing.calls = 0
    running = Running(app, polls=tasks(3))
    running.observers = Observers([Failing()])
    running.until(1.0)
    assert Failing.calls == 1
    assert [r.getMessage() for r in caplog.records if "Failing" in r.getMessage()] == [
        "Failing has failed, and sees nothing more of this run"
    ]


@pytest.mark.parametrize(
    "event", ["polled", "task_started", "task_ended", "submitted", "run_ended"]
)
def test_an_observer_may_raise_at_any_event(app, caplog, monkeypatch, event):
    observer = Observer()
    monkeypatch.setattr(observer, event, lambda *arguments: 1 / 0)
    running = Running(app, polls=tasks(2))
    running.observers = Observers([observer])
    assert running.until(1.0).statuses == ["success"] * 2
    assert caplog.messages.count("Observer has failed, and sees nothing more of this run") == 1


def test_an_observer_hears_nothing_by_default():
    observer = Observer()
    assert observer.polled(0.0, None, None) is None
    assert observer.task_started(tasks(1)[0]) is None
    assert observer.task_ended(None, 0.0, None) is None
    assert observer.submitted(("t0", 0), 0.0, None) is None
    assert observer.run_ended() is None
