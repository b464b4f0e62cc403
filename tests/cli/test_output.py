"""Results as text."""

from __future__ import annotations

import pytest

from arbprov.cli.output import find_problems, suggest_action, summarize


@pytest.mark.parametrize(
    ("status", "message", "data", "line"),
    [
        ("success", "fine", {"city": "Zürich"}, '{"city": "Zürich"}'),
        ("warning", "half", {"rows": 1}, "half"),
        ("error", "a: b", {"error": "a: b"}, "a: b"),
        ("limit", "Over", {"wait_time": 59.97, "limit": "2/m"}, "Over: 2/m, wait 60 s"),
        ("limit", "Over", {"wait_time": 30.0, "limit": None}, "Over: wait 30 s"),
        (
            "limit",
            "Over",
            {"wait_time": 538912.25, "limit": "1/week"},
            "Over: 1/week, wait 538912 s",
        ),
        ("limit", "Over", {"wait_time": "30"}, "Over: wait 30 s"),
        ("limit", "Over", {"wait_time": "later"}, "Over"),
        ("limit", "Over", [], "Over"),
    ],
)
def test_a_result_is_summarized_in_one_line(status, message, data, line):
    assert summarize(status, message, data) == line


@pytest.mark.parametrize(
    "data", [None, [], {}, {"problems": 1}, {"problems": [1]}, {"problems": [{}]}]
)
def test_an_author_s_own_data_has_no_problems(data):
    assert find_problems(data) == []


@pytest.mark.parametrize(
    "data",
    [None, {}, {"available_actions": "price"}, {"available_actions": [1]}, ["price"]],
)
def test_an_author_s_own_data_suggests_no_action(data):
    assert suggest_action("prize", data) == ""
