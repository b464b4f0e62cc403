"""Charges that count from the API's response, since the API may count its call as late as that."""

from __future__ import annotations

import asyncio
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import TEN, charge, cut_off
from support.stores import BENCHES, Call

from arbprov import Calendar, Limit, MinDelay, ProviderApp, TaskContext, TokenBucket
from arbprov.limits import declare
from arbprov.limits.manual import _MAX_UNANSWERED


@pytest.fixture(scope="module", params=BENCHES.values(), ids=BENCHES)
def make_bench(request):
    with request.param() as make_bench:
        yield make_bench


class Bucket:
    """A single limit on a bench, with the receipts of its calls."""

    def __init__(self, bench, policy):
        self.bench = bench
        self.limiter = bench.limiter()
        self.limits = self.limiter.compile([declare(policy)], action="work")
        self.receipts = []

    def acquire(self):
        decision = self.limiter.acquire(self.limits, Call())
        self.receipts += decision.receipts
        return decision.allowed

    def move(self, number=0):
        receipt = self.receipts.pop(number)
        receipt.store.move(receipt)

    @property
    def left(self):
        return self.limiter.peek(self.limits, Call()).headroom[0].remaining

    @property
    def wait(self):
        return self.limiter.peek(self.limits, Call()).wait_time


def test_a_moved_charge_counts_from_then(make_bench):
    bucket = Bucket(make_bench(), Limit(1, 60))
    bucket.acquire()
    bucket.bench.advance(5)
    bucket.move()
    assert bucket.wait == pytest.approx(60, abs=0.1)
    bucket.bench.advance(59)
    assert bucket.left == 0
    bucket.bench.advance(1.1)
    assert bucket.left == 1


def test_only_the_charge_of_the_receipt_is_moved(make_bench):
    bucket = Bucket(make_bench(), Limit(3, 60))
    for _ in range(2):
        bucket.acquire()
        bucket.bench.advance(10)
    bucket.move()
    bucket.bench.advance(50.1)
    # The second call has left the window.
    assert bucket.left == 2


def test_a_charge_that_has_left_the_window_counts_again(make_bench):
    bucket = Bucket(make_bench(), Limit(2, 10))
    bucket.acquire()
    bucket.bench.advance(30)
    bucket.acquire()
    bucket.move()
    assert bucket.left == 0


def test_more_than_the_limit_may_have_been_sent(make_bench):
    bucket = Bucket(make_bench(), Limit(1, 10))
    bucket.acquire()
    bucket.bench.advance(30)
    bucket.acquire()
    bucket.move()
    assert (bucket.left, bucket.wait) == (0, pytest.approx(10, abs=0.1))
    bucket.bench.advance(10.1)
    assert bucket.left == 1


def test_a_quota_counts_the_call_of_yesterday_if_its_response_is_of_today(make_bench):
    bench = make_bench()
    bucket = Bucket(bench, Calendar("5/day"))
    bucket.acquire()
    bucket.acquire()
    bucket.move()
    assert bucket.left == 3
    bench.advance(86_400)
    assert bucket.left == 5
    bucket.move()
    assert bucket.left == 4


def test_a_pace_stays_as_it_is(make_bench):
    bucket = Bucket(make_bench(), TokenBucket(requests_per_minute=6, burst_size=2))
    while bucket.acquire():
        pass
    bucket.bench.advance(4)
    before = bucket.wait
    bucket.move()
    assert bucket.wait == before


def test_a_delay_begins_with_the_response(make_bench):
    bucket = Bucket(make_bench(), MinDelay(10))
    bucket.acquire()
    bucket.bench.advance(4)
    bucket.move()
    assert bucket.wait == pytest.approx(10, abs=0.1)


STEPS = st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=30)


@given(STEPS)
def test_a_window_counts_each_charge_from_its_latest_time(make_bench, steps):
    bucket, unanswered, answered = Bucket(make_bench(), Limit(4, 60)), [], []
    for gap, moves in steps:
        bucket.bench.advance(gap)
        now = bucket.bench.now()
        if moves and bucket.receipts:
            bucket.move()
            unanswered.pop(0)
            answered.append(now)
        elif bucket.acquire():
            unanswered.append(now)
        # A window forgets a charge up to a thousandth of its period late, and never early.
        ages = [now - at for at in unanswered + answered]
        surely, maybe = (sum(age < 60 + late for age in ages) for late in (-1e-4, 0.121))
        assert max(0, 4 - maybe) <= bucket.left <= max(0, 4 - surely)


# While a store is away.


def test_a_moved_charge_counts_from_then_in_the_notes_of_its_process_too(peer):
    receipt = peer.store.acquire(charge(TEN))
    for is_away in (False, True):
        peer.cable.cut = is_away
        peer.clock.advance(40)
        peer.store.move(receipt)
        peer.clock.advance(30)
        (noted,) = charge(TEN)
        assert (peer.store._own.used(noted), peer.is_away) == (1, is_away)


def test_a_charge_that_was_made_while_the_server_was_away_is_not_moved(peer):
    cut_off(peer)
    receipt = peer.store.acquire(charge(TEN))
    peer.cable.cut = False
    tries = peer.cable.tries
    peer.store.move(receipt)
    assert peer.cable.tries == tries


# In a handler.

FINE = types.SimpleNamespace(status=200, headers={})


class Vendor:
    """An API whose quota is an exact rolling window, and that counts calls when they arrive."""

    def __init__(self, quota, period):
        self.quota = quota
        self.period = period
        self.arrivals = []

    def count(self, now):
        self.arrivals.append(now)

    @property
    def most(self):
        """The most calls in any period."""
        return max(
            sum(begin - self.period < at <= begin for at in self.arrivals)
            for begin in self.arrivals
        )


DELAYS = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=8, max_size=40)


@given(DELAYS, st.integers(1, 5))
def test_an_api_never_counts_more_calls_than_the_limit_allows(delays, quota):
    app, vendor = ProviderApp(execution_timeout=10_000), Vendor(quota, 10)

    @app.action
    @app.rate_limit(f"{quota}/10s", name="vendor", manual=True, max_wait=9_000)
    async def work(ctx: TaskContext):
        async def call(there, back):
            await ctx.limits.aacquire("vendor")
            await asyncio.sleep(there)
            vendor.count(ctx._clock.monotonic())
            await asyncio.sleep(back)
            ctx.limits.observe(FINE, limit="vendor")

        await asyncio.gather(*(call(*delay) for delay in delays))

    assert app.test_client().call("work").status.value == "success"
    assert len(vendor.arrivals) == len(delays)
    assert vendor.most <= quota


def test_without_responses_a_charge_counts_from_the_acquisition():
    app = ProviderApp(execution_timeout=100)

    @app.action
    @app.rate_limit("1/10s", name="vendor", manual=True, max_wait=20)
    async def work(ctx: TaskContext, observes: bool):
        await ctx.limits.aacquire("vendor")
        await asyncio.sleep(4)
        if observes:
            ctx.limits.observe(FINE, limit="1/10s")
        await ctx.limits.aacquire("vendor")
        return ctx._clock.monotonic()

    assert app.test_client().call("work", {"observes": False}).data == pytest.approx(10, abs=0.1)
    assert app.test_client().call("work", {"observes": True}).data == pytest.approx(14, abs=0.1)


def test_a_response_for_another_limit_moves_nothing():
    app = ProviderApp(execution_timeout=100)

    @app.action
    @app.rate_limit("1/10s", name="vendor", manual=True, max_wait=20)
    @app.rate_limit("9/hour", name="other")
    async def work(ctx: TaskContext):
        await ctx.limits.aacquire("vendor")
        await asyncio.sleep(4)
        ctx.limits.observe(FINE, limit="other")
        await ctx.limits.aacquire("vendor")
        return ctx._clock.monotonic()

    assert app.test_client().call("work").data == pytest.approx(10, abs=0.1)


def test_only_so_many_calls_are_remembered():
    app = ProviderApp(execution_timeout=100)

    @app.action
    @app.rate_limit("10000/hour", name="vendor", manual=True)
    def work(ctx: TaskContext):
        for _ in range(_MAX_UNANSWERED + 10):
            ctx.limits.acquire("vendor")
        return len(ctx.limits._unanswered)

    assert app.test_client().call("work").data == _MAX_UNANSWERED


def test_threads_of_a_handler_observe_at_the_same_time():
    app = ProviderApp(execution_timeout=100)
    ready = threading.Barrier(4)

    @app.action
    @app.rate_limit("1000/hour", name="vendor", manual=True)
    def work(ctx: TaskContext):
        def call(_):
            ready.wait()
            for _ in range(25):
                ctx.limits.acquire("vendor")
                ctx.limits.observe(FINE, limit="vendor")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(4)))
        return len(ctx.limits._unanswered)

    client = app.test_client()
    assert client.call("work").data == 0
    assert client.limits.headroom("work")[0].remaining == 900
