"""What a hub knows of its providers."""

from __future__ import annotations

import pytest

from arbprov.localhub.reports import ActionReport, ProviderReport, Reports


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
