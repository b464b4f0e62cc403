"""The laws of limits, for every store, against ledgers that remember everything."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from support.gauges import Gauge
from support.laws import LimitsMachine, calls, gaps, policies
from support.stores import BENCHES, Call

from arbprov import Limit
from arbprov.limits import declare


@pytest.fixture(scope="module", params=BENCHES.values(), ids=BENCHES)
def make_bench(request):
    with request.param() as make_bench:
        yield make_bench


@pytest.mark.slow
def test_no_order_of_calls_breaks_a_law(make_bench):
    before = LimitsMachine.steps
    run_state_machine_as_test(lambda: LimitsMachine(make_bench))
    nightly = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
    assert LimitsMachine.steps - before >= (100_000 if nightly else 5_000)


schedules = st.lists(st.tuples(gaps, calls), min_size=1, max_size=40)


def trace(bench, declarations, schedule):
    """Return the calls of a schedule, each with its decision; None only waits."""
    limiter = bench.limiter()
    stack = limiter.compile(declarations, action="work")
    decisions = []
    for gap, call in schedule:
        bench.advance(gap)
        if call is not None:
            decisions.append((call, limiter.acquire(stack, call)))
    return decisions


@given(limits=st.lists(policies, min_size=2, max_size=4, unique=True), schedule=schedules)
def test_the_order_of_stacking_never_matters(make_bench, limits, schedule):
    answers = []
    for ordered in (limits, limits[::-1]):
        bench = make_bench()
        decisions = trace(bench, [declare(one) for one in ordered], schedule)
        answers.append([(one.wait_time, set(one.headroom)) for _, one in decisions])
        bench.close()
    assert answers[0] == answers[1]


@given(policy=policies, schedule=schedules)
def test_keys_never_interact(make_bench, policy, schedule):
    alone = [(gap, call if call.account["id"] == "a" else None) for gap, call in schedule]
    answers = []
    for asked in (schedule, alone):
        bench = make_bench()
        decisions = trace(bench, [declare(policy, key="account.id")], asked)
        answers.append([one.headroom for call, one in decisions if call.account["id"] == "a"])
        bench.close()
    assert answers[0] == answers[1]


def costs(call):
    return call.payload["cost"]


LIMITS = (Limit(40, 1.0), Limit(90, 4.0))


def hammered(bench, limiter, threads=6, turns=300):
    """Return the calls of several threads that were admitted while time passes, by their times."""
    stacks = [
        limiter.compile([declare(one, name=str(one), key="account.id", cost=costs) for one in part],
                        action="work")
        for part in (LIMITS, LIMITS[::-1], LIMITS[:1])
    ]  # fmt: skip
    ready = threading.Barrier(threads)

    def work(seed):
        draw = random.Random(seed)
        admitted = []
        ready.wait()
        for _ in range(turns):
            call = Call({"cost": draw.randint(1, 5)}, {"id": draw.choice("ab")})
            which = draw.randrange(3)
            decision = limiter.acquire(stacks[which], call)
            if decision.allowed and draw.random() < 0.1:
                decision.refund()
            elif decision.allowed:
                at = decision.receipts[0].charged_at
                admitted.append((at, call.account["id"], costs(call), which))
            if seed == 0:
                bench.advance(0.03)
        return admitted

    with ThreadPoolExecutor(threads) as pool:
        return sorted(one for part in pool.map(work, range(threads)) for one in part)


def test_no_order_of_threads_breaks_a_limit(make_bench, impatient):
    bench = make_bench()
    admitted = hammered(bench, bench.limiter())
    assert len(admitted) > 60
    for limit, only in ((LIMITS[0], (0, 1, 2)), (LIMITS[1], (0, 1))):
        for key in "ab":
            counted = [
                (at, cost) for at, who, cost, which in admitted if who == key and which in only
            ]
            worst = max(
                sum(cost for at, cost in counted if 0 <= at - begin < limit.period)
                for begin, _ in counted
            )
            assert worst <= limit.amount
    bench.close()


@given(
    amount=st.integers(1, 3000),
    period=st.sampled_from([0.3, 1.0, 7.0, 3600.0, 604_800.0]),
    pace=st.sampled_from([0.1, 0.9, 1.0, 1.1, 10.0]),
    start=st.sampled_from([0.0, 0.1, 12_345.678, 1e9]),
    reports=st.lists(st.floats(0.001, 1.0), max_size=3),
)
@example(amount=1002, period=0.3, pace=1.0, start=0.0, reports=[])
def test_the_entries_of_a_key_are_bounded(amount, period, pace, start, reports):
    window = Gauge(Limit(amount, period))
    now, most, reported = start, 0, 0
    for turn in range(2500):
        now += pace * period / min(amount, 1000)
        if window.wait_time(now, 1) == 0:
            window.charge(now, 1)
        if reported < len(reports) and turn % 900 == 899:
            window.report(now, amount // 2, reports[reported] * period)
            reported += 1
        ((_, state),) = window.algorithms
        most = max(most, (len(state) - 1) // 2 - reported)
    assert most <= min(amount, 1001)


some_limits = st.builds(Limit, st.integers(1, 50), st.sampled_from([0.3, 1.0, 60.0, 86_400.0]))
lags_of_a_period = st.sampled_from([0.0, 0.0, 1e-5, 0.0007, 0.3])


@given(limit=some_limits, lags=st.lists(lags_of_a_period, min_size=1, max_size=9))
@pytest.mark.slow
def test_demand_that_never_ends_gets_the_whole_limit(make_bench, limit, lags):
    bench = make_bench()
    limiter = bench.limiter()
    stack = limiter.compile([declare(limit)], action="work")
    periods, admitted = 5, []
    while len(admitted) <= periods * limit.amount:
        decision = limiter.acquire(stack, Call())
        bench.advance(decision.wait_time)
        if decision.allowed:
            admitted.append(bench.now())
        if decision.allowed and len(admitted) <= len(lags):
            # So that not all leave at once, and each between two steps of the coalescing.
            bench.advance(lags[len(admitted) - 1] * limit.period / len(lags))
    assert admitted[-1] - admitted[0] <= periods * limit.period * 1.002
    bench.close()
