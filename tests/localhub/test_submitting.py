"""Tasks and results as they arrive at a hub."""

from __future__ import annotations

import json
import math

import pytest

from arbprov.localhub.submitting import make_task, read_result
from arbprov.payload.validation import ValidationFailure
from arbprov.responses import INVALID_RESULT
from arbprov.wire.accounts import find_account_key


def test_a_task_has_its_payload_and_account_as_json():
    task = make_task("forecast", {"city": "Paris"}, account={"key": "k"})
    assert (task.payload, task.account) == (b'{"city":"Paris"}', b'{"key":"k"}')


def test_a_task_without_an_account_has_the_key_of_an_empty_one():
    assert make_task("forecast").account_key == find_account_key(b"{}")


def test_a_given_account_key_is_used():
    assert make_task("forecast", account={"key": "k"}, account_key="shop-1").account_key == "shop-1"


def test_accounts_with_the_same_json_have_the_same_key():
    first, second = ({"id": 7, "b": 1}, b'{ "b": 1, "id": 7 }')
    keys = {make_task("forecast", account=account).account_key for account in (first, second)}
    assert len(keys) == 1


def test_an_account_that_is_not_json_has_a_key_of_its_own():
    keys = {find_account_key(account) for account in (b"nope", b"nopes", b"{}")}
    assert len(keys) == 3


def test_two_tasks_get_different_ids():
    assert make_task("forecast").id != make_task("forecast").id


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"action": 7}, TypeError, "the task's action must be a text, not 7"),
        ({"action": ""}, ValueError, "the task's action must not be empty"),
        ({"id": ""}, ValueError, "the task's id must not be empty"),
        ({"id": "a" * 201}, ValueError, "the task's id must have at most 200 bytes"),
        ({"id": "a\0"}, ValueError, "and no NUL"),
        ({"id": "."}, ValueError, r"the task's id must not be \. or \.\., which a browser"),
        ({"id": ".."}, ValueError, r"the task's id must not be \. or \.\., which a browser"),
        ({"id": "\ud800"}, ValueError, "surrogates not allowed"),
        ({"provider": None}, TypeError, "the task's provider must be a text"),
        ({"account_key": 7}, TypeError, "the task's account_key must be a text"),
        ({"idempotency_key": "a" * 201}, ValueError, "the task's idempotency_key"),
        ({"priority": True}, TypeError, "the task's priority must be an integer, not True"),
        ({"priority": 1001}, ValueError, "the task's priority must be from -1000 to 1000"),
        ({"max_deliveries": 0}, ValueError, "the task's max_deliveries must be from 1"),
        ({"not_before": "soon"}, TypeError, "the task's not_before must be a number of seconds"),
        ({"not_before": True}, TypeError, "the task's not_before must be a number of seconds"),
        ({"ttl": 0}, ValueError, "the task's ttl must be above 0"),
        ({"ttl": math.inf}, ValueError, "the task's ttl must be above 0 and finite"),
        ({"payload": {"x": math.nan}}, ValidationFailure, "x"),
    ],
)
def test_a_wrong_value_is_named(values, error, words):
    with pytest.raises(error, match=words):
        make_task(**{"action": "forecast"} | values)


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ({"city": "Paris", "days": 3}, {"city": "Paris", "days": "3"}),
        ({"exact": 2**70, "none": None}, {"exact": str(2**70), "none": "null"}),
        ({"nested": {"a": 1}, "list": [1]}, {}),
        ({"long": "a" * 300}, {"long": "a" * 200}),
        ({"a" * 201: 1}, {}),
        ({"nul": "a\0b"}, {"nul": "ab"}),
        (b"[1]", {}),
        (b"nope", {}),
    ],
)
def test_top_level_values_can_be_searched(payload, fields):
    assert json.loads(make_task("forecast", payload).fields) == fields


def envelope(response, message="text"):
    return json.dumps({"message": message, "data": {"response": response}})


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ({"error": "no", "type": "ValueError"}, "ValueError"),
        ({"error": "no", "problems": [{"path": "a"}]}, "invalid payload"),
        ({"error": f"{INVALID_RESULT}a: no", "problems": [{"path": "a"}]}, "invalid result"),
        ({"error": "no", "available_actions": []}, "unknown action"),
        ({"error": "no", "timeout": 1.0}, "timeout"),
        ({"error": "no"}, "error"),
        ("no", "error"),
    ],
)
def test_an_error_has_a_type(response, kind):
    assert read_result("t1", "error", envelope(response)).error_type == kind


def test_a_success_has_no_error_type():
    assert read_result("t1", "success", envelope({"type": "ValueError"})).error_type == ""


def test_a_limit_says_how_long_to_wait():
    result = read_result("t1", "limit", envelope({"wait_time": 2.5, "limit": "5/minute"}))
    assert (result.wait_time, result.limit) == (2.5, "5/minute")


@pytest.mark.parametrize(
    ("response", "wait_time"),
    [({}, 1.0), ({"wait_time": "x"}, 1.0), ({"wait_time": -3}, 1.0), ({"wait_time": 1e9}, 3600.0)],
)
def test_a_wait_without_measure_has_one(response, wait_time):
    assert read_result("t1", "limit", envelope(response)).wait_time == wait_time


def test_a_limit_that_is_not_retried_has_no_wait():
    body = envelope({"wait_time": 2.5})
    assert read_result("t1", "limit", body, retries_limits=False).wait_time == 0.0


@pytest.mark.parametrize("body", ["", "nope", "[]", '{"data": 7}', "[" * 10_000])
def test_an_envelope_that_is_not_one_is_kept_as_it_is(body):
    result = read_result("t1", "error", body)
    assert (result.result, result.message) == (body, "")


def test_a_long_message_is_cut_beside_the_result():
    assert len(read_result("t1", "error", envelope({}, "a" * 1000)).message) == 500
