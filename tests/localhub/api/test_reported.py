"""What providers have reported, in the API."""

from __future__ import annotations

import datetime as dt

from arbprov.localhub.reports import ActionReport, LimitReport, ProviderReport

V1 = "/api/v1"
FORECAST = ActionReport(
    name="forecast",
    description="Forecast for a city.",
    payload_schema={"type": "object"},
    limits=("5/minute",),
)


def put(api, provider="weather", process="1", **fields):
    api.hub.reports.put(ProviderReport(provider=provider, process=process, **fields))


def when(text):
    return dt.datetime.fromisoformat(text)


def test_the_providers_are_listed_with_their_processes(api):
    put(api, version="1.2", slots=8, free_slots=3, actions=(FORECAST,), limits_cut=4)
    put(api, process="2")
    api.hub.reports.note_poll("old")
    api.hub.reports.note_poll("weather", reports=True)
    old, weather = api.ask("GET", f"{V1}/providers").json["providers"]
    assert (old["name"], old["processes"]) == ("old", [])
    assert abs(when(old["polled_at"]) - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=1)
    first, second = weather["processes"]
    assert when(first.pop("reported_at")).tzinfo is not None
    assert first == {
        "process": "1",
        "version": "1.2",
        "slots": 8,
        "free_slots": 3,
        "actions": ["forecast"],
        "actions_cut": 0,
        "schemas_cut": 0,
        "limits_cut": 4,
    }
    assert second["process"] == "2"


def test_a_provider_that_has_not_polled_this_hub_has_no_time_of_its_poll(api):
    put(api)
    (weather,) = api.ask("GET", f"{V1}/providers").json["providers"]
    assert weather["polled_at"] is None


def test_the_actions_are_listed_with_their_schemas_and_providers(api):
    lookup = ActionReport(name="a lookup", account_schema={"type": "object"})
    put(api, actions=(FORECAST,))
    put(api, "news", actions=(FORECAST, lookup))
    answer = api.ask("GET", f"{V1}/actions").json
    assert answer["complete"] is True
    first, second = answer["actions"]
    assert (first["name"], first["account_schema"]) == ("a lookup", {"type": "object"})
    assert second == {
        "name": "forecast",
        "description": "Forecast for a city.",
        "providers": ["news", "weather"],
        "payload_schema": {"type": "object"},
        "account_schema": None,
        "limits": ["5/minute"],
    }


def test_the_actions_are_not_complete_while_a_provider_does_not_report(api):
    put(api, actions=(FORECAST,))
    api.hub.reports.note_poll("old")
    assert api.ask("GET", f"{V1}/actions").json["complete"] is False


def test_limits_are_listed_beside_the_held_groups_closed_gates_first(api):
    open_limit = LimitReport(action="", limit="9/day", total=9, left=4, owner="app", waiting=2)
    closed = LimitReport(
        action="forecast",
        limit="5/minute",
        key="ab12",
        by="account.id",
        account_key="acme",
        total=5,
        left=3,
        opens_in=30.0,
        next_in=30.0,
        closed_by="the API",
    )
    put(api, limits=(open_limit, closed))
    answer = api.ask("GET", f"{V1}/limits").json
    assert answer["limits"] == []
    first, second = answer["reported"]
    assert (first["provider"], first["process"], first["key"], first["closed_by"]) == (
        *("weather", "1"),
        *("ab12", "the API"),
    )
    opens_in = when(first["opens_at"]) - when(first["reported_at"])
    assert opens_in == dt.timedelta(seconds=30)
    assert first["next_at"] == first["opens_at"]
    assert (second["owner"], second["left"], second["total"], second["waiting"]) == ("app", 4, 9, 2)
    assert (second["opens_at"], second["next_at"]) == (None, None)
