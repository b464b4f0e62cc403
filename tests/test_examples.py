"""The examples, through the wire, as the README and their own docstrings say to run them."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def dev(name: str) -> list[dict]:
    """Run an example with its tasks; return the envelopes, by task."""
    command = [sys.executable, "-m", "arbprov", "dev", f"{name}.py", "--tasks", f"{name}.jsonl"]
    done = subprocess.run(
        [*command, "--json"], cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


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


@pytest.fixture(scope="module")
def users():
    found = dev("create_user")
    by_style = {}
    for envelope in found:
        data = envelope["data"]
        by_style.setdefault(data["action"], {})[envelope["status"]] = data["response"]
    return by_style["create_user"], by_style["create_user_from_schema"]


def test_classes_and_schema_accept_the_same_user_alike(users):
    classes, schema = users
    assert classes["success"] == schema["success"]
    assert classes["success"]["open_subscriptions"] == ["maps"]


def test_classes_and_schema_refuse_the_same_user_alike(users):
    classes, schema = users
    assert classes["error"] == schema["error"]


def test_a_user_is_refused_with_every_problem(users):
    assert [problem["path"] for problem in users[0]["error"]["problems"]] == [
        "user.personal_info.date_of_birth",
        "user.contact_info.addresses[1].zip",
        "user.contact_info.emergency_contacts[0].phone",
        "user.preferences.notifications.sms",
        "metadata.tags",
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_is_run_by_a_test(path):
    assert path.stem in {"quickstart", "create_user"}
    assert runpy.run_path(str(path))["app"].actions()
