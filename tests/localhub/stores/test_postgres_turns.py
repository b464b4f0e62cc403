"""Which tasks a claim takes from the lanes that it has locked."""

from __future__ import annotations

from uuid import UUID

import pytest

from arbprov.localhub.stores.postgres_turns import Lane, take_turns


def lane(number, numbers, *, action="act", account="a", priority=0, turn=0):
    return Lane(UUID(int=number), action, account, priority, turn, number, numbers)


def taken(lanes, count=10, **values):
    return [number for _, number in take_turns(lanes, count, **values)]


def test_accounts_take_turns():
    lanes = [lane(1, [1, 2, 3]), lane(2, [4, 5], account="b", turn=1)]
    assert taken(lanes) == [1, 4, 2, 5, 3]


def test_the_account_with_the_lowest_turn_is_first():
    lanes = [lane(1, [1], turn=7), lane(2, [2], account="b", turn=3)]
    assert taken(lanes) == [2, 1]


def test_the_lanes_of_an_account_take_turns():
    lanes = [lane(1, [1, 2]), lane(2, [3], action="other"), lane(3, [4, 5], account="b", turn=1)]
    assert taken(lanes) == [1, 4, 3, 5, 2]


def test_a_higher_priority_is_used_up_first():
    assert taken([lane(1, [1, 2]), lane(2, [3, 4], account="b", priority=1)]) == [3, 4, 1, 2]


def test_no_more_than_the_count_is_taken():
    assert taken([lane(1, [1, 2, 3])], 2) == [1, 2]


def test_nothing_is_taken_beyond_the_horizon():
    lanes = [lane(1, [1, 2], turn=1), lane(2, [3], account="b", turn=2)]
    lanes += [lane(3, [4], account="c", turn=3)]
    assert taken(lanes, horizon=(0, 2)) == [1, 3]


def test_a_priority_above_the_horizon_is_used_up():
    lanes = [lane(1, [1, 2], priority=1), lane(2, [3, 4], account="b", turn=2)]
    assert taken(lanes, horizon=(0, 2)) == [1, 2, 3]


@pytest.mark.parametrize(("room", "expected"), [(0, []), (1, [3]), (2, [3, 1]), (9, [3, 1, 2])])
def test_no_more_of_a_group_is_taken_than_its_room(room, expected):
    lanes = [lane(1, [1, 2]), lane(2, [3], priority=1)]
    assert taken(lanes, rooms={("act", "a"): room}) == expected


def test_a_lane_whose_group_has_no_room_does_not_cost_its_account_the_turn():
    lanes = [lane(1, [1, 2]), lane(2, [3]), lane(3, [4, 5], action="other")]
    lanes += [lane(4, [6, 7], account="b", turn=1)]
    assert taken(lanes, rooms={("act", "a"): 1}) == [1, 6, 4, 7, 5]


def test_a_second_look_begins_anew():
    lanes = [lane(1, [1, 2])]
    assert taken(lanes, 1) == taken(lanes, 1) == [1]
