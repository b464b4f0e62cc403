"""The kinds of limits: one contract for all algorithms, and the rules of each."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gauges import Gauge

from arbprov import Calendar, ConfigurationError, Limit, MinDelay, ProviderApp, TokenBucket
from arbprov.testing import VirtualClock

POLICIES = [
    Limit(5, 60),
    Limit(10, 60, burst=3),
    TokenBucket(requests_per_minute=60, burst_size=10),
    TokenBucket(requests_per_minute=0.5, burst_size=3),
    MinDelay(2.5),
    Calendar("7/day"),
    Calendar("9/week", tz="Europe/Madrid"),
]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)
GAPS = st.lists(st.tuples(st.floats(0, 90_000), st.integers(1, 3)), max_size=30)


def used(policy, gaps):
    """Return a gauge, its clock, and what it admitted of calls with these gaps and costs."""
    clock = VirtualClock()
    gauge, admitted = Gauge(policy, clock), []
    for gap, cost in gaps:
        clock.advance(gap)
        asked = min(cost, policy.capacity)
        if gauge.wait_time(clock.monotonic(), asked) == 0:
            gauge.charge(clock.monotonic(), asked)
            admitted.append((clock.monotonic(), asked))
    return gauge, clock, admitted


# The contract.


@every_policy
def test_an_initial_state_admits_the_capacity_at_once(policy):
    assert Gauge(policy, VirtualClock()).wait_time(0.0, policy.capacity) == 0


@every_policy
@given(GAPS)
def test_a_call_is_admitted_after_its_wait_time(policy, gaps):
    gauge, clock, _ = used(policy, gaps)
    later = clock.monotonic() + gauge.wait_time(clock.monotonic(), policy.capacity)
    assert gauge.wait_time(later, policy.capacity) == 0


@every_policy
@given(GAPS)
def test_the_wait_does_not_fall_as_the_cost_rises(policy, gaps):
    gauge, clock, _ = used(policy, gaps)
    waits = [gauge.wait_time(clock.monotonic(), cost + 1) for cost in range(policy.capacity)]
    assert waits == sorted(waits)


@every_policy
@given(GAPS)
def test_asking_changes_nothing(policy, gaps):
    gauge, clock, _ = used(policy, gaps)
    asked = [gauge.wait_time(clock.monotonic(), policy.capacity) for _ in range(2)]
    assert asked[0] == asked[1]


@every_policy
@given(GAPS)
def test_what_is_admitted_now_was_remaining(policy, gaps):
    gauge, clock, _ = used(policy, gaps)
    now = clock.monotonic()
    admitted = [c for c in range(1, policy.capacity + 1) if gauge.wait_time(now, c) == 0]
    assert gauge.remaining(now) >= max(admitted, default=0)


@every_policy
@given(GAPS)
def test_an_idle_state_is_as_good_as_an_initial_one(policy, gaps):
    gauge, clock, _ = used(policy, gaps)
    now = clock.monotonic()
    if gauge.is_idle(now):
        assert gauge.wait_time(now, policy.capacity) == 0


@every_policy
@given(GAPS)
def test_every_state_is_idle_in_the_end(policy, gaps):
    gauge, clock, _ = used(policy, gaps)
    clock.advance(8 * 86_400)
    assert gauge.is_idle(clock.monotonic())


@every_policy
@given(GAPS, st.integers(1, 3), st.floats(0, 100_000))
def test_a_charge_that_is_taken_back_never_was(policy, gaps, cost, later):
    (one, clock, _), (other, _, _) = used(policy, gaps), used(policy, gaps)
    now, cost = clock.monotonic(), min(cost, policy.capacity)
    if one.wait_time(now, cost) == 0:
        one.charge(now, cost)
        one.refund(now, cost)
    for at in (now, now + later):
        assert one.remaining(at) == other.remaining(at)
        for asked in range(1, policy.capacity + 1):
            assert one.wait_time(at, asked) == pytest.approx(other.wait_time(at, asked), abs=1e-6)


@every_policy
def test_a_charge_that_is_past_can_be_taken_back_without_harm(policy):
    gauge = Gauge(policy, VirtualClock())
    gauge.charge(0.0, 1)
    long_after = 8 * 86_400.0
    assert gauge.wait_time(long_after, policy.capacity) == 0
    gauge.refund(0.0, 1)
    assert gauge.remaining(long_after) <= policy.capacity + (getattr(policy, "amount", 0))
    assert gauge.wait_time(long_after, policy.capacity) == 0


@every_policy
def test_equal_policies_are_one(policy):
    assert len({policy, attrs.evolve(policy)}) == 1


# The token bucket.


def test_a_bucket_admits_its_burst_and_then_its_rate():
    _, _, admitted = used(TokenBucket(requests_per_minute=60, burst_size=10), [(0.5, 1)] * 100)
    assert [sum(at <= until for at, _ in admitted) for until in (5, 10, 50)] == [10, 15 + 4, 59]


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3)), max_size=60))
def test_a_bucket_never_admits_more_than_its_burst_and_its_rate(gaps):
    _, _, admitted = used(TokenBucket(requests_per_minute=60, burst_size=10), gaps)
    for first, (began, _) in enumerate(admitted):
        total = 0
        for at, cost in admitted[first:]:
            total += cost
            assert total <= 10 + (at - began) + 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"requests_per_minute": 0, "burst_size": 1},
            "a token bucket's requests_per_minute must be a",
        ),
        (
            {"requests_per_minute": 60, "burst_size": 1.5},
            "a token bucket's burst_size must be a whole",
        ),
    ],
)
def test_a_bucket_of_nonsense_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        TokenBucket(**arguments)


# The delay.


def test_a_delay_keeps_calls_apart():
    _, _, admitted = used(MinDelay(2.5), [(0.5, 1)] * 12)
    assert [at for at, _ in admitted] == [0.5, 3.0, 5.5]


@pytest.mark.parametrize("seconds", [0, -1, "2", True, float("inf")])
def test_a_delay_of_nonsense_is_refused(seconds):
    with pytest.raises(
        ConfigurationError, match="a delay must be a number of seconds above 0, not"
    ):
        MinDelay(seconds)


# The calendar.


def wait_of(quota, tz, start):
    """Return the hours until a used up quota begins anew."""
    policy = Calendar(quota, tz)
    gauge = Gauge(policy, VirtualClock(start))
    gauge.charge(0.0, policy.capacity)
    return gauge.wait_time(0.0, 1) / 3600


MADRID = ZoneInfo("Europe/Madrid")


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 28), 24), ((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 12, 31), 24)],
    ids=["common", "clocks go forward", "clocks go back", "new year"],
)
def test_a_day_is_as_long_as_it_is(day, hours):
    assert wait_of("1/day", "Europe/Madrid", dt.datetime(*day, tzinfo=MADRID)) == hours


def test_a_quota_begins_anew_at_the_midnight_of_its_zone():
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc)
    assert [wait_of("1/day", tz, noon) for tz in ("UTC", "Europe/Madrid", "Asia/Tokyo")] == [
        12,
        11,
        3,
    ]


@pytest.mark.parametrize(("day", "days"), [(5, 7), (6, 6), (11, 1)])
def test_a_week_begins_on_monday(day, days):
    start = dt.datetime(2026, 1, day, tzinfo=dt.timezone.utc)
    assert wait_of("1/week", "UTC", start) == days * 24


class SteppedClock(VirtualClock):
    """A clock with a wall time that was set."""

    step = dt.timedelta(0)

    def now(self):
        return super().now() + self.step


@pytest.mark.parametrize("hours", [-1, 1])
@every_policy
def test_setting_the_wall_clock_changes_nothing(policy, hours):
    clock = SteppedClock(dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc))
    gauge = Gauge(policy, clock)
    gauge.charge(0.0, policy.capacity)
    before = gauge.wait_time(0.0, 1)
    clock.step = dt.timedelta(hours=hours)
    assert gauge.wait_time(0.0, 1) == before


@pytest.mark.parametrize(
    ("quota", "tz", "message"),
    [
        ("5/hour", "UTC", "a calendar's quota must be for one day or one week"),
        ("5/day; 6/week", "UTC", "a calendar's quota must be for one day or one week"),
        ("5/day burst 2", "UTC", "a calendar's quota must be for one day or one week"),
        ("5/month", "UTC", "a month has no fixed length"),
        (
            "5/day",
            "Europe/Nowhere",
            "tz='Europe/Nowhere' is not a time zone that this machine knows",
        ),
    ],
)
def test_a_calendar_of_nonsense_is_refused(quota, tz, message):
    with pytest.raises(ConfigurationError, match=message):
        Calendar(quota, tz)


# On actions.


def test_kinds_of_limits_stack_and_are_one_decision():
    app = ProviderApp("kinds")

    @app.action
    @app.rate_limit(MinDelay(1))
    @app.rate_limit(Calendar("3/day"))
    @app.rate_limit(TokenBucket(requests_per_minute=60, burst_size=2))
    def work(): ...

    client = app.test_client()
    outcomes = []
    for _ in range(5):
        outcomes.append(client.call("work").data.get("limit"))
        outcomes.append(client.call("work").data.get("limit"))
        client.clock.advance(1)
    delayed, used_up = "a delay of 1s", "3/day from midnight in UTC"
    assert outcomes == [None, delayed, None, delayed, None, *[used_up] * 5]


def test_a_burst_is_for_limits_only():
    app = ProviderApp("kinds")
    with pytest.raises(
        ConfigurationError, match='burst= is for limits like "10/minute", not for a'
    ):
        app.rate_limit(MinDelay(1), burst=1)(lambda: None)


def test_a_cost_must_fit_a_limit_of_any_kind():
    app = ProviderApp("kinds")
    with pytest.raises(ConfigurationError, match="a cost of 2 can never be met by a delay of 1s"):
        app.rate_limit(MinDelay(1), cost=2)(lambda: None)


@every_policy
@pytest.mark.parametrize("gap", [0.1, 10.0, 130.0, 4000.0])
def test_an_earlier_charge_that_is_taken_back_admits_no_more_than_if_it_had_never_been(policy, gap):
    clock = VirtualClock()
    one, other = Gauge(policy, clock), Gauge(policy, clock)
    one.charge(clock.monotonic(), 1)
    clock.advance(gap)
    for gauge in (one, other):
        gauge.charge(clock.monotonic(), 1)
    one.refund(0.0, 1)
    now = clock.monotonic()
    for cost in range(1, policy.capacity + 1):
        assert one.wait_time(now, cost) >= other.wait_time(now, cost) - 1e-6


def test_an_earlier_charge_of_a_window_leaves_the_later_one():
    window = Gauge(Limit(2, 3600), VirtualClock())
    window.charge(0.0, 1)
    window.charge(600.0, 1)
    window.refund(0.0, 1)
    assert [window.wait_time(601.0, cost) for cost in (1, 2)] == [0, pytest.approx(3599, abs=4)]


@pytest.mark.parametrize("now", [0.0, 3e-5, 0.1, 12_345.678, 1e6])
@pytest.mark.parametrize("size", [3, 7, 10])
def test_a_full_bucket_is_given_out_at_once_whatever_time_it_is(now, size):
    bucket = Gauge(TokenBucket(requests_per_minute=1, burst_size=size), VirtualClock())
    waits = []
    for _ in range(size):
        waits.append(bucket.wait_time(now, 1))
        bucket.charge(now, 1)
    assert waits == [0.0] * size


def reported(*charges, used, reset_in, now=30.0):
    """Return a window of ten a minute with charges at these times, and then a report."""
    window = Gauge(Limit(10, 60), VirtualClock())
    for at in charges:
        window.charge(at, 1)
    window.report(now, used, reset_in)
    return window


def test_reported_usage_counts_until_its_reset_though_calls_of_one_s_own_are_past_by_then():
    window = reported(*range(5), used=9, reset_in=50)
    assert [window.remaining(at) for at in (30.0, 65.0, 79.9, 80.1)] == [1, 1, 1, 10]


def test_reported_usage_does_not_shorten_what_counts_longer():
    window = reported(*[20.0] * 5, used=9, reset_in=10)
    assert [window.remaining(at) for at in (30.0, 40.1, 79.9, 80.1)] == [1, 5, 5, 10]


def test_calls_of_one_s_own_beyond_what_is_reported_still_leave_in_time():
    window = reported(0.0, 1.0, 2.0, 3.0, used=2, reset_in=50)
    assert [window.remaining(at) for at in (30.0, 60.1, 61.1, 63.1, 80.1)] == [6, 7, 8, 8, 10]


def test_a_part_of_calls_at_one_time_may_be_held_until_the_reset():
    window = reported(*[0.0] * 4, used=3, reset_in=50)
    assert [window.remaining(at) for at in (30.0, 60.1, 80.1)] == [6, 7, 10]


def test_usage_that_is_reported_again_counts_once():
    window = reported(0.0, used=9, reset_in=50)
    window.report(30.0, 9, 50)
    assert window.remaining(30.0) == 1


def test_a_charge_of_yesterday_that_is_taken_back_leaves_today_s():
    clock = VirtualClock()
    quota = Gauge(Calendar("2/day"), clock)
    quota.charge(clock.monotonic(), 1)
    clock.advance(86_400)
    quota.charge(clock.monotonic(), 1)
    quota.refund(0.0, 1)
    assert quota.remaining(clock.monotonic()) == 1


# Usage and parameters for another store.


def only_algorithm(policy, clock=None):
    (algorithm,) = policy.algorithms(clock or VirtualClock())
    return algorithm


def test_the_outstanding_usage_of_a_window_is_its_entries():
    algorithm = only_algorithm(Limit(10, 60))
    state = algorithm.initial_state()
    for at, cost in ((0.0, 1), (0.0, 2), (30.0, 3)):
        algorithm.charge(state, at, cost)
    assert algorithm.outstanding(state, 40.0) == [(20.0, 3), (50.0, 3)]


def test_what_is_past_is_no_debt():
    algorithm = only_algorithm(Limit(10, 60))
    state = algorithm.initial_state()
    algorithm.charge(state, 0.0, 1)
    assert algorithm.outstanding(state, 60.0) == []


def test_a_bucket_s_debt_is_what_has_to_come_back():
    algorithm = only_algorithm(TokenBucket(requests_per_minute=60, burst_size=10))
    state = algorithm.initial_state()
    algorithm.charge(state, 0.0, 4)
    assert (algorithm.outstanding(state, 0.5), algorithm.outstanding(state, 4.0)) == (
        [(3.5, 4)],
        [],
    )


def test_a_quota_s_debt_is_what_was_used_until_midnight():
    clock = VirtualClock()
    algorithm = only_algorithm(Calendar("10/day"), clock)
    state = algorithm.initial_state()
    algorithm.charge(state, 0.0, 4)
    assert (algorithm.outstanding(state, 60.0), algorithm.outstanding(state, 86_400.0)) == (
        [(86_340.0, 4)],
        [],
    )


def test_the_parameters_of_a_calendar_have_the_midnight_of_its_time_zone():
    clock = VirtualClock()
    algorithm = only_algorithm(Calendar("10/day", tz="Europe/Madrid"), clock)
    assert algorithm.parameters(clock.now()) == (10, clock.now().timestamp() + 23 * 3600, 86_400)
