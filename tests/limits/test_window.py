"""The exact rolling window, against an oracle that remembers everything."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gauges import Gauge

from arbprov import Limit

PERIODS = st.sampled_from([0.3, 1.0, 7.0, 60.0, 3600.0, 86_400.0, 604_800.0])
STARTS = st.sampled_from([0.0, 0.1, 1000.0, 12_345.678, 1e6, 1e9])


@st.composite
def histories(draw, burst=False):
    """Return a limit, and the times and costs of calls."""
    amount = draw(st.integers(1, 8))
    period = draw(PERIODS)
    slack = draw(st.integers(1, amount)) if burst else None
    gaps = draw(st.lists(st.floats(0, 1.2), min_size=1, max_size=40))
    now, asked = draw(STARTS), []
    for gap in gaps:
        now += gap * draw(st.sampled_from([0.0, 0.01, 0.2, 1.0])) * period
        asked.append((now, draw(st.integers(1, slack or amount))))
    return Limit(amount, period, slack), asked


def admissions(limit, asked):
    """Return the (time, cost) that a window admits."""
    window = Gauge(limit)
    admitted = []
    for now, cost in asked:
        if window.wait_time(now, cost) == 0:
            window.charge(now, cost)
            admitted.append((now, cost))
    return admitted


def most_in_a_period(admitted, period):
    """Return the largest cost in any half-open period, as a clock of floats can tell."""
    return max(
        (sum(cost for at, cost in admitted if 0 <= at - begin < period) for begin, _ in admitted),
        default=0,
    )


def fits(admitted, limit, now, cost):
    """Tell whether an exact window, without any rounding, would admit a cost."""
    begin = Fraction(now) - Fraction(limit.period)
    return sum(c for at, c in admitted if Fraction(at) > begin) + cost <= limit.amount


@given(histories())
def test_no_period_ever_holds_more_than_the_limit(history):
    limit, asked = history
    assert most_in_a_period(admissions(limit, asked), limit.period) <= limit.amount


@given(histories(burst=True))
def test_no_period_ever_holds_more_than_the_limit_with_a_burst(history):
    limit, asked = history
    assert most_in_a_period(admissions(limit, asked), limit.period) <= limit.amount


@given(histories())
def test_a_refusal_is_at_most_a_thousandth_of_the_period_too_late(history):
    limit, asked = history
    window, admitted = Gauge(limit), []
    for now, cost in asked:
        if window.wait_time(now, cost) == 0:
            window.charge(now, cost)
            admitted.append((now, cost))
        else:
            early = now - limit.period * 0.001 - math.ulp(now) * 4
            assert not fits(admitted, limit, early, cost)


@given(histories())
def test_a_wait_ends_at_most_a_thousandth_of_the_period_too_late(history):
    limit, asked = history
    admitted = admissions(limit, asked)
    window = Gauge(limit)
    for at, cost in admitted:
        window.charge(at, cost)
    now = asked[-1][0]
    for cost in range(1, limit.amount + 1):
        then = now + window.wait_time(now, cost)
        early = then - limit.period * 0.001 - math.ulp(then) * 4
        assert early < now or not fits(admitted, limit, early, cost)


@given(histories(), st.booleans())
def test_after_exactly_its_wait_a_call_is_admitted(history, burst):
    limit, asked = history
    if burst:
        limit = Limit(limit.amount, limit.period, limit.amount)
    window = Gauge(limit)
    now = asked[0][0]
    for _, cost in asked:
        now += window.wait_time(now, cost)
        assert window.wait_time(now, cost) == 0
        window.charge(now, cost)


@given(histories(burst=True))
def test_after_exactly_its_wait_a_call_with_a_burst_is_admitted(history):
    limit, asked = history
    window = Gauge(limit)
    now = asked[0][0]
    for _, cost in asked:
        now += window.wait_time(now, cost)
        assert window.wait_time(now, cost) == 0
        window.charge(now, cost)


@given(histories())
def test_waiting_less_is_never_enough(history):
    limit, asked = history
    window = Gauge(limit)
    now = asked[0][0]
    for _, cost in asked:
        wait = window.wait_time(now, cost)
        if wait > 0:
            almost = now + wait - 4 * math.ulp(now + wait)
            assert almost < now or window.wait_time(almost, cost) > 0
            now += wait
        window.charge(now, cost)


@given(histories(burst=True))
def test_a_burst_only_tightens(history):
    limit, asked = history
    tight, loose = Gauge(limit), Gauge(Limit(limit.amount, limit.period))
    for now, cost in asked:
        tight_wait = tight.wait_time(now, cost)
        assert tight_wait >= loose.wait_time(now, cost)
        if tight_wait == 0:
            tight.charge(now, cost)
            loose.charge(now, cost)


@given(histories())
def test_what_is_left_is_never_negative_nor_more_than_the_limit(history):
    limit, asked = history
    window = Gauge(limit)
    for now, cost in asked:
        if window.wait_time(now, cost) == 0:
            window.charge(now, cost)
        assert 0 <= window.remaining(now) <= limit.amount


@given(histories())
def test_asking_changes_nothing(history):
    limit, asked = history
    asked_often, asked_once = Gauge(limit), Gauge(limit)
    for now, cost in asked:
        for other in range(1, limit.amount + 1):
            asked_often.wait_time(now, other)
        waits = asked_often.wait_time(now, cost), asked_once.wait_time(now, cost)
        assert waits[0] == waits[1]
        if waits[0] == 0:
            asked_often.charge(now, cost)
            asked_once.charge(now, cost)


@given(histories(burst=True))
def test_an_idle_window_is_as_good_as_a_new_one(history):
    limit, asked = history
    window = Gauge(limit)
    for now, cost in asked:
        if window.is_idle(now):
            assert window.wait_time(now, cost) == 0
        if window.wait_time(now, cost) == 0:
            window.charge(now, cost)


@pytest.mark.parametrize(("amount", "entries"), [(1, 1), (50, 50), (5000, 1001)])
def test_a_key_costs_no_more_entries_than_its_limit_or_1001(amount, entries):
    window = Gauge(Limit(amount, 60))
    most = 0
    for step in range(20_000):
        now = step * 0.01
        if window.wait_time(now, 1) == 0:
            window.charge(now, 1)
        (_, state), *_ = window.algorithms
        most = max(most, (len(state) - 1) // 2)
    assert most <= entries


# Examples that a reader can check.


def used(limit, *admitted):
    window = Gauge(limit)
    for now, cost in admitted:
        assert window.wait_time(now, cost) == 0
        window.charge(now, cost)
    return window


def test_a_new_window_admits_at_once():
    assert Gauge(Limit(5, 60)).wait_time(1000, 5) == 0


def test_a_full_window_opens_when_its_first_admission_is_a_period_old():
    window = used(Limit(2, 60), (0, 1), (30, 1))
    assert [window.wait_time(now, 1) for now in (30, 45, 59, 60)] == [30, 15, 1, 0]


def test_a_cost_waits_for_as_many_admissions_as_it_needs():
    window = used(Limit(3, 60), (0, 1), (12, 1), (24, 1))
    assert [window.wait_time(24, cost) for cost in (1, 2, 3)] == [36, 48, 60]


def test_a_window_does_not_open_all_at_once():
    window = used(Limit(2, 60), (0, 1), (30, 1))
    window.charge(60, 1)
    assert window.wait_time(60, 1) == 30


def test_two_windows_side_by_side_never_double_the_limit():
    # Five at the end of one minute leave nothing for the beginning of the next.
    window = used(Limit(5, 60), *[(54, 1)] * 5)
    assert window.wait_time(66, 1) == 48


def test_what_is_left_comes_back_with_time():
    window = used(Limit(3, 60), (0, 2), (30, 1))
    assert [window.remaining(now) for now in (30, 60, 90)] == [0, 2, 3]


def test_a_window_is_idle_when_everything_is_a_period_old():
    window = used(Limit(3, 60), (0, 1), (30, 1))
    assert [window.is_idle(now) for now in (30, 60, 89, 90)] == [False, False, False, True]


def test_a_burst_lets_so_many_through_at_once():
    window = used(Limit(60, 60, burst=3), *[(0, 1)] * 3)
    assert window.wait_time(0, 1) == 1


def test_a_burst_spreads_the_rest_evenly():
    window = used(Limit(60, 60, burst=1), (0, 1))
    admitted = []
    for now in range(1, 11):
        if window.wait_time(now, 1) == 0:
            window.charge(now, 1)
            admitted.append(now)
    assert admitted == list(range(1, 11))


def test_a_burst_comes_back_when_nothing_is_asked_for():
    window = used(Limit(60, 60, burst=3), *[(0, 1)] * 3)
    assert [window.wait_time(now, 3) for now in (0, 1, 2, 3)] == [3, 2, 1, 0]


def test_a_burst_is_counted_in_cost():
    window = used(Limit(60, 60, burst=4), (0, 3))
    assert [window.wait_time(0, cost) for cost in (1, 2, 4)] == [0, 1, 3]


def test_more_than_fits_at_once_waits_until_its_last_part_would():
    window = used(Limit(2, 60), (0, 1), (30, 1))
    assert [window.wait_time(30, cost) for cost in (2, 3, 4, 5)] == [60, 90, 120, 150]


def test_after_its_wait_a_call_is_admitted_whatever_the_clock_shows():
    window = used(Limit(1, 0.3), (1e9 + 0.1, 1))
    now = 1e9 + 0.2
    assert window.wait_time(now + window.wait_time(now, 1), 1) == 0


@pytest.mark.parametrize("period", [0.1, 0.3, 0.7, 1.0, 7.0, 60.0])
def test_just_before_the_period_is_over_a_call_is_refused_however_floats_round(period):
    limit = Limit(1, period)
    for step in range(1, 100_000, 37):
        # Right on a step, where nothing is left to round up.
        now = step * period / 1000
        then = now + period
        while then - now >= period:
            then = math.nextafter(then, now)
        assert used(limit, (now, 1)).wait_time(then, 1) > 0


@pytest.mark.parametrize("period", [0.1, 0.3, 0.7, 1.0, 7.0, 60.0])
def test_no_wait_is_more_than_a_thousandth_too_long_however_floats_round(period):
    limit = Limit(1, period)
    for step in range(1, 100_000, 37):
        now = step * period / 1000
        wait = used(limit, (now, 1)).wait_time(now, 1)
        assert wait <= period * 1.001 + 4 * math.ulp(now + wait)


@pytest.mark.parametrize("period", [0.1, 0.3, 0.7, 1.0, 7.0, 60.0])
def test_a_report_holds_until_its_reset_however_floats_round(period):
    limit = Limit(1, period)
    for step in range(1, 100_000, 37):
        now = step * period / 1000
        window = Gauge(limit)
        window.report(now, 1, 0.99 * period)
        assert now + window.wait_time(now, 1) >= now + 0.99 * period
