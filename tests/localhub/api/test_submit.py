"""``POST /api/v1/tasks``."""

from __future__ import annotations

import json

import pytest

from arbprov.localhub import submitting

TASKS = "/api/v1/tasks"


def test_a_new_task_is_answered_with_its_json(api):
    answer = api.ask("POST", TASKS, {"action": "forecast", "payload": {"city": "Paris"}})
    assert answer.status == 201
    task = answer.json
    assert (task["action"], task["state"], task["payload"], task["attempts"], task["result"]) == (
        *("forecast", "waiting", {"city": "Paris"}),
        *(0, None),
    )


def test_each_field_reaches_the_store(api):
    fields = {
        "payload": {"city": "Paris"},
        "account": {"key": "k-123"},
        "account_key": "acme",
        "provider": "weather",
        "id": "t1",
        "priority": 5,
        "not_before": 4e9,
        "ttl": 60,
        "max_deliveries": 3,
        "idempotency_key": "once",
        "traceparent": "00-1-2-01",
    }
    api.submit("forecast", **fields)
    task = api.stored("t1")
    assert (json.loads(task.payload), json.loads(task.account)) == (
        {"city": "Paris"},
        {"key": "k-123"},
    )
    assert (task.account_key, task.provider, task.priority) == ("acme", "weather", 5)
    assert (task.not_before, task.max_deliveries) == (4e9, 3)
    assert task.expires_at == task.created_at + 60
    assert (task.idempotency_key, task.traceparent) == ("once", "00-1-2-01")


def test_a_time_may_be_written_with_an_offset(api):
    task = api.ask("POST", TASKS, {"action": "a", "not_before": "2096-10-02T09:06:40+02:00"}).json
    assert task["not_before"] == "2096-10-02T07:06:40+00:00"


def test_a_known_idempotency_key_answers_the_first_task(api):
    first = api.submit(idempotency_key="once", payload={"n": 1})
    answer = api.ask("POST", TASKS, {"action": "forecast", "idempotency_key": "once"})
    assert (answer.status, answer.json["id"], answer.json["payload"]) == (200, first, {"n": 1})


@pytest.mark.parametrize("wrap", [lambda tasks: tasks, lambda tasks: {"tasks": tasks}])
def test_many_tasks_are_answered_with_their_ids(api, wrap):
    known = api.submit(id="t1")
    answer = api.ask(
        "POST", TASKS, wrap([{"action": "a", "id": "t2"}, {"action": "a", "id": known}])
    )
    assert answer.status == 201
    assert answer.json == {"tasks": [{"id": "t2", "is_new": True}, {"id": "t1", "is_new": False}]}


def test_many_tasks_that_the_hub_has_are_no_new_ones(api):
    api.submit(id="t1")
    assert api.ask("POST", TASKS, [{"action": "a", "id": "t1"}]).status == 200


def test_no_tasks_are_fine(api):
    assert api.ask("POST", TASKS, []).json == {"tasks": []}


def test_of_many_tasks_all_or_none_are_added(api):
    answer = api.ask("POST", TASKS, {"tasks": [{"action": "a"}, {"action": ""}, {"acton": "a"}]})
    assert answer.status == 422
    assert answer.problems == [
        "tasks[1].action: must not be empty",
        "tasks[2].action: required field is missing",
        "tasks[2].acton: unknown field; did you mean 'action'?",
    ]
    assert api.all_tasks() == []


def test_thousands_of_tasks_go_into_one_request(api):
    answer = api.ask("POST", TASKS, [{"action": "a"}] * 3_000)
    assert len({task["id"] for task in answer.json["tasks"]}) == 3_000


def test_too_many_tasks_are_refused(api):
    answer = api.ask("POST", TASKS, {"tasks": [{}] * 10_001})
    assert answer.problems == ["tasks: 10,001 tasks are too many; send at most 10,000 at once"]


def test_the_search_for_problems_ends(api):
    # 10,000 problems are enough.
    answer = api.ask("POST", TASKS, [{"a": 1, "b": 1}] * 5_000)
    assert len(answer.json["problems"]) == 100
    assert "and 9,99" in answer.json["detail"] or "and 10,0" in answer.json["detail"]


def test_tasks_and_other_fields_do_not_go_together(api):
    answer = api.ask("POST", TASKS, {"tasks": [], "action": "a"})
    assert answer.problems == ["action: not together with `tasks`"]


HALF = "a string with a lone surrogate is not Unicode text"
DOTS = "must not be . or .., which a browser takes out of an address"
OUTSIDE = "must be after 1970 and before the year 5138"


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({}, "action: required field is missing"),
        ({"action": 5}, "action: expected a string, got an integer"),
        ({"action": "a" * 201}, "action: must have at most 200 bytes of UTF-8"),
        ({"action": "\0"}, "action: must not contain NUL"),
        ({"action": "\ud800"}, f"action: {HALF}"),
        ({"action": "a", "id": ""}, "id: must not be empty"),
        ({"action": "a", "id": "."}, f"id: {DOTS}"),
        ({"action": "a", "id": ".."}, f"id: {DOTS}"),
        ({"action": "a", "payload": []}, "payload: expected an object, got an array"),
        ({"action": "a", "payload": {"a": "\ud800"}}, f"payload.a: {HALF}"),
        ({"action": "a", "account": {"a": "\ud800"}}, f"account.a: {HALF}"),
        ({"action": "a", "priority": 1_001}, "priority: must be at most 1000"),
        ({"action": "a", "priority": -1_001}, "priority: must be at least -1000"),
        (
            {"action": "a", "priority": 1.5},
            "priority: expected an integer, got a number with a fraction",
        ),
        ({"action": "a", "max_deliveries": 0}, "max_deliveries: must be at least 1"),
        ({"action": "a", "ttl": 0}, "ttl: must be greater than 0"),
        ({"action": "a", "ttl": 1e12}, "ttl: must be less than 1e+11"),
        ({"action": "a", "ttl": 10**400}, "ttl: expected a number that a double can hold"),
        ({"action": "a", "not_before": 0}, f"not_before: {OUTSIDE}"),
        ({"action": "a", "not_before": "9999-01-01T00:00:00Z"}, f"not_before: {OUTSIDE}"),
        (
            {"action": "a", "not_before": "2026-01-01T00:00:00"},
            "not_before: must end with Z or an offset such as +01:00",
        ),
        (5, ": expected an object or an array, got an integer"),
        ({"tasks": 5}, "tasks: expected an object or an array, got an integer"),
    ],
)
def test_a_task_that_is_not_valid_is_refused_with_its_path(api, task, problem):
    answer = api.ask("POST", TASKS, task)
    assert (answer.status, answer.problems) == (422, [problem])
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_only_the_hub_itself_refuses_is_refused_too(api, monkeypatch):
    monkeypatch.setattr(submitting, "_MAX_PRIORITY", 1)
    answer = api.ask("POST", TASKS, [{"action": "a", "priority": 5}])
    assert answer.problems == ["[0]: the task's priority must be from -1 to 1, not 5"]


def test_integers_are_exact_in_and_out(api):
    body = b'{"action": "a", "id": "t1", "payload": {"n": 123456789012345678901234567890}}'
    answer = api.ask("POST", TASKS, body)
    assert b'"n":123456789012345678901234567890' in answer.content
    assert b'"n":123456789012345678901234567890' in api.ask("GET", f"{TASKS}/t1").content
    assert json.loads(api.stored("t1").payload) == {"n": 123456789012345678901234567890}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_json_does_not_have_is_refused(api, number):
    answer = api.ask("POST", TASKS, b'{"action": "a", "payload": {"n": ' + number + b"}}")
    assert answer.status == 422


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000]
)
def test_a_body_that_is_not_json_or_too_deep_is_refused(api, body):
    assert api.ask("POST", TASKS, body).status == 422


def test_a_payload_may_have_100_levels(api):
    payload = json.loads('{"a":' * 99 + "{}" + "}" * 99)
    task_id = api.ask("POST", TASKS, [{"action": "a", "payload": payload}]).json["tasks"][0]["id"]
    assert api.ask("GET", f"{TASKS}?id={task_id}").json["tasks"][0]["payload"] == payload


def test_a_payload_of_101_levels_is_refused(api):
    payload = json.loads('{"a":' * 100 + "{}" + "}" * 100)
    answer = api.ask("POST", TASKS, {"action": "a", "payload": payload})
    assert answer.problems == ["payload: nested deeper than 100 levels"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": ""},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/json; charset=latin-1"},
        {"content_encoding": "gzip"},
    ],
)
def test_a_body_of_another_kind_is_refused(api, headers):
    answer = api.ask("POST", TASKS, {"action": "a"}, **headers)
    assert answer.status == 415
    assert api.all_tasks() == []


def test_a_body_may_say_that_it_is_utf_8(api):
    headers = {"content_type": 'Application/JSON; Charset="UTF-8"'}
    assert api.ask("POST", TASKS, {"action": "a"}, **headers).status == 201
