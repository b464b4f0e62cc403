"""`arbprov tokens`: tokens of a hub for providers and people."""

from __future__ import annotations

import json

import pytest

from arbprov import AuthenticationError, ProviderApp
from arbprov.localhub import LocalHub
from arbprov.testing import serving


@pytest.fixture
def hub():
    """A hub with an HTTP API."""
    with LocalHub(hold=0.05, http="127.0.0.1:0") as hub:
        yield hub


@pytest.fixture
def run(arbprov, hub):
    """Return a function that runs a command for the hub."""
    environ = {
        "ARBPROV_HUB_HTTP": hub.http_address,
        "ARBPROV_HUB_TOKEN": hub.token,
        "HUB_GRPC_URL": hub.address,
    }
    return lambda *arguments, **more: arbprov(*arguments, env=environ | more)


def test_a_provider_s_token_is_printed_once_and_works_for_that_provider_alone(run, hub):
    result = run("tokens", "add", "ours", "--provider", "weather")
    token = result.stdout.strip()
    assert result.exit_code == 0
    assert "Keep it as PROVIDER_AUTH_TOKEN or in the file PROVIDER_AUTH_TOKEN_FILE" in result.stderr
    app = ProviderApp("weather")
    app.action("ping")(lambda: "pong")
    for wrong in (hub.token, "other"):
        with pytest.raises(AuthenticationError):
            app.run(hub_url=hub.address, auth_token=wrong)
    hub_token, hub.token = hub.token, token
    with serving(app, hub):
        hub.token = hub_token
        assert hub.call("ping").data == "pong"


def test_a_reader_can_list_tasks_and_cancel_none(run, hub):
    hub.put("forecast", id="t1")
    token = run("tokens", "add", "page", "--role", "reader").stdout.strip()
    assert run("tasks", "list", ARBPROV_HUB_TOKEN=token).exit_code == 0
    assert run("tasks", "cancel", "t1", ARBPROV_HUB_TOKEN=token).exit_code == 1


def test_tokens_are_listed_without_themselves(run):
    made = run("tokens", "add", "ours", "--role", "admin", "--json")
    token = json.loads(made.stdout)["token"]
    result = run("tokens", "list")
    head, line = result.stdout.splitlines()
    assert head.split() == ["NAME", "ROLE", "PROVIDER", "MADE", "AT"]
    assert line.split()[:2] == ["ours", "admin"]
    assert token not in result.output
    (found,) = json.loads(run("tokens", "list", "--json").stdout)
    assert (found["name"], found["role"], found["provider"]) == ("ours", "admin", "")


def test_a_hub_without_tokens_says_so(run):
    result = run("tokens", "list")
    assert (result.stdout, result.stderr) == ("", "there are no tokens besides the hub's own\n")


def test_a_token_that_was_removed_is_refused(run):
    token = run("tokens", "add", "ours", "--role", "admin").stdout.strip()
    assert run("tasks", "list", ARBPROV_HUB_TOKEN=token).exit_code == 0
    assert run("tokens", "remove", "ours").stderr == "removed ours\n"
    assert run("tasks", "list", ARBPROV_HUB_TOKEN=token).exit_code == 77
    assert run("tokens", "remove", "ours").exit_code == 1


@pytest.mark.parametrize("options", [(), ("--provider", "weather", "--role", "reader")])
def test_a_token_is_for_a_provider_or_for_people(run, options):
    result = run("tokens", "add", "ours", *options)
    assert result.exit_code == 2
    assert "give --provider or --role, and not both" in result.stderr
