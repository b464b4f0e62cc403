"""`arbprov hub` and `arbprov call`."""

from __future__ import annotations

import json
import signal

import pytest
from support.waiting import TIMEOUT, wait_for_line


def test_call_runs_an_action_through_the_hub(start, arbprov):
    hub = start("hub", "--address", "127.0.0.1:0", "--token", "shared", "--json")
    printed = json.loads(hub.stdout.readline())
    environ = {"HUB_GRPC_URL": printed["address"], "PROVIDER_AUTH_TOKEN": printed["token"]}
    start("run", "typed", **environ)
    result = arbprov("call", "square", '{"n": 3}', "--account", '{"id": "a"}', env=environ)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})
    result = arbprov("call", "squere", env=environ)
    assert (result.exit_code, result.stderr) == (
        1,
        "error: Action not found; did you mean 'square'?\n",
    )
    hub.send_signal(signal.SIGINT)
    assert hub.wait(TIMEOUT) == 0


def test_the_hub_prints_its_address(start):
    hub = start("hub", "--address", "127.0.0.1:0")
    wait_for_line(hub, "The hub listens on 127.0.0.1:")
    hub.terminate()
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
    environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
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
