"""No secret leaves a task: neither the account's values nor the hub's token."""

from __future__ import annotations

import base64
import html
import json
import unicodedata
import urllib.parse
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
from arbprov.clock import SystemClock
from arbprov.errors import Problem
from arbprov.limits.decision import Headroom
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import find_secrets, redact
from arbprov.responses import ARBPROV_KEYS, error_response
from arbprov.task import Task

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
    assert result.data == {"error": "KeyError: '[redacted]'", "type": "KeyError"}


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
        ({"share": 12.5, "limit": 1000, "year": "2026"}, []),
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


# The forms of a secret.

SECRET = "Sk-ünïq 77&<x>+y"
FORMS = {
    "as it is": lambda s: s,
    "upper case": str.upper,
    "lower case": str.lower,
    "title case": str.title,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 after a name": lambda s: base64.b64encode(("user:" + s).encode()).decode(),
    "base64 between others": lambda s: base64.b64encode(f"ab{s}yz".encode()).decode(),
    "base64 of URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "hex": lambda s: s.encode().hex(),
    "upper hex": lambda s: s.encode().hex().upper(),
    "HTML": html.escape,
    "HTML by numbers": lambda s: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in s),
    "URL": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
    "all percent": lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
    "JSON": json.dumps,
    "JSON twice": lambda s: json.dumps(json.dumps(s)),
    "all escapes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "NFD": lambda s: unicodedata.normalize("NFD", s),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("secret", [SECRET, "AlphaSecret99Zz", "Tok3n-Äbc/def+ghi=="])
def test_a_secret_is_found_in_common_encodings(secret, form):
    text = redact(f"got {form(secret)} !", [secret])
    assert "[redacted]" in text
    assert text.strip('"\\') in {
        "got [redacted] !",
        'got "[redacted]" !',
        r'got "\"[redacted]\"" !',
    }


@pytest.mark.parametrize(
    "text",
    ["8675309123", "8,675,309,123", "8_675_309_123", "8675309123.0", "8.675309e+09", "0x205178f83"],
)
def test_a_long_number_is_found_as_people_write_it(text):
    text = text.replace("0x205178f83", hex(8675309123))
    assert "675" not in redact(f"got {text}", list(find_secrets({"n": 8675309123})))
    assert "[redacted]" in redact(f"got {text}", list(find_secrets({"n": 8675309123})))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4111111111111111.0, "4111111111111111.00"),
        (4111111111111111.0, "4111111111111111"),
        (1.2345678e17, "123456780000000000"),
        (1.2345678e17, "1.2345678e+17"),
        (1.2345678e-17, "1.2345678e-17"),
        (1234567.25, "1,234,567.25"),
        ("4111111111111111", "4111 1111 1111 1111"),
    ],
)
def test_a_fraction_and_a_number_as_text_are_found_too(value, text):
    assert "[redacted]" in redact(f"got {text}", list(find_secrets({"n": value})))


@pytest.mark.parametrize(
    ("account", "secrets"),
    [
        ({"limit": 1000, "year": "2026", "rate": 99.25}, []),
        ({"card": 1234567}, ["1234567"]),
        ({"userPin": 1234, "pin_code": "4711", "pins": [1111]}, ["1234", "4711"]),
        ({"password": 1234, "tokens": [1111, 2222]}, ["1234", "1111", "2222"]),
        ({"shipping": 1000, "opinion": 1000}, []),
    ],
    ids=str,
)
def test_a_short_number_is_a_secret_only_if_its_name_says_so(account, secrets):
    assert list(find_secrets(account)) == secrets


def test_two_secrets_that_overlap_or_touch_leave_nothing():
    assert redact("abcdefgh", ["abcdef", "cdefgh"]) == "[redacted]"
    assert redact("abcdefgh", ["abcd", "efgh"]) == "[redacted][redacted]"


def test_a_short_secret_is_found_in_base64_too():
    assert redact("Basic " + base64.b64encode(b"abcd").decode(), ["abcd"]) == "Basic [redacted]"


# Words of arbprov.


@pytest.mark.parametrize(
    "word", ["missing", "required", "expected", "string", "account", "payload", "field", "unknown"]
)
def test_words_of_arbprov_are_never_redacted(word):
    app = ProviderApp("words")

    @app.action(account_schema={"number": int}, forbid_extra=True)
    def it(n: int, account: dict): ...

    client = app.test_client()
    result = client.call("it", {"x": 1}, account={"number": "a", "note": word})
    assert [(p["path"], p["message"]) for p in result.problems] == [
        ("account.note", "unknown field"),
        ("account.number", "expected an integer, got a string"),
        ("n", "required field is missing"),
        ("x", "unknown field"),
    ]
    assert "[redacted]" not in result.body


def test_an_unknown_action_and_a_timeout_are_words_of_arbprov():
    app = ProviderApp("words", execution_timeout=1)
    app.action("slow")(lambda: client.clock.advance(2))
    account = {"a": "Action", "b": "found", "c": "timeout", "d": "longer", "e": "slow"}
    client = app.test_client()
    assert client.call("none", account=account).data == {
        "error": "Action not found",
        "available_actions": ["slow"],
    }
    assert "longer than its timeout" in client.call("slow", account=account).message


def test_words_of_an_author_are_redacted_in_problems():
    app = ProviderApp("words")

    @app.action
    def it(account: dict):
        raise InvalidPayloadError([Problem("number", f"not {account['s']}")], "of " + account["s"])

    result = app.test_client().call("it", account={"s": "missing"})
    assert result.problems == [{"path": "number", "message": "not [redacted]"}]
    assert result.message == "of [redacted]"


def test_a_key_of_a_result_is_the_author_s_word():
    app = ProviderApp("words")
    app.action("it")(lambda account: {(account["s"],): 1})
    assert "AlphaSecret" not in app.test_client().call("it", account={"s": "AlphaSecret"}).body


@pytest.mark.parametrize("count", [0, 2])
def test_a_text_of_no_call_or_of_several_is_redacted(count):
    app = ProviderApp("test", auth_token="token-of-the-hub")
    app.action("echo")(lambda: None)
    dispatcher = app._dispatcher(SystemClock())
    accounts = [b'{"key": "hunter22"}', b'{"key": "swordfish"}'][:count]
    calls = [dispatcher.prepare(Task("t", "echo", b"{}", account)) for account in accounts]
    text = dispatcher.redact("token-of-the-hub, hunter22, swordfish", *calls)
    assert text == ", ".join(["[redacted]"] * (1 + count) + ["hunter22", "swordfish"][count:])


def test_the_lines_of_a_text_of_more_than_a_mebibyte_are_cut():
    app = ProviderApp("test")
    app.action("echo")(lambda: None)
    dispatcher = app._dispatcher(SystemClock())
    call = dispatcher.prepare(Task("t", "echo", b"{}", b'{"key": "hunter22"}'))
    text = dispatcher.redact("x" * 2**20 + "\nhunter22", call)
    assert text == "x" * 2**16 + "\n[redacted]"


def test_a_long_text_ends_before_a_secret_that_may_be_cut():
    app = ProviderApp("test")

    @app.action
    def fail(account: dict):
        raise ValueError("short " + account["key"] * 2)

    error = app.test_client().call("fail", account={"key": "hunter22" * 7500}).data["error"]
    assert error == "short ... (120,006 characters)"
