"""Counts, limits, pauses, tokens, health."""

from __future__ import annotations

import pytest

from arbprov.errors import HubError
from arbprov.localhub.tokens import Role

V1 = "/api/v1"
LIMIT = '{"message": "wait", "data": {"response": {"wait_time": 60, "limit": "5/minute"}}}'


def test_counts_are_by_action_and_state(api):
    api.submit("forecast")
    api.finish()
    api.submit("forecast")
    api.submit("report")
    counts = api.ask("GET", f"{V1}/counts").json
    assert counts["actions"] == {"forecast": {"done": 1, "waiting": 1}, "report": {"waiting": 1}}
    assert counts["states"] == {
        "waiting": 2,
        "running": 0,
        "done": 1,
        "failed": 0,
        "cancelled": 0,
        "dead": 0,
    }


def test_counts_have_the_rates_of_this_hub(api):
    rates = api.ask("GET", f"{V1}/counts").json["rates"]
    assert rates["per_minute"] == {"done": 0, "failed": 0, "cancelled": 0, "dead": 0}


def test_a_held_group_is_listed(api):
    api.submit("forecast", account_key="acme")
    api.finish("limit", LIMIT)
    (limit,) = api.ask("GET", f"{V1}/limits").json["limits"]
    assert (limit["action"], limit["account_key"], limit["limit"]) == (
        "forecast",
        "acme",
        "5/minute",
    )
    assert (limit["held_until"] > limit["since"], limit["room"]) == (True, 0)


@pytest.mark.parametrize(
    ("kind", "name"), [("action", "fore/cast"), ("account", "acme"), ("provider", "weather")]
)
def test_a_pause_holds_tasks_back_until_it_is_ended(api, kind, name):
    answer = api.ask("POST", f"{V1}/pauses", {"kind": kind, "name": name})
    assert [(p["kind"], p["name"]) for p in answer.json["pauses"]] == [(kind, name)]
    assert api.ask("GET", f"{V1}/pauses").json == answer.json
    api.submit("fore/cast", account_key="acme")
    assert api.run(api.queue.take("weather", renews=False)) is None
    assert api.ask("DELETE", f"{V1}/pauses/{kind}/{name.replace('/', '%2F')}").status == 204
    assert api.run(api.queue.take("weather", renews=False)) is not None


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_pause_and_its_end_are_told_to_watchers_and_held_polls(api, method, monkeypatch):
    woken = []
    monkeypatch.setattr(api.queue, "wake", lambda: woken.append(True))
    body, path = {"kind": "action", "name": "a"}, f"{V1}/pauses"
    if method == "POST":
        api.ask("POST", path, body)
    else:
        api.ask("DELETE", f"{path}/action/a")
    assert woken == [True]


def test_the_end_of_no_pause_is_fine(api):
    assert api.ask("DELETE", f"{V1}/pauses/action/x").status == 204
    assert api.ask("DELETE", f"{V1}/pauses/action/%00").status == 204


def test_only_three_kinds_can_be_paused(api):
    assert api.ask("DELETE", f"{V1}/pauses/hub/x").status == 404
    assert api.ask("POST", f"{V1}/pauses", {"kind": "hub", "name": "x"}).status == 422


# Tokens.


def test_a_new_token_is_shown_once(api):
    made = api.ask("POST", f"{V1}/tokens", {"name": "ann", "role": "reader"})
    assert made.status == 201
    assert api.ask("GET", f"{V1}/counts", token=made.json["token"]).status == 200
    tokens = api.ask("GET", f"{V1}/tokens")
    assert [token["name"] for token in tokens.json["tokens"]] == ["a reader", "ann"]
    assert made.json["token"].encode() not in tokens.content


def test_a_removed_token_is_not_known(api):
    token = api.ask("POST", f"{V1}/tokens", {"name": "a/b", "role": "admin"}).json["token"]
    assert api.ask("DELETE", f"{V1}/tokens/a%2Fb").status == 204
    assert api.ask("GET", f"{V1}/counts", token=token).status == 401


@pytest.mark.parametrize("name", [".", ".."])
def test_a_token_can_not_have_a_name_that_browsers_take_out_of_an_address(api, name):
    answer = api.ask("POST", f"{V1}/tokens", {"name": name, "role": "reader"})
    assert answer.problems == ["name: must not be . or .., which a browser takes out of an address"]


def test_two_tokens_cannot_have_one_name(api):
    assert api.ask("POST", f"{V1}/tokens", {"name": "a reader", "role": "admin"}).status == 409


@pytest.mark.parametrize("name", ["x", "%00"])
def test_an_unknown_token_is_not_removed(api, name):
    assert api.ask("DELETE", f"{V1}/tokens/{name}").status == 404


def test_a_providers_token_names_the_provider(api):
    body = {"name": "w", "role": "provider", "provider": "weather"}
    token = api.ask("POST", f"{V1}/tokens", body).json["token"]
    assert api.run(api.tokens.allows_provider("weather", token))
    assert api.ask("GET", f"{V1}/counts", token=token).status == 401


@pytest.mark.parametrize("body", [{"role": "provider"}, {"role": "admin", "provider": "weather"}])
def test_only_a_providers_token_names_a_provider(api, body):
    answer = api.ask("POST", f"{V1}/tokens", {"name": "w", **body})
    assert answer.problems == ["provider: name the provider with the role provider, and only then"]


# Health, and errors.


def test_health_needs_no_token(api):
    assert api.ask("GET", "/healthz", token=None).json == {"status": "ok"}


def test_a_path_that_is_not_there(api):
    answer = api.ask("GET", f"{V1}/nothing")
    assert (answer.status, answer.json) == (
        404,
        {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "there is nothing at this path",
            "problems": [],
        },
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_a_method_that_is_not_there(api, method):
    answer = api.ask(method, f"{V1}/tasks")
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (
        405,
        {"GET", "HEAD", "POST"},
    )


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", f"{V1}/counts", f"{V1}/limits"])
def test_a_parameter_is_not_ignored(api, path):
    answer = api.ask("GET", f"{path}?pretty=1")
    assert answer.problems == ["pretty: unknown field"]


def test_a_store_that_cannot_be_used_is_said(api, monkeypatch):
    async def counts():
        raise HubError("the disk is full")

    monkeypatch.setattr(api.queue.store, "counts", counts)
    answer = api.ask("GET", f"{V1}/counts")
    assert (answer.status, answer.json["detail"]) == (
        503,
        "the hub can't do this now: the disk is full",
    )


def test_a_store_that_cannot_be_used_cannot_check_tokens(api, monkeypatch):
    async def find_role(token: str) -> Role:
        raise HubError("the disk is full")

    monkeypatch.setattr(api.app._api, "_find_role", find_role)
    assert api.ask("GET", f"{V1}/counts").status == 503


def test_an_error_that_nothing_foresaw_is_logged(api, monkeypatch, caplog):
    async def counts():
        raise ZeroDivisionError("secret-5")

    monkeypatch.setattr(api.queue.store, "counts", counts)
    answer = api.ask("GET", f"{V1}/counts")
    assert (answer.status, answer.json["detail"]) == (500, "the hub failed; its log says how")
    assert "the hub's HTTP API failed: GET /api/v1/counts" in caplog.text
