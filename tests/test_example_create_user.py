"""One nested user in each style, through the wire, as the example's docstring says to run it."""

from __future__ import annotations

import pytest
from support.examples import dev


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
