"""The envelope and the `response` of each way in which a task can end."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime, timezone

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov import (
    ActionNotFoundError,
    InvalidPayloadError,
    ProviderApp,
    ProviderResponse,
    RateLimited,
    Status,
    Task,
    TaskError,
    TaskTimeoutError,
)
from arbprov.errors import Problem
from arbprov.payload.json import dumps
from arbprov.testing import VirtualClock

pytestmark = pytest.mark.usefixtures("each_json")

DEFAULT_MESSAGES = {
    "success": "Action completed successfully",
    "error": "Action failed",
    "warning": "Action completed with warnings",
    "limit": "Rate limit exceeded",
}


def result_of(handler, payload=None, **options):
    """Return how a task of `handler` ends."""
    app = ProviderApp("weather")
    app.action("forecast", **options)(handler)
    return app.test_client().call("forecast", payload)


def response_of(handler, payload=None, **options):
    """Return the ``response`` field of the envelope on the wire."""
    return json.loads(result_of(handler, payload, **options).body)["data"]["response"]


def raising(error):
    def handler():
        raise error

    return handler


# A result that is too large.


@pytest.fixture
def small_results(monkeypatch):
    monkeypatch.setattr("arbprov.responses.MAX_RESULT_SIZE", 1000)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 999,
        ["é" * 500],
        ProviderResponse("success", message="x" * 999),
        ProviderResponse("error", data="x" * 999),
    ],
    ids=["text", "two bytes a character", "message", "an error of the author"],
)
@pytest.mark.usefixtures("small_results")
def test_a_result_that_is_too_large_is_a_small_error(value):
    result = result_of(lambda: value)
    assert (result.status, result.data["type"]) == (Status.ERROR, "ResultTooLargeError")
    assert "and at most 1,000 can be sent; return less" in result.message
    assert len(result.body) < 1000


@pytest.mark.parametrize("value", ["x" * 900, "é" * 450])
@pytest.mark.usefixtures("small_results")
def test_a_result_below_the_bound_is_sent(value):
    assert result_of(lambda: value).data == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("x" * 301, ""),
        ("é" * 301, ""),
        ({"a": "x" * 301}, "a"),
        (["x" * 301], "[0]"),
        ({"x" * 301: 1}, '["xxxxxxxxxxxxxxxxxxxx..."]'),
        (b"x" * 230, ""),
    ],
    ids=["text", "not ASCII", "value", "item", "key", "bytes"],
)
def test_a_text_that_is_too_long_is_a_problem(monkeypatch, value, path):
    monkeypatch.setattr("arbprov.payload.serialize._MAX_TEXT", 300)
    (problem,) = result_of(lambda: value).problems
    assert problem["path"] == path
    assert "characters is too long; at most 300 can be sent" in problem["message"]


@pytest.mark.usefixtures("small_results")
def test_an_error_that_is_too_large_is_a_small_error():
    assert len(result_of(raising(ValueError("x" * 5000))).body) < 1000


# The envelope, field by field.


@pytest.fixture
def envelope():
    app = ProviderApp("weather", timezone="Europe/Madrid")
    app.action("forecast")(lambda: {"city": "Paris"})
    clock = VirtualClock(datetime(2026, 3, 20, 9, 30, tzinfo=timezone.utc))
    return json.loads(app.test_client(clock=clock).call("forecast").body)


def test_the_envelope_has_exactly_the_bytes_of_the_protocol():
    app = ProviderApp("weather", timezone="Europe/Madrid")
    app.action("forecast")(lambda: {"city": "Malmö"})
    clock = VirtualClock(datetime(2026, 3, 20, 9, 30, tzinfo=timezone.utc))
    assert app.test_client(clock=clock).call("forecast").body == (
        '{"status":"success","message":"Action completed successfully",'
        '"data":{"provider":"weather","action":"forecast","timezone":"Europe/Madrid",'
        '"now":"2026-03-20T10:30:00+01:00","now_utc":"2026-03-20T09:30:00+00:00",'
        '"response":{"city":"Malmö"}}}'
    )


@given(st.text(), st.text(), st.text(min_size=1))
def test_the_envelope_is_compact_json(provider, action, message):
    app = ProviderApp("weather")
    dispatcher = attrs.evolve(app._dispatcher(VirtualClock()), provider=provider)
    body = dispatcher.fail(Task("1", action), TaskError(message)).body
    envelope = json.loads(body)
    assert (envelope["data"]["provider"], envelope["data"]["action"]) == (provider, action)
    assert (envelope["message"], dumps(envelope)) == (message, body)


def test_the_envelope_has_no_other_fields(envelope):
    assert list(envelope) == ["status", "message", "data"]


def test_the_envelope_s_data_has_no_other_fields(envelope):
    fields = ["provider", "action", "timezone", "now", "now_utc", "response"]
    assert list(envelope["data"]) == fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("provider", "weather"),
        ("action", "forecast"),
        ("timezone", "Europe/Madrid"),
        ("now", "2026-03-20T10:30:00+01:00"),
        ("now_utc", "2026-03-20T09:30:00+00:00"),
        ("response", {"city": "Paris"}),
    ],
)
def test_a_field_of_the_envelope_s_data(envelope, field, value):
    assert envelope["data"][field] == value


def test_the_local_time_follows_the_summer_time():
    app = ProviderApp(timezone="Europe/Madrid")
    app.action("forecast")(lambda: None)
    clock = VirtualClock(datetime(2026, 7, 20, 9, 30, tzinfo=timezone.utc))
    data = app.test_client(clock=clock).call("forecast").envelope["data"]
    assert data["now"] == "2026-07-20T11:30:00+02:00"


def test_the_time_is_the_end_of_the_handler():
    app = ProviderApp(execution_timeout=60)
    app.action("forecast")(lambda: client.clock.advance(30))
    client = app.test_client()
    data = client.call("forecast").envelope["data"]
    assert data["now_utc"] == "2026-01-01T00:00:30+00:00"


def test_the_time_zone_is_utc_by_default(monkeypatch):
    monkeypatch.delenv("PROVIDER_TIMEZONE", raising=False)
    assert result_of(lambda: None).envelope["data"]["timezone"] == "UTC"


def test_fractions_of_a_second_are_left_out():
    app = ProviderApp()
    app.action("forecast")(lambda: None)
    clock = VirtualClock(datetime(2026, 1, 1, microsecond=999_999, tzinfo=timezone.utc))
    data = app.test_client(clock=clock).call("forecast").envelope["data"]
    assert data["now_utc"] == "2026-01-01T00:00:00+00:00"


def test_an_error_has_the_same_envelope():
    envelope = result_of(raising(ValueError("no"))).envelope
    assert {**envelope, "data": {**envelope["data"], "response": {}}} == {
        "status": "error",
        "message": "no",
        "data": {
            "provider": "weather",
            "action": "forecast",
            "timezone": "UTC",
            "now": "2026-01-01T00:00:00+00:00",
            "now_utc": "2026-01-01T00:00:00+00:00",
            "response": {},
        },
    }


def test_an_unknown_action_is_named_in_the_envelope():
    result = ProviderApp().test_client().call("nothing")
    assert result.envelope["data"]["action"] == "nothing"


@pytest.mark.parametrize("status", DEFAULT_MESSAGES)
def test_the_result_s_status_is_the_envelope_s(status):
    result = result_of(lambda: ProviderResponse(status))
    assert result.status.value == result.envelope["status"] == status


def test_a_result_knows_its_task_s_id():
    app = ProviderApp()
    assert app.test_client().call("nothing", id="t-5").id == "t-5"


# Values that a handler returns.


def test_a_handler_s_data_is_a_success():
    assert result_of(lambda: {"a": 1}).status is Status.SUCCESS


def test_none_becomes_an_empty_object():
    assert response_of(lambda: None) == {}


@pytest.mark.parametrize("value", [0, False, "", [], {}, 1.5, "text", [1, None]], ids=repr)
def test_any_other_data_stays_the_same(value):
    assert response_of(lambda: value) == value


def test_data_is_a_copy_of_the_handler_s_object():
    kept = {"a": [1]}
    result = result_of(lambda: kept)
    kept["a"].append(2)
    assert result.data == {"a": [1]}


def test_a_value_without_a_json_form_is_an_error_with_its_paths():
    assert response_of(lambda: {"a": [1, {2}], "b": float("nan")}) == {
        "error": "The action returned what JSON can't carry: "
        "a[1]: a set has no order in JSON; return sorted(...) or list(...) of it; "
        "b: nan is not a JSON number",
        "problems": [
            {
                "path": "a[1]",
                "message": "a set has no order in JSON; return sorted(...) or list(...) of it",
            },
            {"path": "b", "message": "nan is not a JSON number"},
        ],
    }


def test_a_handler_whose_result_has_no_json_form_runs_once():
    runs = []

    def handler():
        runs.append(1)
        return {1}

    result_of(handler)
    assert runs == [1]


# ProviderResponse.


@pytest.mark.parametrize(("status", "message"), DEFAULT_MESSAGES.items(), ids=DEFAULT_MESSAGES)
def test_a_status_has_a_default_message(status, message):
    assert result_of(lambda: ProviderResponse(status)).envelope["message"] == message


@pytest.mark.parametrize("message", [None, ""], ids=repr)
def test_an_empty_message_is_the_default(message):
    response = ProviderResponse("warning", message)
    assert response.message == "Action completed with warnings"


def test_a_message_of_the_handler_is_kept():
    assert result_of(lambda: ProviderResponse("error", "Sold out")).message == "Sold out"


@pytest.mark.parametrize("message", [5, b"text", ["text"], ValueError("text")], ids=repr)
def test_a_message_on_the_wire_is_always_a_string(message):
    assert type(result_of(lambda: ProviderResponse("error", message)).envelope["message"]) is str


def test_a_message_on_the_wire_is_always_utf_8():
    assert result_of(lambda: ProviderResponse("success", "\ud800")).body.encode()


@pytest.mark.parametrize("status", Status, ids=lambda status: status.value)
def test_a_status_may_be_given_as_a_member_or_as_text(status):
    assert ProviderResponse(status) == ProviderResponse(status.value)


@pytest.mark.parametrize("status", ["ok", "SUCCESS", "", None, 200], ids=repr)
def test_an_unknown_status_is_a_value_error(status):
    with pytest.raises(ValueError) as caught:
        ProviderResponse(status)
    assert str(caught.value) == (
        f"status must be one of 'success', 'error', 'warning', 'limit', not {status!r}"
    )


def test_a_handler_s_unknown_status_is_an_error_result():
    assert response_of(lambda: ProviderResponse("ok"))["type"] == "ValueError"


def test_a_response_without_data_has_an_empty_object():
    assert ProviderResponse("success").data == {}


@pytest.mark.parametrize("value", [0, False, "", []], ids=repr)
def test_a_response_s_data_that_is_not_none_is_kept(value):
    assert response_of(lambda: ProviderResponse("success", data=value)) == value


def test_a_response_can_t_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ProviderResponse("success").message = "another"


def test_a_response_can_be_evolved():
    evolved = attrs.evolve(ProviderResponse("success", data=[1]), message="one")
    assert evolved == ProviderResponse("success", "one", [1])


def test_equal_responses_are_equal():
    assert ProviderResponse("success", "one", [1]) == ProviderResponse("success", "one", [1])


# Each case of the protocol's table.


def city_and_days(city: str, days: int):
    return city, days


def test_a_payload_that_does_not_fit():
    assert response_of(city_and_days, {"days": "3"}) == {
        "error": "city: required field is missing; days: expected an integer, got a string",
        "problems": [
            {"path": "city", "message": "required field is missing"},
            {"path": "days", "message": "expected an integer, got a string"},
        ],
    }


def test_a_payload_that_does_not_fit_has_status_error():
    assert result_of(city_and_days, {}).status is Status.ERROR


def test_an_account_that_does_not_fit():
    def handler(account):
        return account

    assert response_of(handler, account_schema={"id": int}) == {
        "error": "account.id: required field is missing",
        "problems": [{"path": "account.id", "message": "required field is missing"}],
    }


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xff", "not UTF-8: byte 0 can't be decoded"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes (character 1)"),
        (b"[]", "expected a JSON object, got an array"),
        (b'{"a": NaN}', "not JSON: NaN is not a JSON number"),
    ],
    ids=["bytes", "text", "array", "NaN"],
)
def test_a_payload_that_is_not_a_json_object(payload, message):
    assert response_of(lambda: None, payload) == {
        "error": f"payload: {message}",
        "problems": [{"path": "payload", "message": message}],
    }


def test_an_unknown_action():
    app = ProviderApp()
    for name in ("b", "a"):
        app.action(name)(lambda: None)
    result = app.test_client().call("c")
    assert (result.status, result.message, result.data) == (
        "error",
        "Action not found",
        {"error": "Action not found", "available_actions": ["a", "b"]},
    )


def test_an_unknown_action_of_an_app_without_actions():
    assert ProviderApp().test_client().call("c").data["available_actions"] == []


def test_a_task_over_a_limit():
    app = ProviderApp()
    app.action("forecast")(app.rate_limit("2/second")(lambda: None))
    client = app.test_client()
    for _ in range(2):
        client.call("forecast")
    result = client.call("forecast")
    assert (result.status, result.message, result.data) == (
        "limit",
        "Rate limit exceeded",
        {
            "wait_time": 1.0,
            "limit": "2/second",
            "limits": [{"limit": "2/second", "remaining": 0, "wait_time": 1.0}],
        },
    )


def test_a_handler_that_raises():
    result = result_of(raising(ValueError("Sold out")))
    assert (result.status, result.message, result.data) == (
        "error",
        "Sold out",
        {"error": "Sold out", "type": "ValueError"},
    )


def test_a_handler_that_runs_out_of_time():
    app = ProviderApp()
    app.action("slow", timeout=2.5)(lambda: client.clock.advance(3))
    client = app.test_client()
    result = client.call("slow")
    text = "The action ran longer than its timeout of 2.5 s"
    assert (result.status, result.message, result.data) == (
        "error",
        text,
        {"error": text, "timeout": 2.5},
    )


# Errors of a handler.


class Custom(BaseException):
    """An error that `except Exception` does not catch."""


class StrRaises(Exception):
    """An error whose __str__ raises."""

    def __str__(self):
        raise RuntimeError("no text")


class StrIsNotText(Exception):
    """An error whose __str__ does not return a string."""

    def __str__(self):
        return 5  # noqa: PLE0307


class Special(TaskError):
    """A TaskError of the provider's author."""


RAISED = {
    "ValueError": (ValueError("Sold out"), "Sold out"),
    "KeyError": (KeyError("city"), "KeyError: 'city'"),
    "ValueError of a number": (ValueError(5), "ValueError: 5"),
    "ValueError of several values": (ValueError("sold out", 5), "ValueError: ('sold out', 5)"),
    "OSError": (FileNotFoundError(2, "No such file", "a"), "[Errno 2] No such file: 'a'"),
    "KeyError without a key": (KeyError(), "KeyError"),
    "without text": (ValueError(), "ValueError"),
    "SystemExit": (SystemExit("bye"), "bye"),
    "SystemExit without text": (SystemExit(), "SystemExit"),
    "KeyboardInterrupt": (KeyboardInterrupt(), "KeyboardInterrupt"),
    "GeneratorExit": (GeneratorExit("bye"), "bye"),
    "StopIteration": (StopIteration("bye"), "bye"),
    "StopAsyncIteration": (StopAsyncIteration("bye"), "bye"),
    "CancelledError": (asyncio.CancelledError("bye"), "bye"),
    "custom": (Custom("bye"), "bye"),
    "custom task error": (Special("Sold out"), "Sold out"),
    "__str__ raises": (StrRaises(), "StrRaises"),
    "__str__ returns a number": (StrIsNotText(), "StrIsNotText"),
    "several lines": (ValueError("one\ntwo"), "one\ntwo"),
}
if sys.version_info >= (3, 11):
    INNER = ExceptionGroup("inner", [KeyError("city"), OSError()])  # noqa: F821
    RAISED["ExceptionGroup"] = (
        ExceptionGroup("Two tasks", [ValueError("Sold out"), INNER]),  # noqa: F821
        "Two tasks (2 sub-exceptions): ValueError: Sold out; KeyError: 'city'; OSError",
    )
    RAISED["large ExceptionGroup"] = (
        ExceptionGroup("Tasks", [ValueError(n) for n in range(99)]),  # noqa: F821
        f"Tasks (99 sub-exceptions): {'; '.join(f'ValueError: {n}' for n in range(10))}",
    )
every_error = pytest.mark.parametrize(("error", "text"), RAISED.values(), ids=RAISED)


@every_error
def test_an_error_of_a_plain_handler_is_an_error_result(error, text):
    result = result_of(raising(error))
    assert (result.status, result.message, result.data) == (
        "error",
        text,
        {"error": text, "type": type(error).__name__},
    )


@every_error
def test_an_error_of_an_async_handler_is_an_error_result(error, text):
    async def handler():
        raise error

    assert response_of(handler) == {"error": text, "type": type(error).__name__}


@every_error
def test_an_error_of_an_async_handler_in_a_running_loop_is_an_error_result(error, text):
    async def handler():
        raise error

    async def main():
        app = ProviderApp()
        app.action("forecast")(handler)
        return await app.test_client().acall("forecast")

    assert asyncio.run(main()).message == text


# Made in the handler, since some of them fail when they are made.
AWKWARD = {
    "a text that is not Unicode": lambda: ValueError("\ud800"),
    "a file name that is not Unicode": lambda: FileNotFoundError(2, "No such file", "\ud800"),
    "an infinite wait": lambda: RateLimited(float("inf")),
    "a text instead of problems": lambda: InvalidPayloadError("the quantity is odd"),
    "texts instead of problems": lambda: InvalidPayloadError(["the quantity is odd"]),
    "problems that are not Unicode": lambda: InvalidPayloadError([Problem("\ud800", "\ud800")]),
    "actions that are objects": lambda: ActionNotFoundError("c", [object()]),
    "a timeout that is not a number": lambda: TaskTimeoutError(float("nan")),
}


@pytest.mark.parametrize("make", AWKWARD.values(), ids=AWKWARD)
def test_an_error_without_a_json_form_is_still_a_result(make):
    def handler():
        raise make()

    result = result_of(handler)
    assert (result.status in ("error", "limit"), bool(result.body.encode())) == (True, True)


def test_an_unknown_field_that_is_not_unicode_is_an_error_result():
    result = result_of(lambda: None, b'{"\\ud800": 1}', forbid_extra=True)
    assert (result.status, result.body.encode() != b"") == ("error", True)


def test_a_bad_value_in_a_field_that_is_not_unicode_is_an_error_result():
    def handler(prices: dict[str, int]):
        return prices

    result = result_of(handler, b'{"prices": {"\\ud800": "x"}}')
    assert (result.status, result.body.encode() != b"") == ("error", True)


def test_a_chained_error_shows_only_its_own_text():
    def handler():
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise KeyError("outer") from error

    assert response_of(handler) == {"error": "KeyError: 'outer'", "type": "KeyError"}


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_the_error_of_an_http_status_has_no_link_to_documentation(name):
    library = pytest.importorskip(name)  # httpx2 needs Python 3.11
    request = library.Request("GET", "https://api.example.com/me")
    response = library.Response(401, request=request)

    def handler():
        response.raise_for_status()

    text = "Client error '401 Unauthorized' for url 'https://api.example.com/me'"
    assert response_of(handler) == {"error": text, "type": "HTTPStatusError"}


def test_a_link_that_is_not_the_last_line_of_an_error_is_kept():
    text = "sold out\nFor more information check: https://example.com/\nor call us"
    assert response_of(raising(ValueError(text)))["error"] == text


@pytest.mark.parametrize("trace", ["Traceback", "line ", ".py"])
@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit("no"), StrRaises()],
    ids=lambda error: type(error).__name__,
)
def test_no_result_holds_a_traceback(error, trace):
    assert trace not in result_of(raising(error)).body


# The task errors, raised by a handler.


def test_a_handler_may_start_a_cooldown():
    result = result_of(raising(RateLimited(30)))
    assert (result.status, result.message, result.data) == (
        "limit",
        "Rate limit exceeded",
        {"wait_time": 30.0, "limit": None},
    )


def test_a_handler_may_name_the_limit():
    assert response_of(raising(RateLimited(0.5, "vendor's"))) == {
        "wait_time": 0.5,
        "limit": "vendor's",
    }


@pytest.mark.parametrize("wait", [float("nan"), float("inf"), "soon", None], ids=repr)
def test_an_invalid_wait_is_a_value_error(wait):
    with pytest.raises(ValueError, match="retry_after must be a number of seconds, not"):
        RateLimited(wait)


def test_a_handler_may_refuse_the_payload():
    problems = [Problem("a.b", "too small"), Problem("", "odd")]
    assert response_of(raising(InvalidPayloadError(problems))) == {
        "error": "a.b: too small; odd",
        "problems": [{"path": "a.b", "message": "too small"}, {"path": "", "message": "odd"}],
    }


def test_a_handler_may_refuse_the_whole_payload_in_one_sentence():
    assert response_of(raising(InvalidPayloadError("Not today"))) == {
        "error": "Not today",
        "problems": [{"path": "", "message": "Not today"}],
    }


def test_a_handler_may_deny_the_action():
    assert response_of(raising(ActionNotFoundError("x", ["y"]))) == {
        "error": "Action not found",
        "available_actions": ["y"],
    }


def test_a_handler_may_raise_the_timeout_itself():
    assert response_of(raising(TaskTimeoutError(5)))["timeout"] == 5


# The properties of a result.


def test_a_success_has_no_wait_time():
    assert result_of(lambda: {"wait_time": 5}).wait_time is None


def test_a_success_has_no_problems():
    assert result_of(lambda: {"problems": [1]}).problems == []


def test_a_limit_response_of_the_handler_has_a_wait_time():
    assert result_of(lambda: ProviderResponse("limit", data={"wait_time": 5})).wait_time == 5


def test_an_error_without_details_has_no_wait_time():
    assert result_of(lambda: ProviderResponse("error", data=[1])).wait_time is None


def test_the_repr_of_a_result_leaves_out_payload_and_account():
    def handler(account, city):
        return {}

    app = ProviderApp()
    app.action("forecast")(handler)
    result = app.test_client().call("forecast", {"city": "secret-1"}, account={"key": "secret-2"})
    assert "secret-" not in repr(result)
