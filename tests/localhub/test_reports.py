"""What a hub knows of its providers."""

from __future__ import annotations

import pytest

from arbprov.localhub.reports import (
    ActionReport,
    LimitReport,
    ProviderReport,
    Reports,
    read_report,
)
from arbprov.payload.validation import ValidationFailure


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reports(clock):
    return Reports(clock)


def test_a_process_has_its_latest_report(reports, clock):
    reports.put(ProviderReport(provider="weather", process="1", free_slots=3))
    clock.now += 5
    reports.put(ProviderReport(provider="weather", process="1", free_slots=2))
    clock.now += 1
    assert [(report.free_slots, age) for report, age in reports.latest()] == [(2, 1.0)]


def test_each_process_has_a_report(reports):
    for process in ("1", "2"):
        reports.put(ProviderReport(provider="weather", process=process))
    assert [report.process for report, _ in reports.latest()] == ["1", "2"]


def test_a_process_that_reports_no_more_is_forgotten(reports, clock):
    reports.put(ProviderReport(provider="weather", process="1"))
    clock.now += 60
    assert reports.latest() == []


def test_actions_are_known_by_name(reports):
    action = ActionReport(name="forecast", description="Return a forecast.")
    reports.put(ProviderReport(provider="weather", process="1", actions=(action,)))
    assert reports.actions() == {"forecast": action}


def test_the_last_poll_of_each_provider_is_known(reports, clock):
    reports.note_poll("weather")
    clock.now += 2
    assert reports.last_polls() == {"weather": 2.0}


def report(provider="weather", process="1", actions=(), **fields):
    actions = tuple(ActionReport(name=name) for name in actions)
    return ProviderReport(provider=provider, process=process, actions=actions, **fields)


def test_of_two_actions_of_a_name_the_latest_report_counts(reports, clock):
    old, new = (ActionReport(name="forecast", description=text) for text in ("old", "new"))
    reports.put(ProviderReport(provider="weather", process="2", actions=(old,)))
    clock.now += 1
    reports.put(ProviderReport(provider="weather", process="1", actions=(new,)))
    assert reports.actions() == {"forecast": new}


def test_a_thousand_processes_are_kept(reports):
    for number in range(1_001):
        reports.put(report(process=f"{number:04}"))
    processes = [found.process for found, _ in reports.latest()]
    assert (len(processes), processes[0]) == (1_000, "0001")


def test_the_polls_of_a_thousand_providers_are_kept(reports):
    for number in range(1_001):
        reports.note_poll(str(number))
    assert len(reports.last_polls()) == 1_000
    assert "0" not in reports.last_polls()


# Reports without actions.


def test_a_report_without_actions_leaves_those_as_they_were(reports):
    assert reports.receive(report(actions=["a"], actions_cut=1, schemas_cut=2), has_actions=True)
    assert reports.receive(report(free_slots=3), has_actions=False)
    assert reports.receive(report(free_slots=4), has_actions=False)
    ((found, _),) = reports.latest()
    assert (found.free_slots, [*reports.actions()]) == (4, ["a"])
    assert (found.actions_cut, found.schemas_cut) == (1, 2)


def test_the_actions_of_an_unknown_process_are_asked_for_until_they_come(reports):
    reports.put(report(process="2", actions=["a"]))
    assert not reports.receive(report(), has_actions=False)
    assert not reports.receive(report(), has_actions=False)
    assert reports.receive(report(), has_actions=True)


# Which actions run.


def test_the_actions_of_all_that_poll_are_known_if_all_report(reports):
    reports.put(report(actions=["a"]))
    reports.put(report("news", actions=["b"]))
    for provider in ("weather", "news"):
        reports.note_poll(provider, reports=True)
    assert reports.running_actions() == {"a", "b"}
    assert reports.running_actions("news") == {"b"}


def test_without_reports_no_actions_are_known(reports):
    assert reports.running_actions() is None
    reports.put(report(actions=["a"]))
    assert reports.running_actions("news") is None


def test_a_process_that_does_not_report_may_have_any_action(reports, clock):
    reports.put(report(actions=["a"]))
    reports.put(report("news", actions=["b"]))
    reports.note_poll("weather", reports=True)
    reports.note_poll("weather")
    assert reports.running_actions() is None
    assert reports.running_actions("weather") is None
    assert reports.running_actions("news") == {"b"}
    clock.now += 10
    assert reports.running_actions() == {"a", "b"}


def test_a_provider_that_has_not_reported_yet_may_have_any_action(reports):
    reports.put(report(actions=["a"]))
    reports.note_poll("news", reports=True)
    assert reports.running_actions() is None


def test_actions_that_were_left_out_are_unknown(reports):
    reports.put(report(actions=["a"], actions_cut=1))
    assert reports.running_actions() is None
    reports.receive(report(process="2"), has_actions=False)
    reports.put(report(actions=["a"]))
    assert reports.running_actions() is None


# Reports as they are sent.

REQUEST = {"token": "t", "provider": "weather", "process": "1"}
LIMIT = {"action": "forecast", "limit": "5/minute"}


def test_a_report_is_read_with_all_its_parts():
    limit = LIMIT | {"total": 5, "left": 0, "opens_in": 2.5, "closed_by": "the API", "news": 1}
    action = {"name": "forecast", "payload_schema": {"type": "object"}, "limits": ["5/minute"]}
    found = read_report(REQUEST | {"slots": 8, "actions": [action], "limits": [limit]})
    assert found == ProviderReport(
        provider="weather",
        process="1",
        slots=8,
        actions=(
            ActionReport(name="forecast", payload_schema={"type": "object"}, limits=("5/minute",)),
        ),
        limits=(
            LimitReport(
                action="forecast",
                limit="5/minute",
                total=5,
                left=0,
                opens_in=2.5,
                closed_by="the API",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"process": None}, "process: "),
        ({"process": 7}, "process: "),
        ({"process": "x" * 1_001}, "process: must have at most 1000 characters"),
        ({"process": "\ud800"}, "process: a string with a lone surrogate is not Unicode text"),
        ({"slots": -1}, "slots: must be from 0 to 1e+15"),
        ({"slots": 10**400}, "slots: must be from 0 to 1e+15"),
        ({"slots": 1.5}, "slots: "),
        ({"slots": True}, "slots: "),
        ({"actions": {}}, "actions: "),
        ({"actions": [{}]}, "actions[0].name: "),
        ({"actions": [{"name": "a", "payload_schema": []}]}, "actions[0].payload_schema: "),
        ({"actions": [{"name": "a"}] * 1_001}, "actions: must have at most 1000 items"),
        ({"limits": [LIMIT] * 201}, "limits: must have at most 200 items"),
        ({"limits": [{}]}, "limits[0].action: "),
        ({"limits": [LIMIT | {"left": -1}]}, "limits[0].left: must be from 0 to 1e+15"),
        ({"limits": [LIMIT | {"left": float("nan")}]}, "limits[0].left: "),
        ({"limits": [LIMIT | {"waiting": "1"}]}, "limits[0].waiting: "),
    ],
)
def test_what_is_not_a_report_is_refused(fields, problem):
    with pytest.raises(ValidationFailure) as caught:
        read_report(REQUEST | fields)
    assert str(caught.value.problems[0]).startswith(problem)


def test_text_in_any_script_is_fine():
    assert read_report(REQUEST | {"process": "Füße"}).process == "Füße"
