"""`arbprov hub` and `arbprov call`."""

from __future__ import annotations

import json
import signal

import pytest
from support.waiting import TIMEOUT, wait_for_line


@pytest.fixture
def call(start, arbprov):
    """Return a function that calls an action through a hub with a provider."""
    hub = start("hub", "--address", "127.0.0.1:0", "--token", "shared", "--json")
    printed = json.loads(hub.stdout.readline())
    environ = {
        "HUB_GRPC_URL": printed["address"],
        "PROVIDER_AUTH_TOKEN": printed["token"],
        "ARBPROV_HUB_TOKEN": printed["token"],
    }
    start("run", "typed", **environ)
    options = ("--timeout", str(TIMEOUT))
    return lambda *arguments: arbprov("call", *arguments, *options, env=environ)


def test_call_runs_an_action_through_the_hub(call):
    result = call("square", '{"n": 3}', "--account", '{"id": "a"}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})


def test_a_call_of_an_action_that_does_not_exist_has_a_suggestion(call):
    result = call("squere")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: Action not found; did you mean 'square'?\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_hub_prints_its_address_and_ends_with_a_signal(start, number):
    hub = start("hub", "--address", "127.0.0.1:0")
    wait_for_line(hub, "The hub listens on 127.0.0.1:")
    hub.send_signal(number)
    assert hub.wait(TIMEOUT) == 0


def test_an_address_that_other_machines_reach_is_bad_configuration(arbprov):
    assert arbprov("hub", "--address", "0.0.0.0:50051").exit_code == 78


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--token", "wrong"), 77, "refuses the token"),
        (("--timeout", "0.05"), 1, "no result of action 'square' within 0.05 s"),
        (("--timeout", "0.05"), 1, "The task stays at the hub: it is queued until a"),
        (("--hub-url", "127.0.0.1:1"), 69, "UNAVAILABLE"),
    ],
)
def test_a_call_that_fails_says_why(arbprov, hub, arguments, code, message):
    environ = {"HUB_GRPC_URL": hub.address, "ARBPROV_HUB_TOKEN": hub.token}
    result = arbprov("call", "square", *arguments, env=environ)
    assert result.exit_code == code
    assert message in result.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_timeout_that_is_not_above_0_is_wrong_usage(arbprov, seconds):
    result = arbprov("call", "square", "--timeout", seconds)
    assert result.exit_code == 2
    assert "must be greater than 0" in result.stderr


def test_a_blank_token_is_wrong_usage(arbprov):
    result = arbprov("hub", "--token", " ")
    assert result.exit_code == 2
    assert "must not be blank" in result.stderr
