"""No secret leaves a task: neither the account's values nor the hub's token."""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import quote, quote_plus

import attrs
import pytest
from attrs import validators

from arbprov import (
    ActionNotFoundError,
    InvalidPayloadError,
    ProviderApp,
    RateLimited,
    TaskTimeoutError,
)
from arbprov.errors import Problem
from arbprov.limits.decision import Headroom
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import find_secrets, redact
from arbprov.responses import ARBPROV_KEYS, error_response

pytestmark = pytest.mark.usefixtures("each_json")

TOKEN, KEY = "token-of-the-hub", "hunter22"


@pytest.fixture
def client():
    app = ProviderApp("secretive", auth_token=TOKEN)

    @app.action
    def fail(account: dict, what: str):
        raise LookupError(f"{what}: {account} {TOKEN}")

    @app.action
    def typed(account: dict[str, int]):
        return {}

    return app.test_client()


def test_an_error_holds_no_value_of_the_account(client):
    result = client.call("fail", {"what": "x"}, account={"nested": [{"key": KEY}]})
    assert KEY not in result.body
    assert "[redacted]" in result.body


def test_an_error_does_not_hold_the_token(client):
    assert TOKEN not in client.call("fail", {"what": "x"}).body


def test_a_problem_of_the_account_holds_no_value_of_it(client):
    assert KEY not in client.call("typed", account={"key": KEY}).body


def test_the_rest_of_an_error_stays(client):
    result = client.call("fail", {"what": "rate of 5 %"}, account={"key": KEY, "version": 5})
    assert result.message.startswith("rate of 5 %")


def test_details_are_redacted_too():
    app = ProviderApp("secretive")

    class Odd(Exception):
        pass

    Odd.__name__ = KEY

    @app.action
    def fail(account: dict):
        raise Odd("x")

    result = app.test_client().call("fail", account={"key": KEY})
    assert result.data == {"error": "x", "type": "[redacted]"}


def test_keys_that_arbprov_writes_are_never_redacted():
    app = ProviderApp("plain", auth_token=TOKEN)

    @app.action
    @app.rate_limit("1/minute")
    def find(name: str):
        return {}

    client = app.test_client()
    words = dict(enumerate(sorted(ARBPROV_KEYS)))
    account = {f"word_{number}": word for number, word in words.items()}
    refused = client.call("find", {}, account=account)
    assert [sorted(problem) for problem in refused.problems] == [["message", "path"]]
    client.call("find", {"name": "x"}, account=account)
    limited = client.call("find", {"name": "x"}, account=account)
    assert limited.wait_time == 60
    assert sorted(limited.data["limits"][0]) == ["limit", "remaining", "wait_time"]


@pytest.mark.parametrize(
    "error",
    [
        ActionNotFoundError("x", ["y"]),
        InvalidPayloadError([Problem("x", "y")]),
        ValidationFailure("x"),
        TaskTimeoutError(1.0),
        RateLimited(1.0),
        LookupError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_key_of_a_response_to_an_error_is_listed(error):
    data = error_response(error).data
    listed = [key for item in data.get("problems", ()) for key in item]
    assert {*data, *listed} <= ARBPROV_KEYS


def test_each_key_of_headroom_is_listed():
    assert {field.name for field in attrs.fields(Headroom)} <= ARBPROV_KEYS


def test_a_token_of_a_letter_or_two_is_not_redacted():
    assert redact("a path", ["t", "pa"]) == "a path"


def test_numbers_of_an_account_are_secrets_too():
    assert list(find_secrets({"pin": 123456, "flag": True, "none": None})) == ["123456"]


def test_short_values_are_not_secrets():
    assert list(find_secrets({"country": "es", "n": 7})) == []


def test_the_longest_secret_is_redacted_first():
    assert redact("key hunter22!", ["hunter22", "hunter22!"]) == "key [redacted]"


# Encoded secrets.

ODD_SECRETS = {
    "an apostrophe and a quote": 'it\'s "hunter22"',
    "a backslash": "hunter\\22",
    "lines": "-----BEGIN KEY-----\nhunter22\n-----END KEY-----",
    "an escape": "hunter\x1b22",
}


@pytest.mark.parametrize("secret", ODD_SECRETS.values(), ids=ODD_SECRETS)
def test_an_error_does_not_hold_the_repr_of_a_value_of_the_account(client, secret):
    message = client.call("fail", {"what": "x"}, account={"key": secret}).message
    assert "22" not in message


ENCODERS = {
    "a repr": repr,
    "a repr of a text with quotes": lambda secret: repr(f'"{secret}"'),
    "JSON": json.dumps,
    "JSON with all letters": lambda secret: json.dumps(secret, ensure_ascii=False),
    "the path of a URL": quote,
    "a part of a URL": lambda secret: quote(secret, safe=""),
    "a form": quote_plus,
}
ENCODED = {
    **ODD_SECRETS,
    "an apostrophe and a line end": "it's\nhunter22",
    "an apostrophe": "it's hunter22",
    "an apostrophe and an escape": "it's\x1bhunter22",
    "quotes and an accent": 'h"\u00fcnter22',
    "a blank, a slash and a plus": "hunter/22 +22",
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("secret", ENCODED.values(), ids=ENCODED)
def test_a_secret_is_redacted_in_any_encoding(secret, encode):
    assert "22" not in redact(f"see {encode(secret)} there", [secret])


def test_an_error_does_not_hold_the_json_of_a_value_of_the_account():
    app = ProviderApp("secretive")

    @app.action
    def fail(account: dict):
        raise LookupError(json.dumps(account))

    message = app.test_client().call("fail", account={"key": "hünter22"}).message
    assert "nter22" not in message


def test_a_missing_key_that_is_a_secret_is_redacted():
    app = ProviderApp("secretive")

    @app.action
    def fail(account: dict):
        return {}[account["key"]]

    result = app.test_client().call("fail", account={"key": KEY})
    assert result.data == {"error": "'[redacted]'", "type": "KeyError"}


# Other places of an error that could hold a secret.


def test_a_limit_that_names_a_secret_is_redacted():
    app = ProviderApp("secretive")

    @app.action
    def it(account: dict):
        raise RateLimited(retry_after=30, limit=f"5/second of {account['key']}")

    result = app.test_client().call("it", account={"key": KEY})
    assert result.data["limit"] == "5/second of [redacted]"


def test_a_validator_that_quotes_a_secret_is_redacted():
    app = ProviderApp("secretive")

    @app.action
    def it(account: dict[str, Annotated[str, validators.matches_re("[a-z]+")]]):
        return {}

    result = app.test_client().call("it", account={"key": KEY})
    assert result.problems[0]["path"] == "account.key"
    assert KEY not in result.body


def test_a_problem_of_the_payload_does_not_hold_the_account():
    app = ProviderApp("secretive")

    @app.action(forbid_extra=True)
    def it():
        return {}

    assert KEY not in app.test_client().call("it", {KEY: 1}, account={"key": KEY}).body


def test_an_account_that_is_not_json_is_not_quoted(client):
    assert KEY not in client.call("fail", {"what": "x"}, account=f"{{{KEY}".encode()).body


def test_the_token_of_the_environment_is_a_secret_too(monkeypatch):
    monkeypatch.setenv("PROVIDER_AUTH_TOKEN", TOKEN)
    app = ProviderApp("secretive")

    @app.action
    def fail():
        raise LookupError(TOKEN)

    assert app.test_client().call("fail").message == "[redacted]"


# The functions alone.


@pytest.mark.parametrize(
    ("account", "secrets"),
    [
        ({"key": "abcd"}, ["abcd"]),
        ({"key": "abc"}, []),
        ({"pin": 1234, "cvc": 123}, ["1234"]),
        ({"share": 12.5}, ["12.5"]),
        ({"a": {"b": [{"c": "deep"}, "list"]}}, ["deep", "list"]),
        ({"long_name_of_a_field": None, "yes": True, "no": False}, []),
        ({"not an identifier": 1}, ["not an identifier"]),
        ({}, []),
    ],
    ids=str,
)
def test_values_and_odd_keys_of_four_letters_or_more_are_secrets(account, secrets):
    assert list(find_secrets(account)) == secrets


def test_every_occurrence_of_a_secret_is_redacted():
    assert redact(f"{KEY}, {KEY}", [KEY, KEY]) == "[redacted], [redacted]"


def test_a_text_without_secrets_stays_as_it_is():
    assert redact("nothing to see", [KEY]) == "nothing to see"
