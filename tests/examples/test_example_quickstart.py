"""The quickstart, through the wire, as the README says to run it."""

from __future__ import annotations

import pytest
from support.examples import dev


@pytest.fixture(scope="module")
def quickstart():
    return dev("quickstart")


def test_the_quickstart_has_at_least_five_tasks_of_three_actions(quickstart):
    actions = [envelope["data"]["action"] for envelope in quickstart]
    assert len(actions) >= 5
    assert len(set(actions)) == 3


def test_a_task_of_the_quickstart_is_refused_for_its_payload(quickstart):
    (refused,) = [one for one in quickstart if one["status"] == "error"]
    assert [problem["path"] for problem in refused["data"]["response"]["problems"]] == [
        "lines[0].quantity",
        "lines[1].article",
        "lines[1].quantity",
    ]


def test_a_task_of_the_quickstart_is_over_its_limit(quickstart):
    (over,) = [one for one in quickstart if one["status"] == "limit"]
    assert 0 < over["data"]["response"]["wait_time"] <= 60.06


def test_the_other_tasks_of_the_quickstart_succeed(quickstart):
    assert sorted(one["status"] for one in quickstart) == ["error", "limit", *["success"] * 5]
