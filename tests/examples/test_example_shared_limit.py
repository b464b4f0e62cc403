"""The example of two providers with one limit, through the wire."""

from __future__ import annotations

import signal

import pytest
from support.examples import load, running
from support.waiting import TIMEOUT

from arbprov.localhub import LocalHub
from arbprov.testing import serving


@pytest.fixture
def example():
    return load("shared_limit")


@pytest.fixture
def hub(example):
    with (
        LocalHub(hold=0.05) as hub,
        serving(example.reports, hub),
        serving(example.campaigns, hub),
    ):
        yield hub


def report(hub):
    return hub.call("report", {"campaign": 1}, provider="reports")


def pause(hub):
    return hub.call("pause", {"campaign": 1}, provider="campaigns")


def test_both_providers_work_for_the_hub(hub):
    assert report(hub).provider == "reports"
    assert pause(hub).provider == "campaigns"


def test_the_two_providers_share_one_quota(hub):
    assert [report(hub).status for _ in range(3)] == ["success"] * 3
    assert pause(hub).status == "limit"


def test_together_they_admit_no_more_than_the_limit(hub):
    tickets = [
        hub.put(action, {"campaign": 1}, provider=provider)
        for action, provider in [("report", "reports"), ("pause", "campaigns")] * 5
    ]
    assert [ticket.result().status for ticket in tickets].count("success") == 3


def test_one_signal_stops_both_providers_of_the_process():
    with LocalHub(hold=0.05) as hub, running("shared_limit", hub) as process:
        assert (report(hub).status, pause(hub).status) == ("success", "success")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert log.count("has stopped") == 2


def test_a_failing_provider_ends_the_other_one_too(hub, monkeypatch):
    def fail():
        raise RuntimeError("sample")

    monkeypatch.setenv("HUB_GRPC_URL", hub.url)
    monkeypatch.setenv("PROVIDER_AUTH_TOKEN", hub.token)
    example = load("shared_limit")
    monkeypatch.setattr(example.campaigns, "run", fail)
    with pytest.raises(RuntimeError, match="sample"):
        example.run_both()
