"""`arbprov limits`."""

from __future__ import annotations

import json

import pytest

from arbprov.cli.limits import _parse_keys

LIMITED = """
from arbprov import Blueprint, Concurrency, ProviderApp, RateLimitMonitor

class Closed(RateLimitMonitor):
    def check_rate_limits(self):
        return {"rate_limited": True, "wait_time": 90}

app = ProviderApp("limited", rate_limit="50/second")

@app.action
@app.rate_limit("1000/hour", key="account.api_key")
@app.rate_limit("5/second", key=("account.id", "payload.region"), shadow=True)
def campaigns() -> dict:
    return {}

@app.action(rate_limit_monitor=Closed())
@app.rate_limit(lambda call: "5/second", name="vendor")
def other() -> dict:
    return {}

manual = ProviderApp("manual")

@manual.action
@manual.rate_limit("9/minute", name="vendor", manual=True, shadow=True)
def calls() -> dict:
    return {}

places = ProviderApp("places")

@places.action
@places.rate_limit(Concurrency(5), key="account.id")
def calls() -> dict:
    return {}

free = ProviderApp("free")
"""


@pytest.fixture
def limits(arbprov, folder):
    """Return a function that runs `arbprov limits`."""
    (folder / "other.py").write_text(LIMITED)
    return lambda *options, target="other:app": arbprov("limits", target, *options)


def test_each_limit_is_listed_with_what_is_left(limits):
    result = limits()
    assert result.stdout.splitlines() == [
        "ACTION     LIMIT              LEFT  WAIT  SCOPE             KEY",
        "campaigns  50/second          50          app               -",
        "campaigns  5/second (shadow)  -           action:campaigns  account.id and payload.region",
        "campaigns  1000/hour          -           action:campaigns  account.api_key",
        "other      50/second          50          app               -",
        "other      other.<lambda>     -           name:vendor       -",
        "other      Closed             -     90 s  action:other      -",
    ]


def test_a_limit_that_a_handler_charges_is_marked(limits):
    result = limits(target="other:manual")
    assert result.stdout.splitlines() == [
        "ACTION  LIMIT                       LEFT  WAIT  SCOPE        KEY",
        "calls   9/minute (shadow) (manual)  9           name:vendor  -",
    ]


def test_the_places_of_calls_in_flight_that_are_left_are_listed(limits):
    result = limits("--key", "account.id=1", target="other:places")
    assert result.stdout.splitlines() == [
        "ACTION  LIMIT        LEFT  WAIT  SCOPE         KEY",
        "calls   5 at a time  5           action:calls  account.id",
    ]


def test_the_keys_that_are_missing_are_named(limits):
    assert limits("--action", "campaigns").stderr == (
        "to see what is left per 'account.api_key' and 'account.id and payload.region', use --key\n"
    )


def test_the_headroom_of_a_key_is_shown(limits):
    result = limits("--json", "--key", "account.id=1", "--key", "payload.region=eu")
    left = {row["limit"]: row["remaining"] for row in json.loads(result.stdout)}
    assert (left["5/second"], left["1000/hour"]) == (5, None)


def test_a_key_can_come_from_a_file(limits, folder):
    (folder / "key.txt").write_text("sample-key\n")
    result = limits("--json", "--key", "account.api_key=@key.txt")
    left = {row["limit"]: row["remaining"] for row in json.loads(result.stdout)}
    assert left["1000/hour"] == 1000


def test_a_limit_as_json_has_all_fields(limits):
    assert json.loads(limits("--json", "--action", "other").stdout)[-1] == {
        "action": "other",
        "limit": "Closed",
        "scope": "action:other",
        "key": "",
        "shadow": False,
        "manual": False,
        "remaining": None,
        "wait_time": 90.0,
    }


def test_the_limits_of_one_action_can_be_listed(limits):
    lines = limits("--action", "other").stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ACTION", "other"}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("42", 42),
        ('"42"', "42"),
        ("4.5", 4.5),
        ("true", True),
        ("eu", "eu"),
        ("a=b", "a=b"),
        ("null", "null"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_a_key_is_parsed_as_json_if_it_is_a_number_or_a_text(typed, value):
    assert _parse_keys(None, None, (f"account.id={typed}",)) == {"account.id": value}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--action", "play"],
            "for '--action': there is no action 'play'; there is 'campaigns' and 'other'",
        ),
        (
            ["--key", "account.id"],
            "for '--key': 'account.id' is not PATH=VALUE, such as account.id=42",
        ),
        (["--key", "account.id=@no"], "can't read no: No such file or directory"),
        (
            ["--action", "campaigns", "--key", "account.name=x"],
            "no limit has the key 'account.name'; the limits have 'account.api_key', 'account.id'",
        ),
        (
            ["--action", "other", "--key", "account.id=x"],
            "for '--key': no limit has the key 'account.id'; the limits have none",
        ),
    ],
    ids=str,
)
def test_a_wrong_option_is_wrong_usage_that_says_what_is_wrong(limits, options, message):
    result = limits(*options)
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True)


def test_an_app_without_limits_says_so(limits):
    result = limits(target="other:free")
    assert (result.stdout, result.stderr) == ("", "there are no limits\n")


def test_an_app_without_actions_has_no_limits(limits):
    assert limits("--json", target="other:free").stdout == "[]\n"


def test_the_limits_of_an_action_that_does_not_exist_are_wrong_usage(limits):
    assert (
        "there is no action 'x'; there is none"
        in limits("--action", "x", target="other:free").stderr
    )


def test_a_key_that_was_given_is_not_asked_for_when_the_cost_needs_a_payload(limits, folder):
    text = LIMITED.replace('key="account.api_key"', 'key="account.id", cost=lambda call: 2')
    (folder / "costly.py").write_text(text)
    result = limits("--action", "campaigns", "--key", "account.id=1", target="costly:app")
    assert result.stderr == (
        "to see what is left per 'account.id and payload.region', use --key\n"
        "what is left of '1000/hour' depends on the call, such as its cost\n"
    )


def test_a_key_s_file_that_is_not_text_is_wrong_usage(limits, folder):
    (folder / "key").write_bytes(b"\xff")
    result = limits("--key", "account.api_key=@key")
    assert result.exit_code == 2
    assert "can't read key: not UTF-8 text" in result.stderr
