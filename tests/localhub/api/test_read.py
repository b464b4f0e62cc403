"""Lists of tasks, tasks, and waits for their ends."""

from __future__ import annotations

import json
import threading
from urllib.parse import quote

import pytest
from support.api_hubs import SUCCESS
from support.waiting import TIMEOUT, wait_until

from arbprov.localhub.api import tasks_endpoints
from arbprov.localhub.submitting import make_task

TASKS = "/api/v1/tasks"


def ids(answer):
    return [task["id"] for task in answer.json["tasks"]]


# Lists.


def test_a_list_has_the_latest_task_first(api):
    for name in "abc":
        api.submit(id=name)
    answer = api.ask("GET", TASKS)
    assert (ids(answer), answer.json["next"]) == (["c", "b", "a"], None)


def test_pages_have_each_task_once_though_new_ones_come(api):
    for number in range(7):
        api.submit(id=str(number))
    found, cursor = [], ""
    while cursor is not None:
        answer = api.ask("GET", f"{TASKS}?limit=3{cursor and '&cursor='}{cursor}")
        found += ids(answer)
        cursor = answer.json["next"]
        api.submit()
    assert found == ["6", "5", "4", "3", "2", "1", "0"]


def test_a_page_that_holds_all_tasks_is_the_last(api):
    api.ask("POST", TASKS, [{"action": "a"}] * 100)
    assert api.ask("GET", f"{TASKS}?limit=100").json["next"] is None
    assert api.ask("GET", f"{TASKS}?limit=99").json["next"] is not None


def test_a_page_of_large_tasks_is_shorter(api, monkeypatch):
    monkeypatch.setattr(tasks_endpoints, "_MAX_PAGE_SIZE", 1_000)
    for number in range(3):
        api.submit(id=str(number), payload={"text": "x" * 600})
    first = api.ask("GET", TASKS)
    assert ids(first) == ["2", "1"]
    assert ids(api.ask("GET", f"{TASKS}?cursor={first.json['next']}")) == ["0"]


def test_a_page_looks_for_a_text_in_a_part_of_the_tasks(api, monkeypatch):
    monkeypatch.setattr("arbprov.localhub.api.filters.MOST_SEARCHED", 2)
    for name, city in {"a": "Paris", "b": "Paris", "c": "Rome", "d": "Rome"}.items():
        api.submit(id=name, payload={"city": city})
    first = api.ask("GET", f"{TASKS}?text=Paris")
    assert ids(first) == []
    second = api.ask("GET", f"{TASKS}?text=Paris&cursor={first.json['next']}")
    assert (ids(second), second.json["next"]) == (["b", "a"], None)


@pytest.fixture
def various(api):
    """Tasks of each kind, by their ids."""
    api.submit(
        "forecast", id="paris", payload={"city": "Paris", "n": 7, "ok": True}, account={"id": 1}
    )
    api.finish()
    api.submit("forecast", id="bonn", payload={"city": "Bonn"}, account_key="acme")
    api.finish("error", '{"message": "sold out", "data": {"response": {"type": "PlugError"}}}')
    api.submit("report", id="waits", provider="printer", payload={"city": "Paris"})
    return api


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("action=forecast", ["bonn", "paris"]),
        ("account=acme", ["bonn"]),
        ("provider=printer", ["waits"]),
        ("provider=weather", ["bonn", "paris"]),
        ("state=done", ["paris"]),
        ("state=done&state=waiting", ["waits", "paris"]),
        ("error_type=PlugError", ["bonn"]),
        ("text=SOLD", ["bonn"]),
        ("payload.city=Paris", ["waits", "paris"]),
        ("payload.city=Paris&payload.n=7", ["paris"]),
        ("payload.ok=true", ["paris"]),
        ("id=bonn&id=waits&id=x", ["waits", "bonn"]),
        ("created_after=2020-01-01T00:00:00Z", ["waits", "bonn", "paris"]),
        ("created_after=4e9", []),
        ("created_before=2020-01-01T00:00:00%2B01:00", []),
        ("action=forecast&state=failed&text=sold", ["bonn"]),
    ],
)
def test_a_filter_finds(various, query, found):
    assert ids(various.ask("GET", f"{TASKS}?{query}")) == found


NO_TIME = "expected one of datetime, float, null, got a string"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("acton=a", "acton: unknown field; did you mean 'action'?"),
        ("payload=a", "payload: unknown field; did you mean 'payload.NAME'?"),
        ("action=a&action=b", "action: given twice"),
        ("payload.a=1&payload.a=2", "payload.a: given twice"),
        ("action=", "action: must not be empty"),
        ("limit=0", "limit: must be at least 1"),
        ("limit=1001", "limit: must be at most 1000"),
        ("limit=five", "limit: expected an integer, got a string"),
        ("limit=1.0", "limit: expected an integer, got a string"),
        ("payload.=1", "payload.: must have a name, and no NUL"),
        ("payload.a=%00", "payload.a: must have a name, and no NUL"),
        (f"payload.a={'x' * 1_001}", "payload.a: must have at most 1,000 characters"),
        ("text=%00", "text: must not contain NUL"),
        ("text=%ff", ": the address is not UTF-8"),
        ("&".join(["id=a"] * 1_001), ": more than 1,000 parameters"),
        ("created_after=5.x", f"created_after: {NO_TIME}"),
        ("created_after=nan", f"created_after: {NO_TIME}"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_not_valid_is_refused(api, query, problem):
    answer = api.ask("GET", f"{TASKS}?{query}")
    assert (answer.status, answer.problems) == (422, [problem])


def test_an_unknown_state_is_refused(api):
    answer = api.ask("GET", f"{TASKS}?state=finished")
    assert (answer.status, answer.json["problems"][0]["path"]) == (422, "state[0]")


@pytest.mark.parametrize(
    "cursor",
    [
        *("x", "5", "%20", "w6k", "A" * 1_001),
        # "before -5", and a number of more than 64 bits.
        *("YmVmb3JlIC01", "YmVmb3JlIDk5OTk5OTk5OTk5OTk5OTk5OTk"),
    ],
)
def test_a_cursor_of_somebody_else_is_refused(api, cursor):
    answer = api.ask("GET", f"{TASKS}?cursor={cursor}")
    assert (answer.status, answer.json["problems"][0]["path"]) == (422, "cursor")


# Tasks.


def test_a_task_has_its_result_and_its_attempts(api):
    task_id = api.submit()
    api.finish()
    task = api.ask("GET", f"{TASKS}/{task_id}").json
    assert (task["state"], task["status"], task["message"]) == ("done", "success", "done")
    assert task["result"] == json.loads(SUCCESS)
    (attempt,) = task["history"]
    assert (attempt["number"], attempt["provider"], attempt["end"], attempt["result"]) == (
        *(1, "weather", "result"),
        json.loads(SUCCESS),
    )


def test_a_running_attempt_has_no_result(api):
    task_id = api.submit()
    api.take()
    task = api.ask("GET", f"{TASKS}/{task_id}").json
    assert (task["state"], task["worker"], task["history"][0]["result"]) == (
        "running",
        "weather",
        None,
    )
    assert task["lease_ends_at"] > task["started_at"] > task["created_at"]


def test_another_result_of_an_attempt_is_shown_aside(api):
    task_id = api.submit()
    api.finish()
    api.record(task_id, "error", "{}")
    api.record(task_id, "error", "not JSON")
    (attempt,) = api.ask("GET", f"{TASKS}/{task_id}").json["history"]
    assert [*map(unwrap, attempt["aside"])] == [{}, "not JSON"]


def unwrap(aside):
    # A store may keep the status beside the envelope.
    return aside.get("result", aside) if isinstance(aside, dict) else aside


def test_what_is_not_json_is_shown_as_text(api):
    task = make_task("a", b"\xff{", account=b"[1", id="t1")
    api.run(api.queue.submit([task]))
    api.finish(result="{not JSON")
    shown = api.ask("GET", f"{TASKS}/t1").json
    assert (shown["payload"], shown["payload_text"]) == (None, "\ufffd{")
    assert (shown["result"], shown["result_text"]) == (None, "{not JSON")
    assert shown["account"] is None


def test_half_a_character_is_sent_as_the_escape_that_it_was(api):
    api.run(api.queue.submit([make_task("a", b'{"a": "\\ud800"}', id="t1")]))
    assert b'"\\ud800"' in api.ask("GET", f"{TASKS}/t1").content


@pytest.mark.parametrize("id", ["a/b", "a b?c#d", "...", "ü", "retry", "%2F"])
def test_a_task_is_found_by_any_id(api, id):
    api.submit(id=id)
    assert api.ask("GET", f"{TASKS}/{quote(id, safe='')}").json["id"] == id


@pytest.mark.parametrize("id", ["unknown", "%00", "x" * 5_000])
@pytest.mark.parametrize(
    ("method", "verb"),
    [("GET", ""), ("GET", "/wait"), ("POST", "/retry"), ("POST", "/cancel")],
)
def test_an_unknown_task_is_not_found(api, id, method, verb):
    answer = api.ask(method, f"{TASKS}/{id}{verb}")
    assert (answer.status, answer.json["detail"]) == (404, "the hub has no task with this id")


def test_an_id_that_is_not_utf_8_is_refused(api):
    assert api.ask("GET", f"{TASKS}/%ff").problems == ["id: not UTF-8"]


# Accounts.


def test_an_admin_sees_accounts_unless_they_are_to_be_masked(api):
    task_id = api.submit(account={"key": "k-123"})
    assert api.ask("GET", f"{TASKS}/{task_id}").json["account"] == {"key": "k-123"}
    assert api.ask("GET", f"{TASKS}/{task_id}?accounts=masked").json["account"] == {"key": "***"}
    assert api.ask("GET", f"{TASKS}?accounts=masked").json["tasks"][0]["account"] == {"key": "***"}


@pytest.mark.parametrize("path", [TASKS, f"{TASKS}/t1", f"{TASKS}/t1/wait"])
def test_a_reader_never_sees_the_values_of_accounts(api, path):
    api.submit(id="t1", account={"key": "k-123", "hunter22!": 1})
    api.finish()
    answer = api.ask("GET", path, token=api.readers)
    assert b'"account":{"key":"***","***":"***"}' in answer.content
    assert b"k-123" not in answer.content
    assert b"hunter22" not in answer.content
    assert api.ask("GET", f"{path}?accounts=full", token=api.readers).status == 403


@pytest.mark.parametrize(("account", "masked"), [(b"[1]", "***"), (b"", {}), (b"null", None)])
def test_an_account_that_is_not_an_object_is_masked_too(api, account, masked):
    api.run(api.queue.submit([make_task("a", account=account, id="t1")]))
    assert api.ask("GET", f"{TASKS}/t1?accounts=masked").json["account"] == masked


# Waits.


def test_a_wait_is_over_when_the_task_has_ended(api):
    task_id = api.submit()
    answers = []
    path = f"{TASKS}/{task_id}/wait?timeout=60"
    thread = threading.Thread(target=lambda: answers.append(api.ask("GET", path)))
    thread.start()
    wait_until(lambda: api.queue._waits)
    api.finish()
    thread.join(TIMEOUT)
    assert answers[0].json["state"] == "done"


def test_a_wait_without_an_end_in_time_shows_the_task_as_it_is(api):
    task_id = api.submit()
    assert api.ask("GET", f"{TASKS}/{task_id}/wait?timeout=0.01").json["state"] == "waiting"


def test_a_wait_ends_when_the_hub_stops(api):
    task_id = api.submit()
    answers = []
    path = f"{TASKS}/{task_id}/wait?timeout=60"
    thread = threading.Thread(target=lambda: answers.append(api.ask("GET", path)))
    thread.start()
    wait_until(lambda: api.queue._waits)
    api.loop.call_soon_threadsafe(api.hub.stopping.set)
    thread.join(TIMEOUT)
    assert (answers[0].status, answers[0].json["detail"]) == (
        503,
        "the hub stops; ask again when it has started",
    )


def test_a_wait_can_be_a_minute_at_most(api):
    task_id = api.submit()
    answer = api.ask("GET", f"{TASKS}/{task_id}/wait?timeout=61")
    assert answer.problems == ["timeout: must be at most 60"]
