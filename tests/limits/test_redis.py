"""Limits that several processes share through a Redis server, started by the tests."""

from __future__ import annotations

import json
import math
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, get_ident

import pytest
import redis
import redis.asyncio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.hammering import hammering, most_in_any
from support.peers import EVENING, POLICIES_OF_ALL_KINDS, TEN, Peer, acquire, charge
from support.stores import Call, ClockedRedisStore, RedisBench
from support.waiting import TIMEOUT

from arbprov import (
    Calendar,
    Concurrency,
    ConfigurationError,
    Limit,
    MinDelay,
    ProviderApp,
    RateLimited,
    Task,
    TokenBucket,
)
from arbprov.clock import SystemClock
from arbprov.limits import Limiter, MemoryStore, StoreFactory, declare
from arbprov.limits.stores.base import CountsDroppedError, DataLostError, StoreError
from arbprov.limits.stores.failover import FailoverStore
from arbprov.limits.stores.redis import RedisStore, connect
from arbprov.testing import VirtualClock

# The same decisions as in memory.

POLICIES = [
    Limit(5, 60),
    Limit(3, 0.3),
    Limit(10, 60, burst=3),
    TokenBucket(requests_per_minute=60, burst_size=4),
    MinDelay(2.5),
    Calendar("7/day", tz="Europe/Madrid"),
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [*["acquire"] * 6, "peek", "refund", "report", "start_cooldown", "end_cooldown"]
        ),
        st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.29, 0.31, 1.0, 13.7, 60.0, 7200.0]),
        st.lists(
            st.tuples(
                st.sampled_from(POLICIES), st.sampled_from("ab"), st.integers(1, 3), st.booleans()
            ),
            min_size=1,
            max_size=3,
            unique_by=lambda one: one[:2],
        ),
    ),
    min_size=1,
    max_size=30,
)


class Trace:
    """The answers of one store to the steps of a script."""

    def __init__(self, store, clock):
        self.store = store
        self.clock = clock
        self.receipts = []

    def step(self, operation, uses):
        charges = [
            one
            for policy, key, cost, shadow in uses
            for one in charge(policy, key, min(cost, policy.capacity), shadow, self.clock)
        ]
        return getattr(self, operation)(charges)

    def acquire(self, charges):
        receipt = self.store.acquire(charges)
        self.receipts += [receipt] if receipt else []
        answers = [(one.wait_time, one.remaining, one.in_cooldown) for one in charges]
        return answers, receipt and (receipt.probing, len(receipt.charges))

    def peek(self, charges):
        self.store.peek(charges, {charges[0].bucket: 2})
        return [(one.wait_time, one.remaining, one.in_cooldown) for one in charges]

    def refund(self, charges):
        if self.receipts:
            self.receipts.pop().refund()

    def report(self, charges):
        self.store.report(charges[0], 2, 20.0)

    def start_cooldown(self, charges):
        self.store.start_cooldown(charges, 3.0, 0.5)

    def end_cooldown(self, charges):
        self.store.end_cooldown(charges)


@pytest.fixture
def clocked(client):
    """Return a function that makes an empty memory and Redis store on one clock."""

    def make():
        bench = RedisBench(client)
        # Quotas look at the clock themselves.
        stores = (MemoryStore(bench.clock), bench.store())
        return bench, [Trace(store, bench.clock) for store in stores]

    return make


def test_memory_and_redis_give_the_same_trace_on_one_clock(clocked):
    seen = set()

    @given(STEPS)
    @settings(max_examples=300, phases=[Phase.generate])
    def same_traces(steps):
        bench, traces = clocked()
        for operation, gap, uses in steps:
            bench.advance(gap)
            one, other = [trace.step(operation, uses) for trace in traces]
            assert one == other
            seen.add(operation)

    same_traces()
    assert len(seen) == 6


def test_the_entries_of_a_key_are_bounded_on_the_server_too(client):
    store = ClockedRedisStore(client, "tests")
    # Around this time, floats would make 1,002 steps of a period.
    for micros in range(58_745_400 - 1004 * 300, 58_745_400 + 1, 150):
        client.set("time", json.dumps(divmod(micros, 1_000_000)))
        acquire(store, *charge(Limit(10_000, 0.3)))
    (key,) = client.keys("*used:*")
    assert client.strlen(key) == 8 * (1 + 2 * 1001)


# Several processes.


@pytest.mark.slow
def test_four_processes_never_exceed_two_limits_in_any_window_and_reach_both(server, client):
    with hammering(server.url, "10/second; 18/2s", processes=4, seconds=5) as hammers:
        reports = hammers.reports()
    times = sorted(one.charged_at for report in reports for one in report.admissions)
    assert (most_in_any(times, 1), most_in_any(times, 2)) == (10, 18)
    # 18 in each of two windows of 2 s, and 10 in the first second of the third.
    assert len(times) >= 46 * 0.98
    assert not any(one.fallback for report in reports for one in report.admissions)


def test_a_new_cooldown_does_not_wait_for_the_last_probe(client):
    store = RedisStore(client, "tests")
    store.start_cooldown(charge(Limit(5, 60)), 1e-6, 60.0)
    first = store.acquire(charge(Limit(5, 60)))
    refused = store.acquire(charge(Limit(5, 60)))
    store.start_cooldown(charge(Limit(5, 60)), 0.0, 60.0)
    second = store.acquire(charge(Limit(5, 60)))
    assert (first.probing, refused, second.probing) == (True, None, True)


def test_a_cooldown_that_one_process_starts_is_for_all_processes(client):
    stores = [RedisStore(client, "tests") for _ in range(2)]
    stores[0].start_cooldown(charge(Limit(5, 60)), 30.0, 1.0)
    done, ((wait, _, in_cooldown),) = acquire(stores[1], *charge(Limit(5, 60)))
    assert (done, in_cooldown, wait) == (False, True, pytest.approx(30, abs=1))


@pytest.mark.parametrize("cut", [False, True])
def test_a_cooldown_is_known_by_its_action_in_each_process(client, cut):
    first, second = Peer(client), Peer(client)
    (one,) = charge(TEN)
    one.cooldown_action = "søk"
    first.store.start_cooldown([one], 30.0, 1.0)
    asking, asked = (first, charge(TEN)) if cut else (second, charge(TEN))
    asking.cable.cut = cut
    assert asking.store.acquire(asked) is None
    assert (asked[0].in_cooldown, asked[0].cooldown_action) == (True, "søk")


def test_processes_of_another_name_share_nothing(client):
    for name in ("one", "another"):
        assert acquire(RedisStore(client, name), *charge(Limit(1, 60)))[0]


def test_what_one_process_has_used_another_sees(client):
    acquire(RedisStore(client, "tests"), *charge(Limit(5, 60)))
    store, charges = RedisStore(client, "tests"), charge(Limit(5, 60))
    store.peek(charges)
    assert charges[0].remaining == 4


# The keys on the server.


def test_the_keys_of_all_kinds_of_limits_never_change(server, client):
    def by_region(call):
        return call.payload["region"]

    clock = SystemClock()
    limiter = Limiter(clock, StoreFactory(clock, "space", server.url).open_store, "shop")
    declarations = [
        declare("5/minute"),
        declare("100/2h burst 20", scope="app"),
        declare("7/second", scope="blueprint"),
        declare("10/minute", name="vendor", key="account.id"),
        declare("11/minute", key=("account.id", "payload.region"), shadow=True),
        declare(TokenBucket(requests_per_minute=60, burst_size=4)),
        declare(MinDelay(0.5), key=by_region),
        declare(Calendar("9/day")),
        declare(lambda call: "12/hour", key="account.id"),
        declare(Concurrency(3), key="account.id"),
    ]
    limits = limiter.compile(declarations, action="work", blueprint="reports")
    decision = limiter.acquire(limits, Call({"region": "eu"}, {"id": 42}))
    decision.start_cooldown(30, "vendor", 2)
    function = f"{by_region.__module__}.{by_region.__qualname__}#0"
    # The hashes of 42, "eu", and both.
    account, region = "17901611df3794ac29ad29779c539f", "6af47a587c8e8af71e6b681d8513ea"
    both = "13fa47ecd29d3a19fe7a7b9fec2344"
    keys = {key.decode().removeprefix("arbprov:{space}:") for key in client.scan_iter()}
    assert keys == {
        "generation",
        "peers",
        "holders",
        f"gate:name:vendor|account.id|10/minute|window:{account}",
        f"used:name:vendor|account.id|10/minute|window:{account}",
        f"used:shop/action:work|{function}|a delay of 0.5s|window:{region}",
        f"used:shop/action:work|account.id and payload.region|shadow|11/minute|window:{both}",
        f"used:shop/action:work|account.id|12/hour|window:{account}",
        f"used:shop/action:work|account.id|3 at a time|semaphore:{account}",
        "used:shop/action:work||5/minute|window:",
        "used:shop/action:work||9/day from midnight in UTC|quota:",
        "used:shop/action:work||token bucket of 4, 60/minute|bucket:",
        "used:shop/app||100/2h burst 20|bucket:",
        "used:shop/app||100/2h burst 20|window:",
        "used:shop/blueprint:reports||7/second|window:",
    }


@pytest.mark.parametrize(
    ("policy", "doubles"),
    [
        (Limit(5, 60), (1.0, 1774735260.0, 1.0)),
        (TokenBucket(requests_per_minute=60, burst_size=4), (1774735201.0, 1774735200.0)),
        (Calendar("9/day"), (1.0, 1774735200.0, 1774742400.0)),
    ],
    ids=str,
)
def test_the_states_in_the_keys_never_change(client, policy, doubles):
    bench = RedisBench(client)
    acquire(bench.store(), *charge(policy, clock=bench.clock))
    (key,) = client.keys("*used:*")
    assert struct.unpack(f"<{len(doubles)}d", client.get(key)) == doubles


def test_the_state_of_a_cooldown_never_changes(client):
    RedisBench(client).store().start_cooldown(charge(Limit(5, 60)), 30.0, 2.0)
    (key,) = client.keys("*gate:*")
    assert struct.unpack("<3d", client.get(key)) == (1774735230.0, 2.0, -math.inf)


def test_all_keys_have_one_hash_tag_so_that_a_cluster_keeps_them_together(client):
    store = RedisStore(client, "odd {name}")
    store.upkeep()
    store.acquire([*charge(Limit(5, 60, burst=2)), *charge(Calendar("5/day"), key="another")])
    store.start_cooldown(charge(Limit(5, 60)), 1.0, 1.0)
    tags = {key.decode().partition("{")[2].partition("}")[0] for key in client.scan_iter()}
    assert tags == {"odd name"}


def test_a_name_of_braces_only_has_a_hash_tag_too(client):
    RedisStore(client, "{}").upkeep()
    assert {b"arbprov:{arbprov}:generation"} < set(client.scan_iter())


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [(Limit(5, 60), 60), (TokenBucket(requests_per_minute=60, burst_size=5), 1)],
    ids=str,
)
def test_a_key_vanishes_when_it_is_idle(client, store, policy, seconds):
    store.acquire(charge(policy))
    (key,) = client.keys("*used*")
    assert seconds * 1000 * 0.9 < client.pttl(key) <= seconds * 1001 + 1


def test_a_quota_vanishes_at_midnight(client, store):
    store.acquire(charge(Calendar("5/day")))
    (key,) = client.keys("*used*")
    assert 0 < client.pttl(key) <= 86_400_000


def test_a_charge_that_was_taken_back_leaves_no_key(client, store):
    store.acquire(charge(Limit(5, 60))).refund()
    assert client.keys("*used*") == []


def test_the_server_gets_no_key_of_a_call(client, server):
    app = ProviderApp("secretive", rate_limit_store=server.url)
    app.action("work")(app.rate_limit("5/hour", key="account.api_key")(lambda: None))
    dispatcher = app._live_dispatcher()
    call = dispatcher.prepare(Task("1", "work", b"{}", b'{"api_key": "sample-secret"}'))
    assert dispatcher.decide(call).allowed
    assert [key for key in client.scan_iter() if b"sample-secret" in key] == []
    assert any(b"account.api_key" in key for key in client.scan_iter())


# Events on the server.


def test_a_flushed_script_is_loaded_again(client, store):
    acquire(store, *charge(Limit(5, 60)))
    client.script_flush()
    assert acquire(store, *charge(Limit(5, 60))) == (True, [(0, 3, False)])


def test_lost_data_are_noticed(client, store):
    acquire(store, *charge(Limit(5, 60)))
    client.flushall()
    RedisStore(client, "tests").upkeep()
    with pytest.raises(DataLostError):
        store.acquire(charge(Limit(5, 60)))


def test_an_error_of_the_server_is_one_of_the_store(client, store):
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreError, match="OOM"):
            store.acquire(charge(Limit(5, 60)))
    finally:
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize(
    ("policy", "maxmemory", "is_named"),
    [
        ("allkeys-lru", 10**9, True),
        ("volatile-ttl", 10**9, True),
        ("noeviction", 10**9, False),
        ("allkeys-lru", 0, False),
    ],
)
def test_an_eviction_policy_that_can_drop_counts_is_named_at_start(
    client, log, policy, maxmemory, is_named
):
    client.config_set("maxmemory", maxmemory)
    client.config_set("maxmemory-policy", policy)
    try:
        store = FailoverStore(RedisStore(client, "tests"), SystemClock(), "local", "the store")
        store.upkeep()
        store.upkeep()
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)
    assert [f"(maxmemory-policy {policy})" in line for line in log()] == [True] * is_named


def test_a_server_that_forbids_to_ask_for_its_policy_is_taken_as_it_is(client, log):
    client.info = lambda section: client.execute_command("NO SUCH COMMAND")
    store = FailoverStore(RedisStore(client, "tests"), SystemClock(), "local", "the store")
    store.upkeep()
    assert log() == []


@POLICIES_OF_ALL_KINDS
def test_counts_that_were_evicted_are_noticed_and_restored(client, log, policy):
    first, second = Peer(client), Peer(client)
    admitted = first.admitted(4, policy, clock=EVENING) + second.admitted(6, policy, clock=EVENING)
    client.delete(*client.keys("*used*"))
    again = second.admitted(5, policy, clock=EVENING) + first.admitted(5, policy, clock=EVENING)
    assert (admitted, again) == (10, 0)
    assert ["has dropped counts that still hold" in line for line in log()] == [True]


def test_calls_of_several_threads_at_once_are_not_taken_for_evicted(client, log):
    peer = Peer(client)
    with ThreadPoolExecutor(8) as pool:
        for key in "abcdefgh":
            admitted = list(pool.map(lambda _, key=key: peer.admitted(1, key=key), range(12)))
            assert sum(admitted) == 10
    assert log() == []


def test_a_call_that_another_thread_has_noted_first_is_not_taken_for_evicted(client, log):
    peer = Peer(client)
    acquire = peer.store._store.acquire

    def acquire_late(charges, known):
        peer.store._store.acquire = acquire
        receipt = acquire(charges, known)
        peer.admitted(1)
        return receipt

    peer.store._store.acquire = acquire_late
    assert (peer.admitted(12), peer.remaining(), log()) == (9, 0, [])


def test_calls_that_ask_at_once_after_an_eviction_all_notice_it(client, log):
    peer = Peer(client)
    peer.admitted(10)
    client.delete(*client.keys("*used*"))
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: peer.admitted(1), range(16))) == 0
    assert "has dropped counts" in log()[0]


def test_threads_that_notice_an_eviction_in_the_same_moment_admit_nothing(client, impatient):
    peer = Peer(client)
    acquire, together, waited = peer.store._store.acquire, Barrier(8, timeout=TIMEOUT), set()

    def acquire_together(charges, *known):
        try:
            return acquire(charges, *known)
        finally:
            if get_ident() not in waited:
                waited.add(get_ident())
                together.wait()

    keys = [str(number) for number in range(20)]
    assert [peer.admitted(10, key=key) for key in keys] == [10] * 20
    client.delete(*client.keys("*used*"))
    peer.store._store.acquire = acquire_together
    with ThreadPoolExecutor(8) as pool:
        for key in keys:
            waited.clear()
            assert sum(pool.map(lambda _, key=key: peer.admitted(1, key=key), range(8))) == 0


def test_a_bucket_that_counts_less_than_is_known_is_not_charged(store):
    store.acquire(charge(TEN))
    charges = [*charge(TEN, key="whole"), *charge(TEN)]
    with pytest.raises(CountsDroppedError):
        store.acquire(charges, [0, 2])
    store.peek(charges)
    assert [one.remaining for one in charges] == [10, 9]


def test_only_counts_that_were_dropped_are_restored(client, peer, monkeypatch):
    both = [*charge(TEN, key="dropped"), *charge(TEN, key="kept")]
    assert peer.store.acquire(both)
    client.delete("arbprov:{peers}:used:10/minute|window:" + b"dropped".hex())
    restored, report = [], peer.store._store.report
    monkeypatch.setattr(
        peer.store._store,
        "report",
        lambda charge, used, reset_in: (
            restored.append(charge.key),
            report(charge, used, reset_in),
        ),
    )
    assert peer.store.acquire(both)
    assert (set(restored), [one.remaining for one in both]) == ({b"dropped"}, [8, 8])


def test_a_refund_is_not_taken_off_a_count_that_is_being_restored_without_it(client):
    peer = Peer(client)
    receipts = [peer.store.acquire(charge(TEN)) for _ in range(10)]
    client.delete(*client.keys("*used*"))
    with ThreadPoolExecutor(1) as pool:
        refunds = []

        def refund_first(charge, used, reset_in):
            peer.store._store.report = report
            refunds.append(pool.submit(receipts[0].refund))
            assert not wait(refunds, 0.1).done
            report(charge, used, reset_in)

        report, peer.store._store.report = peer.store._store.report, refund_first
        assert peer.admitted(1) == 0
        refunds[0].result(TIMEOUT)
    # 1 is left, unless the restored call has another end than the call that is refunded.
    assert peer.admitted(5) <= 1


def test_a_call_of_which_the_store_has_forgotten_an_earlier_one_just_now_is_asked_again(client):
    peer = Peer(client)
    peer.admitted(2)
    client.delete(*client.keys("*used*"))
    peer.clock.advance(59.5)  # in the store, calls leave the window a little earlier
    assert (peer.admitted(1), peer.remaining()) == (1, 9)


def test_a_server_that_drops_each_count_at_once_is_one_that_is_away(client, log):
    peer = Peer(client)
    peer.admitted(4)
    peer.cable.before = lambda: client.delete(*client.keys("*used*"), "none")
    assert peer.admitted(10) == 6
    assert "it drops counts as soon as they are written" in log()[-1]


def test_lost_counts_are_warned_of_once_a_minute(client, log):
    peer = Peer(client)
    for _ in range(3):
        peer.admitted(3)
        client.delete(*client.keys("*used*"))
    assert (peer.admitted(9), len(log())) == (1, 1)


def test_a_key_that_has_ended_is_not_evicted(client, log):
    peer = Peer(client)
    peer.admitted(3)
    client.delete(*client.keys("*used*"))
    peer.clock.advance(59.5)
    assert (peer.admitted(10), log()) == (10, [])


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_wall_clock_that_is_set_changes_nothing(client, server, monkeypatch, step):
    store = FailoverStore(RedisStore(client, "tests"), SystemClock(), "local", "the store")
    store.acquire(charge(Limit(1, 60)))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    done, ((wait, _, _),) = acquire(store, *charge(Limit(1, 60)))
    assert (done, wait) == (False, pytest.approx(60, abs=2))


# Opening a store.


def opening(store, **options):
    """Return the error of an app when one of its limits names a store."""
    app = ProviderApp("opening")
    app.action("work")(app.rate_limit("5/hour", store=store, **options)(lambda: None))
    with pytest.raises(ConfigurationError) as caught:
        app.limits.headroom("work")
    return str(caught.value)


def test_a_url_of_something_else_is_refused_without_showing_its_password():
    assert opening("postgres://user:sample-secret@host/db") == (
        "store: a store is a URL such as redis://host:6379/0, or a Redis client; "
        "this one begins with none of redis://, rediss:// and unix://"
    )


@pytest.mark.parametrize("origin", ["argument", "variable"])
def test_a_wrong_store_of_the_app_is_named_as_its_setting(origin, monkeypatch):
    if origin == "variable":
        monkeypatch.setenv("ARBPROV_RATE_LIMIT_STORE", "http://host")
    app = ProviderApp(
        rate_limit="5/hour", rate_limit_store="http://host" if origin == "argument" else None
    )
    app.action("work")(lambda: None)
    with pytest.raises(ConfigurationError, match="rate_limit_store, or ARBPROV_RATE_LIMIT_STORE: "):
        app.limits.headroom("work")


def test_a_text_that_is_no_url_is_refused():
    assert opening("localhost").endswith("none of redis://, rediss:// and unix://")


WRONG_URLS = {
    "a slash in the password": "redis://:s3cr3tpart/x9@127.0.0.1:6379/0",
    "a slash after digits": "redis://s3cr3tpart:12/s3cr3tpart@127.0.0.1:6379/0",
    "a bracket in the password": "redis://:s3cr3tpart[2@127.0.0.1:6379/0",
    "a hash in the password": "redis://s3cr3tpart:12#s3cr3tpart@127.0.0.1:6379/0",
    "a question mark in the password": "redis://s3cr3tpart:12?s3cr3tpart@127.0.0.1:6379/0",
    "a parameter in the password": "redis://s3cr3tpart:12?s3cr3tpart=x@127.0.0.1:6379/0",
    "a blank in the password": "redis://:s3cr3t part@127.0.0.1:6379/0",
    "a password only": "s3cr3tpart:x@127.0.0.1",
    "a bracket that is not closed": "redis://:s3cr3tpart@[::1",
    "a port that is not a number": "redis://:s3cr3tpart@127.0.0.1:s3cr3tpart/0",
    "a port that is too large": "redis://:s3cr3tpart@127.0.0.1:99999/0",
    "a host that is not a name": "redis://:s3cr3tpart@a..b/0",
    "no host": "redis:///0",
    "a database that is not a number": "redis://127.0.0.1/s3cr3tpart",
    "an unknown parameter": "redis://:s3cr3tpart@127.0.0.1/0?s3cr3tpart=bar",
    "a parameter of TLS": "redis://:s3cr3tpart@127.0.0.1/0?ssl_cert_reqs=none",
    "a wrong parameter of TLS": "rediss://:s3cr3tpart@127.0.0.1/0?ssl_cert_reqs=s3cr3tpart",
    "a timeout that is not a number": "redis://:s3cr3tpart@127.0.0.1/0?socket_timeout=s3cr3tpart",
    "a timeout of 0": "redis://:s3cr3tpart@127.0.0.1/0?socket_timeout=0",
    "a socket without a path": "unix://:s3cr3tpart@/",
    "a slash in the password of a socket": "unix://:s3cr3tpart/s3cr3tpart@/tmp/redis.sock",
}


@pytest.mark.parametrize("url", WRONG_URLS.values(), ids=WRONG_URLS)
def test_a_wrong_url_is_refused_at_start_without_any_part_of_it(url):
    message = opening(url)
    assert (message.startswith("store: "), "s3cr3t" in message) == (True, False)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://:a%2Fb@[::1]:6380/3",
        "rediss://user:b%40@db.example.com/?ssl_cert_reqs=none",
        "unix://:x@/tmp/redis.sock?db=2",
        "redis://127.0.0.1/0?socket_timeout=0.5",
    ],
)
def test_a_url_of_a_store_is_taken(url):
    clock = VirtualClock()
    store = StoreFactory(clock, "x").open_store(declare("1/hour", store=url))
    assert isinstance(store, FailoverStore)


def test_a_certificate_that_is_missing_is_a_server_that_is_away(server):
    url = f"rediss://127.0.0.1:{server.port}?ssl_ca_certs=/missing.pem"
    with pytest.raises(StoreError):
        RedisStore(connect(url), "x").upkeep()


@pytest.mark.parametrize("kind", ["Redis", "RedisCluster"])
def test_an_asyncio_client_is_refused_by_name(kind):
    client = object.__new__(getattr(redis.asyncio, kind))
    assert f"{kind} is an asyncio client" in opening(client)


def test_a_url_that_redis_does_not_understand_is_refused():
    assert opening("redis://host:port/0").startswith("store: ")


def test_what_is_no_client_is_refused():
    assert opening(5) == "store: int is not a Redis client or its URL"


def test_a_client_that_would_wait_for_ever_is_refused():
    with redis.Redis(socket_timeout=None) as client:
        assert "make it with a socket_timeout" in opening(client)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    assert 'pip install "arbprov[redis]"' in opening("redis://127.0.0.1")


@pytest.fixture
def url_of_nobody():
    return "redis://127.0.0.1:1/0"


def test_a_test_client_needs_no_server(url_of_nobody, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    app = ProviderApp(rate_limit="1/hour", rate_limit_store=url_of_nobody)
    app.action("work")(lambda: None)
    client = app.test_client()
    assert [client.call("work").status.value for _ in range(2)] == ["success", "limit"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_charge_that_is_old_when_the_handler_begins_is_made_again(
    server, client, made_again, asynchronous
):
    async def work():
        return None

    app = ProviderApp("aged", rate_limit_store=server.url)
    app.action("work")(app.rate_limit("5/hour")(work if asynchronous else lambda: None))
    app.before_task(lambda: time.sleep(0.15))
    assert app.invoke("work").status == "success"
    assert made_again
    assert app.limits.headroom("work")[0].remaining == 4


@pytest.mark.parametrize("how", ["argument", "environment", "client", "limit"])
def test_a_store_may_be_given_in_each_of_these_ways(server, client, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("ARBPROV_RATE_LIMIT_STORE", server.url)
    stores = {"argument": server.url, "client": client}
    app = ProviderApp("given", rate_limit_store=stores.get(how))
    store = server.url if how == "limit" else None
    app.action("work")(app.rate_limit("5/hour", store=store)(lambda: None))
    dispatcher = app._live_dispatcher()
    assert dispatcher.decide(dispatcher.prepare(Task("1", "work"))).allowed
    assert client.keys("*{given}:used*")


def test_limits_with_one_store_share_its_connection(server):
    clock = VirtualClock()
    opened = StoreFactory(clock, "one", server.url).open_store
    first, second, closed = (
        declare("5/hour"),
        declare("9/day"),
        declare("1/hour", on_store_error="closed"),
    )
    assert opened(first) is opened(second)
    assert opened(first) is not opened(closed)


def test_what_the_store_has_is_seen_by_the_app(server, client):
    apps = []
    for _ in range(2):
        app = ProviderApp("seen", rate_limit_store=server.url)
        app.action("work")(app.rate_limit("5/hour", key="account.id")(lambda: None))
        apps.append(app)
    dispatcher = apps[0]._live_dispatcher()
    dispatcher.decide(dispatcher.prepare(Task("1", "work", b"{}", b'{"id": 7}')))
    assert [apps[1].limits.headroom("work", key)[0].remaining for key in (7, 8)] == [4, 5]


def test_the_store_s_repr_and_the_config_s_show_no_password():
    app = ProviderApp(rate_limit_store="redis://user:sample-secret@host")
    assert "sample-secret" not in repr(app.config)


# Over the wire.


def run_tasks(hub, number, action="work"):
    submissions = [hub.put(action) for _ in range(number)]
    return sorted(submission.future.result(TIMEOUT).status for submission in submissions)


def test_two_providers_share_a_limit_over_the_wire(server, client, hub, serve):
    for _ in range(2):
        app = ProviderApp("twins", rate_limit="5/hour", rate_limit_store=server.url)
        app.action("work")(lambda: None)
        serve(app)
    assert run_tasks(hub, 20) == ["limit"] * 15 + ["success"] * 5


def of_one_namespace(server, *names, **terms):
    """Return the decisions of some providers, each over two calls for a limit of 2."""
    decisions = []
    for name in names:
        app = ProviderApp(name, rate_limit_store=server.url, rate_limit_namespace="vendor")
        app.action("work")(app.rate_limit("2/hour", **terms)(lambda: None))
        dispatcher = app._live_dispatcher()
        call = dispatcher.prepare(Task("1", "work"))
        decisions.append([dispatcher.decide(call).allowed for _ in range(2)])
    return decisions


def test_providers_of_one_namespace_share_a_limit_of_one_name(server, client):
    decisions = of_one_namespace(server, "reports", "campaigns", name="quota")
    assert decisions == [[True, True], [False, False]]


@pytest.mark.parametrize("scope", ["action", "app"])
def test_providers_of_one_namespace_have_their_limits_without_a_name_apart(server, client, scope):
    decisions = of_one_namespace(server, "reports", "campaigns", scope=scope)
    assert decisions == [[True, True], [True, True]]


def test_a_stack_of_two_stores_charges_both_or_none(server, client):
    app = ProviderApp("both")
    app.action("work")(
        app.rate_limit("1/hour")(app.rate_limit("3/hour", store=server.url)(lambda: None))
    )
    dispatcher = app._live_dispatcher()
    call = dispatcher.prepare(Task("1", "work"))
    assert [dispatcher.decide(call).allowed for _ in range(4)] == [True, False, False, False]
    assert {one.limit: one.remaining for one in app.limits.headroom("work")} == {
        "1/hour": 0,
        "3/hour": 2,
    }


def test_a_refusal_of_the_shared_store_takes_nothing_from_the_memory(server, client):
    app = ProviderApp("both")
    app.action("work")(
        app.rate_limit("3/hour")(app.rate_limit("1/hour", store=server.url)(lambda: None))
    )
    dispatcher = app._live_dispatcher()
    call = dispatcher.prepare(Task("1", "work"))
    decisions = [dispatcher.decide(call) for _ in range(3)]
    assert [one.allowed for one in decisions] == [True, False, False]
    assert [one.remaining for one in decisions[-1].headroom if one.limit == "3/hour"] == [2]


def test_a_task_waits_for_a_shared_limit(server, client, hub, serve):
    app = ProviderApp("patient", rate_limit_store=server.url)
    app.action("work")(app.rate_limit("2/s", max_wait=10)(lambda: None))
    serve(app)
    assert run_tasks(hub, 5) == ["success"] * 5


def test_a_throttled_handler_starts_a_cooldown_for_other_processes(server, client, hub, serve):
    app = ProviderApp("throttled", rate_limit_store=server.url)

    @app.action
    @app.rate_limit("100/hour")
    def work():
        raise RateLimited(60)

    serve(app)
    assert run_tasks(hub, 1) == ["limit"]
    (left,) = app.limits.headroom("work")
    assert left.wait_time == pytest.approx(60, abs=2)


# Bounds.


def test_the_last_seen_usage_of_idle_keys_is_forgotten(client, peer):
    for number in range(1025):
        peer.store._last_seen.update(charge(TEN, str(number))[0], 1, peer.clock.monotonic())
        peer.clock.advance(1)
    assert len(peer.store._last_seen.used) < 100


def test_the_ends_of_quotas_are_bounded(store):
    for number in range(1, 1028):
        store._renew_quotas(charge(Calendar(f"{number}/day")), 0.0)
    assert len(store._quotas) < 10
