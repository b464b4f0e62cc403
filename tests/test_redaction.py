"""No secret leaves a task: neither the account's values nor the hub's token."""

from __future__ import annotations

import pytest

from arbprov import ProviderApp
from arbprov.redaction import redact, secrets_of

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


def test_numbers_of_an_account_are_secrets_too():
    assert list(secrets_of({"pin": 123456, "flag": True, "none": None})) == ["123456"]


def test_short_values_are_no_secrets():
    assert list(secrets_of({"country": "es", "n": 7})) == []


def test_the_longest_secret_is_taken_out_first():
    assert redact("key hunter22!", ["hunter22", "hunter22!"]) == "key [redacted]"
