"""One nested user in each style, through the wire, as the example's docstring says to run it."""

from __future__ import annotations

import pytest
from support.examples import dev

CLASSES = "create_user"
OTHERS = ["create_user_from_typed_dicts", "create_user_from_schema"]


@pytest.fixture(scope="module")
def users():
    by_style = {}
    for envelope in dev("create_user"):
        data = envelope["data"]
        by_style.setdefault(data["action"], {})[envelope["status"]] = data["response"]
    return by_style


def test_a_good_user_is_created(users):
    assert users[CLASSES]["success"] == {
        "name": "Sample User",
        "born": "1990-05-15",
        "emergency_contacts": ["Contact One"],
        "open_subscriptions": ["maps"],
        "tags": ["new", "beta"],
    }


def test_a_user_is_refused_with_every_problem(users):
    assert [problem["path"] for problem in users[CLASSES]["error"]["problems"]] == [
        "user.personal_info.date_of_birth",
        "user.contact_info.addresses[1].zip",
        "user.contact_info.emergency_contacts[0].phone",
        "user.preferences.notifications.sms",
        "metadata.tags",
    ]


@pytest.mark.parametrize("style", OTHERS)
def test_all_styles_accept_a_user_alike(users, style):
    assert users[style]["success"] == users[CLASSES]["success"]


@pytest.mark.parametrize("style", OTHERS)
def test_all_styles_refuse_a_user_alike(users, style):
    assert users[style]["error"] == users[CLASSES]["error"]
