"""Why a task has no result yet, in words."""

from __future__ import annotations

import pytest

from arbprov.localhub import LocalHub, LocalHubClient
from arbprov.localhub.tasks import Pause, PauseKind, Scope
from arbprov.localhub.waiting import describe_wait


def reason(*, provider="", not_before=None, pauses=(), held=(), actions=None):
    """Return why a task of action `forecast` and account `a` waits, at time 100."""
    return describe_wait(
        action="forecast",
        account_key="a",
        provider=provider,
        not_before=not_before,
        pauses=pauses,
        held=held,
        now=100.0,
        actions=actions,
    )


def scope(held_until, limit="5/hour", action="forecast", account_key="a"):
    return Scope(
        action=action, account_key=account_key, held_until=held_until, limit=limit, since=0.0
    )


def test_a_task_may_have_to_wait_for_its_time():
    assert reason(not_before=160.0) == "it may not start for another 60 s"
    assert reason(not_before=99.0).startswith("no provider has taken it")


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (PauseKind.ACTION, "forecast", "action 'forecast' is paused"),
        (PauseKind.PROVIDER, "weather", "provider 'weather' is paused"),
        (PauseKind.ACCOUNT, "a", "account 'a' is paused"),
    ],
)
def test_a_pause_is_named_and_others_are_not(kind, name, text):
    other = Pause(kind, "other")
    assert reason(provider="weather", pauses=[other, Pause(kind, name)]) == text
    assert "paused" not in reason(provider="weather", pauses=[other])


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (
            scope(160.0),
            "limit 5/hour holds back the tasks of its action and account for another 60 s",
        ),
        (
            scope(160.0, ""),
            "a limit holds back the tasks of its action and account for another 60 s",
        ),
        (
            scope(99.0),
            "limit 5/hour holds back the tasks of its action and account for another 0 s",
        ),
    ],
)
def test_a_limit_is_named_and_that_of_others_is_not(held, text):
    others = [scope(160.0, action="other"), scope(160.0, account_key="b")]
    assert reason(held=[*others, held]) == text
    assert "holds back" not in reason(held=others)


def test_a_task_may_wait_for_its_provider():
    text = "provider 'weather' has not taken it; does it run?"
    assert reason(provider="weather") == text


def test_no_provider_may_have_its_action():
    assert reason(actions=["report"]) == "no provider has an action 'forecast'"
    assert reason(actions=["report"], provider="weather") == (
        "provider 'weather' has no action 'forecast'"
    )
    assert reason(actions=["forecast"]).startswith("no provider has taken it")
    assert reason(actions=["report"], not_before=160.0).startswith("it may not start")


def test_a_task_that_does_not_exist_or_has_ended_has_no_reason():
    with LocalHub() as hub, LocalHubClient(hub.address, hub.token) as client:
        (name,) = client.submit([{"action": "forecast", "ttl": 1e-3}])
        client.results([name])
        assert (client.explain("gone"), client.explain(name)) == ("", "")
