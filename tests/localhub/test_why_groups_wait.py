"""Why a task of a group over its limit waits, in words."""

from __future__ import annotations

import pytest

from arbprov.localhub.tasks import Scope
from arbprov.localhub.waiting import describe_wait

HELD = "holds back the tasks of its action and account"


@pytest.mark.parametrize(
    ("limit", "held_until", "room", "expected"),
    [
        ("5/minute", 30.0, 0, f"limit 5/minute {HELD} for another 20 s"),
        ("", 9.0, 0, f"a limit {HELD} for another 0 s"),
        ("5/hour", 9.0, 3, "limit 5/hour lets 3 of the tasks of its action and account go now"),
    ],
)
def test_a_task_of_a_group_over_its_limit_waits_for_it(limit, held_until, room, expected):
    scope = Scope(
        action="act", account_key="a", held_until=held_until, limit=limit, since=0.0, room=room
    )
    task = {"action": "act", "account_key": "a", "provider": "", "not_before": None}
    assert describe_wait(**task, pauses=[], held=[scope], now=10.0) == expected
