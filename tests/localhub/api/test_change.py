"""Retry and cancel: one task, or all that match."""

from __future__ import annotations

import pytest

TASKS = "/api/v1/tasks"


def test_a_failed_task_is_retried(api):
    task_id = api.submit()
    api.finish("error")
    answer = api.ask("POST", f"{TASKS}/{task_id}/retry")
    assert (answer.status, answer.json["state"], answer.json["attempts"]) == (200, "waiting", 1)


def test_a_task_that_has_not_ended_is_not_retried(api):
    task_id = api.submit()
    answer = api.ask("POST", f"{TASKS}/{task_id}/retry")
    assert (answer.status, answer.json["detail"]) == (409, "the task has not ended: it is waiting")


def test_a_retry_has_no_body(api):
    task_id = api.submit()
    answer = api.ask("POST", f"{TASKS}/{task_id}/retry", {"reason": "x"})
    assert answer.problems == [": this request has no body"]


def test_a_waiting_task_is_cancelled(api):
    task_id = api.submit()
    task = api.ask("POST", f"{TASKS}/{task_id}/cancel").json
    assert (task["state"], task["reason"]) == ("cancelled", "cancelled")


def test_a_reason_is_kept(api):
    task_id = api.submit()
    assert (
        api.ask("POST", f"{TASKS}/{task_id}/cancel", {"reason": "a typo"}).json["reason"]
        == "a typo"
    )


def test_a_cancelled_task_can_be_cancelled_again(api):
    task_id = api.submit()
    api.ask("POST", f"{TASKS}/{task_id}/cancel")
    assert api.ask("POST", f"{TASKS}/{task_id}/cancel").status == 200


def test_a_task_that_is_done_is_not_cancelled(api):
    task_id = api.submit()
    api.finish()
    answer = api.ask("POST", f"{TASKS}/{task_id}/cancel")
    assert (answer.status, answer.json["detail"]) == (409, "the task has ended: it is done")


# All that match.


@pytest.fixture
def states(api):
    """A function that returns the states of some tasks, which are in each state but dead."""
    for state, number in (("done", 1), ("failed", 2), ("cancelled", 1)):
        for _ in range(number):
            task_id = api.submit()
            if state == "cancelled":
                api.ask("POST", f"{TASKS}/{task_id}/cancel")
            else:
                api.finish("success" if state == "done" else "error")
    api.submit()
    api.take()
    api.submit()
    return lambda: sorted(task["state"] for task in api.all_tasks())


BEFORE = ["cancelled", "done", "failed", "failed", "running", "waiting"]


def test_without_expect_the_tasks_are_only_counted(api, states):
    assert api.ask("POST", f"{TASKS}/retry", {"filter": {}}).json == {"matching": 3, "changed": 0}
    assert api.ask("POST", f"{TASKS}/cancel", {"filter": {}}).json == {"matching": 2, "changed": 0}
    assert states() == BEFORE


def test_with_expect_they_are_changed(api, states):
    answer = api.ask("POST", f"{TASKS}/retry", {"filter": {}, "expect": 3})
    assert answer.json == {"matching": 3, "changed": 3}
    assert states() == ["done", "running", "waiting", "waiting", "waiting", "waiting"]


def test_cancel_changes_those_that_have_not_ended(api, states):
    answer = api.ask("POST", f"{TASKS}/cancel", {"filter": {"action": "forecast"}, "expect": 2})
    assert answer.json == {"matching": 2, "changed": 2}
    assert states() == ["cancelled", "cancelled", "cancelled", "done", "failed", "failed"]


def test_if_fewer_match_by_then_they_are_changed(api, states):
    answer = api.ask("POST", f"{TASKS}/retry", {"filter": {"state": ["failed"]}, "expect": 100})
    assert answer.json == {"matching": 2, "changed": 2}


def test_if_more_match_by_then_nothing_is_changed(api, states):
    answer = api.ask("POST", f"{TASKS}/retry", {"filter": {}, "expect": 2})
    assert (answer.status, answer.json["detail"]) == (
        409,
        "3 tasks would be changed now, which is more than the 2 of `expect`; nothing was changed",
    )
    assert states() == BEFORE


def test_done_tasks_are_retried_if_the_filter_names_them(api, states):
    body = {"filter": {"state": ["done", "waiting"]}, "expect": 1}
    assert api.ask("POST", f"{TASKS}/retry", body).json == {"matching": 1, "changed": 1}


def test_a_filter_of_other_states_matches_nothing(api, states):
    body = {"filter": {"state": ["waiting"]}, "expect": 5}
    assert api.ask("POST", f"{TASKS}/retry", body).json == {"matching": 0, "changed": 0}


def test_thousands_are_changed_in_rounds(api):
    api.ask("POST", TASKS, [{"action": "a"}] * 2_500)
    body = {"filter": {}, "expect": 2_500}
    assert api.ask("POST", f"{TASKS}/cancel", body).json == {"matching": 2_500, "changed": 2_500}


@pytest.mark.parametrize("field", ["acton", "limit", "cursor", "accounts"])
def test_a_filter_with_an_unknown_field_is_refused(api, field):
    answer = api.ask("POST", f"{TASKS}/cancel", {"filter": {field: 1}})
    assert answer.problems[0].startswith(f"filter.{field}: unknown field")


@pytest.mark.parametrize("field", ["id", "state"])
def test_an_empty_list_does_not_mean_all_tasks(api, field):
    api.submit()
    answer = api.ask("POST", f"{TASKS}/cancel", {"filter": {field: []}, "expect": 1})
    assert answer.problems == [f"filter.{field}: must not be empty; leave it out if any is meant"]


def test_a_filter_has_to_be_given(api):
    answer = api.ask("POST", f"{TASKS}/cancel", {})
    assert answer.problems == ["filter: required field is missing"]


@pytest.mark.parametrize(
    ("value", "found"), [("Paris", 1), (7, 1), (True, 1), (None, 1), ("7", 1), (8, 0)]
)
def test_a_filter_compares_values_of_payloads_as_texts(api, value, found):
    for payload in ({"v": "Paris"}, {"v": 7}, {"v": True}, {"v": None}):
        api.submit(payload=payload)
    answer = api.ask("POST", f"{TASKS}/cancel", {"filter": {"payload": {"v": value}}})
    assert answer.json["matching"] == found


def test_half_a_character_in_a_filter_is_refused(api):
    answer = api.ask("POST", f"{TASKS}/cancel", {"filter": {"payload": {"\ud800": "x"}}})
    assert answer.status == 422
