"""How long to wait before the next try."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from arbprov.backoff import Backoff

SECONDS = st.floats(0.001, 1000)


def delays(backoff, count):
    return [backoff.next() for _ in range(count)]


def test_the_ceiling_doubles_with_each_try_up_to_the_cap():
    assert delays(Backoff(0.5, 3, jitter=lambda: 1), 5) == [0.5, 1, 2, 3, 3]


def test_a_delay_is_the_jitter_s_share_of_the_ceiling():
    assert delays(Backoff(0.5, 3, jitter=lambda: 0.5), 5) == [0.25, 0.5, 1, 1.5, 1.5]


def test_the_jitter_is_asked_for_each_delay():
    shares = iter([1, 0, 0.5])
    assert delays(Backoff(1, 100, jitter=lambda: next(shares)), 3) == [1, 0, 2]


def test_the_first_delay_exceeds_the_cap_neither():
    assert delays(Backoff(5, 3, jitter=lambda: 1), 2) == [3, 3]


def test_after_a_reset_it_begins_again():
    backoff = Backoff(0.5, 3, jitter=lambda: 1)
    delays(backoff, 4)
    backoff.reset()
    assert delays(backoff, 2) == [0.5, 1]


def test_a_reset_before_the_first_try_changes_nothing():
    backoff = Backoff(0.5, 3, jitter=lambda: 1)
    backoff.reset()
    assert delays(backoff, 2) == [0.5, 1]


def test_two_series_do_not_touch_each_other():
    one, another = (Backoff(0.5, 3, jitter=lambda: 1) for _ in range(2))
    delays(one, 4)
    assert another.next() == 0.5


def test_the_jitter_is_a_share_at_random_unless_said_otherwise():
    assert Backoff(1, 2).jitter is random.random


def test_a_delay_at_random_is_anywhere_below_the_ceiling():
    below = [Backoff(1, 1).next() for _ in range(1000)]
    assert (min(below) < 0.1, 0.9 < max(below) < 1) == (True, True)


@given(SECONDS, SECONDS, st.integers(1, 200))
def test_no_delay_exceeds_the_cap(first, cap, tries):
    assert max(delays(Backoff(first, cap, jitter=lambda: 1), tries)) <= cap


@given(SECONDS, SECONDS, st.integers(2, 200))
def test_without_jitter_no_delay_is_shorter_than_the_one_before(first, cap, tries):
    series = delays(Backoff(first, cap, jitter=lambda: 1), tries)
    assert series == sorted(series)


@given(SECONDS, SECONDS, st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_no_share_makes_a_delay_negative_or_longer_than_its_ceiling(first, cap, shares):
    given_shares = iter(shares)
    jittered = delays(Backoff(first, cap, jitter=lambda: next(given_shares)), len(shares))
    ceilings = delays(Backoff(first, cap, jitter=lambda: 1), len(shares))
    assert all(0 <= a <= b for a, b in zip(jittered, ceilings, strict=True))


def test_thousands_of_tries_do_not_overflow():
    assert delays(Backoff(1, 30, jitter=lambda: 1), 5000)[-1] == 30
