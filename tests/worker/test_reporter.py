"""A worker's reports, on a scripted hub and in an event loop whose time jumps."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
from support.hubs import Held
from support.loops import BEGIN, JumpingLoop, run_jumping
from support.running import Running, away, tasks

import arbprov.worker.reports
from arbprov import Concurrency, ProviderApp
from arbprov._version import __version__
from arbprov.task import Task

FAILED = "the hub was not told how this provider stands, retrying: "


class InlinePool:
    """Runs work at once: the loop's time would jump on while a thread works."""

    def __init__(self, loop, name):
        self._loop = loop

    def run(self, work):
        future = self._loop.create_future()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self):
        pass


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setattr(arbprov.worker.reports, "ThreadPool", InlinePool)


@pytest.fixture
def app():
    app = ProviderApp("test", execution_timeout=600)

    @app.action
    @app.rate_limit("5/minute")
    async def work(seconds: float = 0.0) -> None:
        """Work for a while."""
        await asyncio.sleep(seconds)

    return app


def reporting(app, interval=5.0, **script):
    """Return an app on a hub that asks for reports."""
    one = Running(app, **script)
    one.hub.report_interval = interval
    return one


def times(one):
    return [round(at - BEGIN) for at, _ in one.hub.reported]


def reported(one):
    return [fields for _, fields in one.hub.reported]


# When, and what.


def test_reports_are_sent_at_once_and_then_as_often_as_the_hub_asks(app):
    assert times(reporting(app).until(17)) == [0, 5, 10, 15]


def test_a_hub_that_asks_for_no_reports_gets_none_and_nothing_is_noted(app):
    one = Running(app, polls=tasks(1))
    dispatchers = []
    make = app._dispatcher
    app._dispatcher = lambda clock: dispatchers.append(make(clock)) or dispatchers[-1]
    assert one.until(20).hub.reported == []
    assert dispatchers[0].limiter.recent is None


def test_reports_end_when_the_hub_asks_for_none_any_more_and_begin_again(app):
    one = reporting(app)

    @app.on_startup
    def plan():
        loop = asyncio.get_running_loop()
        for at, interval in [(7, 0.0), (30, 5.0)]:
            loop.call_later(at, setattr, one.hub, "report_interval", interval)

    found = times(one.until(37))
    assert found[:2] == [0, 5]
    assert [at - 30 in (0, 1, 5, 6) for at in found[2:]] == [True, True]


def test_reports_end_with_the_drain(app):
    one = reporting(app, polls=tasks(1, payload=b'{"seconds": 18}')).until(10)
    assert times(one) == [0, 5, 10, 15]
    assert reported(one)[-1]["free_slots"] == 0


def test_nothing_is_reported_after_the_end(app):
    one = reporting(app)
    one.loop = JumpingLoop()

    async def main():
        await one._work(10, one.settings)
        await asyncio.sleep(100)

    run_jumping(main(), one.loop)
    assert max(times(one)) <= 10


def test_a_report_that_hangs_does_not_hold_up_the_end(app):
    one = reporting(app, reports=[Held(1000, False)]).until(10)
    assert one.ended_at == pytest.approx(10, abs=1)


def test_a_report_has_the_process_the_version_and_the_slots(app):
    one = reporting(app, polls=[Held(1), Task("t0", "work", b'{"seconds": 7}')]).until(13)
    first, second, third = reported(one)
    assert first["process"] == second["process"]
    assert f":{os.getpid()}:" in first["process"]
    assert (first["version"], first["slots"]) == (__version__, 4)
    assert [each["free_slots"] for each in (first, second, third)] == [4, 3, 4]


def test_another_worker_has_another_process(app):
    processes = {reported(reporting(app).until(1))[0]["process"] for _ in range(2)}
    assert len(processes) == 2


def test_a_report_has_the_limits_of_the_calls_so_far(app):
    one = reporting(app, polls=[Held(1), *tasks(2)]).until(7)
    first, second = (each["limits"] for each in reported(one))
    assert first == []
    (limit,) = second
    assert (limit["limit"], limit["total"], limit["left"]) == ("5/minute", 5, 3)


def test_a_report_counts_the_tasks_that_wait_for_a_limit(app):
    @app.action
    @app.rate_limit(Concurrency(1), max_wait=100)
    async def one_by_one() -> None:
        await asyncio.sleep(8)

    one = reporting(app, polls=tasks(3, "one_by_one")).until(6)
    (limit,) = reported(one)[1]["limits"]
    assert (limit["waiting"], limit["left"], limit["total"]) == (2, 0, 1)


# Actions.


def test_the_actions_are_in_the_first_report_only(app):
    first, *others = reported(reporting(app).until(11))
    (action,) = first["actions"]
    assert (action["name"], action["description"], action["limits"]) == (
        "work",
        "Work for a while.",
        ["5/minute"],
    )
    assert action["payload_schema"]["properties"]["seconds"] == {"type": "number", "default": 0.0}
    assert "account_schema" not in action
    assert ["actions" in each for each in others] == [False, False]


def test_the_hub_gets_the_actions_again_when_it_asks_for_them(app):
    found = reported(reporting(app, reports=[False, True]).until(16))
    assert ["actions" in each for each in found] == [True, False, True, False]
    assert found[0]["actions"] == found[2]["actions"]


def test_the_actions_are_sent_until_the_hub_has_them(app):
    found = reported(reporting(app, reports=[away(), away()]).until(16))
    assert ["actions" in each for each in found] == [True, True, True, False]


def test_the_account_of_an_action_is_described_if_it_takes_one(app):
    app.action("pay", account_schema={"id": int})(lambda: None)
    _, pay = reported(reporting(app).until(1))[0]["actions"]
    assert pay["account_schema"]["required"] == ["id"]


def test_the_limits_of_an_action_are_those_of_the_app_and_of_the_handler_too():
    app = ProviderApp("test", rate_limit="9/day")
    app.action("work")(
        app.rate_limit("5/minute", name="vendor", manual=True)(
            app.rate_limit("5/second; 1/day", key="account.id")(lambda: None)
        )
    )
    (work,) = reported(reporting(app).until(1))[0]["actions"]
    assert work["limits"] == ["9/day", "5/second; 1/day per account.id", "5/minute (manual)"]


def test_an_action_whose_schema_cannot_be_made_is_reported_without_it(app, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(arbprov.worker.reports, "describe_binding", fail)
    (work,) = reported(reporting(app).until(1))[0]["actions"]
    assert work == {"name": "work", "description": "Work for a while.", "limits": ["5/minute"]}


def test_an_action_whose_name_is_too_long_is_not_reported(app):
    app.action("x" * 1_001)(lambda: None)
    (work,) = reported(reporting(app).until(1))[0]["actions"]
    assert work["name"] == "work"


# Failures.


def test_reports_that_fail_are_logged_once_until_a_report_works(app, caplog):
    caplog.set_level(logging.INFO)
    one = reporting(app, polls=tasks(1), reports=[away(), away(), False, away()]).until(21)
    lines = [line for line in caplog.messages if line.startswith(FAILED)]
    assert lines == [f"{FAILED}away"] * 2
    assert len(one.hub.reported) == 5
    assert one.statuses == ["success"]
    assert "lost the hub" not in caplog.text


def test_reports_that_fail_while_the_hub_is_away_are_not_in_the_log(app, caplog):
    caplog.set_level(logging.INFO)
    one = reporting(app, polls=[None], afterwards=away(), reports=[False, away(), away()])
    one.hub.is_connected = False
    one.until(11)
    assert "lost the hub" in caplog.text
    assert FAILED not in caplog.text


def test_a_report_that_cannot_be_made_costs_no_task(app, caplog, monkeypatch):
    def fail(self, waiting):
        raise RuntimeError("secret")

    monkeypatch.setattr(arbprov.worker.reports.LimitReporter, "read", fail)
    one = reporting(app, polls=tasks(1)).until(6)
    assert (one.statuses, one.hub.reported) == (["success"], [])
    assert [line for line in caplog.messages if FAILED in line] == [f"{FAILED}RuntimeError"]
    assert "secret" not in caplog.text
