"""Calls in flight that several processes share in Redis: each holds a lease until it has ended."""

from __future__ import annotations

import json
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
import redis
from support.peers import TEN, Peer, acquire, charge, cut_off, peers_of
from support.stores import Call, ClockedRedisStore
from support.waiting import TIMEOUT

from arbprov import Concurrency
from arbprov.limits import Limiter, declare
from arbprov.limits.stores.base import DataLostError, Receipt, StoreError
from arbprov.limits.stores.leases import Leases
from arbprov.limits.stores.redis import RedisStore

THREE = Concurrency(3)
FOUR = Concurrency(4)


def begin(peer, policy=THREE, **options):
    """Begin a call; return its receipt, or None if it is refused."""
    return peer.store.acquire(charge(policy, **options))


def left(client, policy=THREE):
    """Return the places that are left, as the server counts them."""
    (one,) = charge(policy)
    RedisStore(client, "peers").peek([one])
    return one.remaining


@pytest.fixture
def set_time(client):
    """Return a function that sets the time of the server for clocked stores."""

    def set_time(seconds):
        client.set("time", json.dumps([1_800_000_000 + seconds, 0]))

    set_time(0)
    return set_time


def clocked_left(client, policy=THREE):
    (one,) = charge(policy)
    ClockedRedisStore(client, "peers").peek([one])
    return one.remaining


# Several processes.


def test_processes_share_the_places(client):
    peers = peers_of(client, 2)
    assert [begin(peer) is not None for peer in (*peers, *peers)] == [True, True, True, False]


def test_a_place_that_a_call_gives_back_is_free_for_other_processes(client):
    first, second = peers_of(client, 2)
    receipts = [begin(first) for _ in range(3)]
    assert begin(second) is None
    receipts[0].refund()
    assert begin(second) is not None


def test_a_place_is_given_back_once(client, peer):
    first, _ = begin(peer), begin(peer)
    first.refund()
    first.refund()
    assert left(client) == 2


def test_a_call_takes_as_many_places_as_it_costs_on_the_server_too(client, peer):
    assert (begin(peer, cost=2) is not None, begin(peer, cost=2), left(client)) == (True, None, 1)


def test_a_refusal_says_when_to_ask_again_and_what_is_left(peer):
    begin(peer, cost=2)
    assert acquire(peer.store, *charge(THREE, cost=2)) == (False, [(0.2, 1, False)])


def test_a_shadow_charges_only_what_fits(client, peer):
    receipts = [begin(peer, shadow=True) for _ in range(5)]
    assert left(client) == 0
    for receipt in receipts:
        receipt.refund()
    assert left(client) == 3


@pytest.mark.parametrize("first", ["place", "window"])
def test_places_and_a_window_are_charged_both_or_none(client, peer, first):
    def both():
        charges = [*charge(THREE), *charge(TEN)]
        return charges if first == "place" else charges[::-1]

    receipts = [peer.store.acquire(both()) for _ in range(3)]
    assert (peer.store.acquire(both()), peer.remaining()) == (None, 7)
    receipts[0].refund()
    assert (left(client), peer.remaining()) == (1, 8)
    peer.admitted(8)
    assert (peer.store.acquire(both()), left(client)) == (None, 1)


@pytest.mark.parametrize("tell", ["report", "observe"])
def test_what_an_api_says_about_a_quota_of_the_same_name_is_not_said_of_places(peer, tell):
    limiter = Limiter(peer.clock, lambda declaration: peer.store)
    declarations = [declare(limit, name="vendor") for limit in (THREE, "10/hour")]
    limits = limiter.compile(declarations, action="work")
    decision = limiter.acquire(limits, Call())
    if tell == "report":
        decision.report("vendor", used=1, reset_in=60)
    else:
        headers = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0"}
        response = types.SimpleNamespace(status_code=200, headers=headers)
        decision.observe(response, limit="vendor")
    after = limiter.peek(limits, Call()).headroom
    assert ([one.remaining for one in after], peer.is_away) == ([2, 0], False)


def test_the_state_of_a_bucket_never_changes(client):
    store = RedisStore(client, "tests")
    store.acquire(charge(THREE, cost=2))
    (key,) = client.keys("*used*")
    assert client.hgetall(key) == {f"{store._holder} 1".encode(): b"2"}
    assert 604_700 < client.ttl(key) <= 604_800
    assert client.zrange("arbprov:{tests}:holders", 0, -1) == [store._holder.encode()]


def test_a_lease_that_is_asked_for_again_counts_once(client):
    store = RedisStore(client, "peers")
    charges = charge(Concurrency(1))
    assert [store.acquire(charges) is not None for _ in range(3)] == [True] * 3
    assert left(client, Concurrency(1)) == 0


def test_a_bucket_without_calls_has_no_key(client, peer):
    begin(peer).refund()
    assert client.keys("*used*") == []


def test_what_has_ended_is_not_remembered(peer):
    receipts = [begin(peer, key=str(key)) for key in range(9)]
    for receipt in receipts:
        receipt.refund()
    assert peer.store._leases._buckets == {}


def test_a_refused_call_is_not_remembered(peer):
    receipts = [begin(peer) for _ in range(5)]
    assert [receipt is not None for receipt in receipts] == [True] * 3 + [False] * 2
    assert peer.store._leases.units(charge(THREE)[0]) == 3


# Heartbeats.


def test_a_process_that_comes_back_leaves_no_lease_in_its_former_name(client, peer):
    begin(peer)
    cut_off(peer)
    begin(peer)
    peer.plug_in()
    assert left(client) == 1
    holders = client.zrangebyscore("arbprov:{peers}:holders", 0, "+inf")
    assert holders == [peer.store._store._holder.encode()]


def test_the_leases_of_a_process_lapse_30_s_after_its_last_heartbeat(client, set_time):
    first, second = peers_of(client, 2, kind=ClockedRedisStore)
    begin(first)
    set_time(20)
    first.store.upkeep()
    for seconds, free in ((50, 2), (51, 3)):
        set_time(seconds)
        second.store.upkeep()
        assert clocked_left(client) == free


def test_a_long_call_of_a_process_with_heartbeats_keeps_its_place(client, set_time):
    peer = Peer(client, kind=ClockedRedisStore)
    begin(peer)
    for seconds in range(0, 7200, 29):
        set_time(seconds)
        peer.store.upkeep()
    assert clocked_left(client) == 2


def test_a_process_that_was_paused_tells_of_its_calls_again(client, set_time):
    first, second = peers_of(client, 2, kind=ClockedRedisStore)
    running, ended = begin(first, cost=2), begin(first)
    set_time(40)
    second.store.upkeep()
    assert (begin(second) is not None, clocked_left(client)) == (True, 2)
    ended.refund()
    first.store.upkeep()
    assert clocked_left(client) == 0
    running.refund()
    assert clocked_left(client) == 2


def test_a_process_that_nobody_has_missed_tells_of_its_calls_again(client, set_time):
    first = Peer(client, kind=ClockedRedisStore)
    begin(first)
    set_time(40)
    assert (clocked_left(client), client.keys("*used*")) == (3, [])
    first.store.upkeep()
    assert clocked_left(client) == 2


def test_a_process_whose_clock_stood_still_too_tells_of_its_calls_again(client, set_time):
    peer = Peer(client, kind=ClockedRedisStore)
    begin(peer)
    set_time(40)
    assert clocked_left(client) == 3
    # A suspended machine: no heartbeat is due by the clock of this process.
    assert peer.store.acquire([*charge(THREE), *charge(FOUR)]) is not None
    begin(peer, key="other")
    assert clocked_left(client) == 1


def test_a_process_without_a_lapse_tells_nothing(client, peer, monkeypatch):
    begin(peer)
    peer.store.upkeep()
    told = []
    monkeypatch.setattr(peer.store._store, "hold", lambda *arguments: told.append(arguments))
    for _ in range(3):
        peer.pass_time(2)
        begin(peer)
    assert told == []


def test_a_process_without_heartbeats_has_its_first_lease(client):
    assert RedisStore(client, "peers").acquire(charge(THREE)) is not None
    assert left(client) == 2


def test_the_calls_of_a_worker_that_was_killed_do_not_live_by_its_successor(client, set_time):
    begin(Peer(client, kind=ClockedRedisStore, name="run.1.0"))
    successor = Peer(client, kind=ClockedRedisStore, name="run.1.0")
    begin(successor)
    for seconds, free in ((30, 1), (31, 2)):
        set_time(seconds)
        successor.store.upkeep()
        assert clocked_left(client) == free


def test_counts_that_a_full_server_drops_are_told_again(client, peer):
    peer.store._may_evict = True
    begin(peer)
    (key,) = client.keys("*used*")
    client.delete(key)
    peer.store.upkeep()
    assert left(client) == 2


# While the store is away.


def lose_answers(peer, monkeypatch):
    """Have the server hear this process, which gets no answer."""
    evaluate = peer.store._store._evaluate

    def lose(keys, arguments):
        evaluate(keys, arguments)
        raise redis.ConnectionError("the answer is lost")

    monkeypatch.setattr(peer.store._store, "_evaluate", lose)


def test_a_lease_whose_answer_was_lost_is_free_after_the_outage(client, peer, monkeypatch):
    begin(peer, FOUR)
    with monkeypatch.context() as patch:
        lose_answers(peer, patch)
        kept = begin(peer, FOUR)
    # Both the lease that was lost and the lease of the outage.
    assert left(client, FOUR) == 2
    peer.plug_in()
    assert left(client, FOUR) == 2
    kept.refund()
    assert left(client, FOUR) == 3


def test_a_refused_lease_whose_answer_was_lost_is_free_after_the_outage(client, peer, monkeypatch):
    with monkeypatch.context() as patch:
        lose_answers(peer, patch)
        receipts = [begin(peer) for _ in range(5)]
    assert [receipt is not None for receipt in receipts] == [True] * 3 + [False] * 2
    peer.plug_in()
    assert left(client) == 0
    for receipt in receipts[:3]:
        receipt.refund()
    assert left(client) == 3


@pytest.fixture
def late(monkeypatch):
    """Return a function that runs another while the questions of a process do not reach the server.

    It returns a function that has the first question reach the server.
    """

    def run(peer, function):
        evaluate, questions = peer.store._store._evaluate, []

        def delay(*question):
            questions.append(question)
            raise redis.TimeoutError("no answer in time")

        with monkeypatch.context() as patch:
            patch.setattr(peer.store._store, "_evaluate", delay)
            function()
        return lambda: evaluate(*questions[0])

    return run


def test_a_question_that_reaches_the_server_after_the_outage_gets_nothing(client, peer, late):
    begin(peer)
    arrive = late(peer, lambda: begin(peer).refund())
    peer.plug_in()
    peer.store.upkeep()
    assert arrive()[0] == b"former"
    assert left(client) == 2


def test_a_former_name_is_forgotten_after_an_hour(client, set_time):
    peer = Peer(client, kind=ClockedRedisStore)
    cut_off(peer)
    begin(peer)
    peer.plug_in()
    for seconds, names in ((3600, 2), (3601, 1)):
        set_time(seconds)
        peer.store.upkeep()
        assert client.zcard("arbprov:{peers}:holders") == names


@pytest.mark.parametrize("question", ["acquire", "release", "beat"])
def test_a_question_that_another_thread_s_recovery_overtakes_is_asked_in_the_new_name(
    client, peer, monkeypatch, question
):
    receipt, evaluate = begin(peer), peer.store._store._evaluate

    def overtake(*arguments):
        monkeypatch.setattr(peer.store._store, "_evaluate", evaluate)
        peer.store._mark_down(StoreError("away"))
        peer.plug_in()
        return evaluate(*arguments)

    monkeypatch.setattr(peer.store._store, "_evaluate", overtake)
    ask = {
        "acquire": lambda: begin(peer),
        "release": receipt.refund,
        "beat": peer.store.upkeep,
    }[question]
    ask()
    assert left(client) == {"acquire": 1, "release": 3, "beat": 2}[question]
    assert len(client.zrangebyscore("arbprov:{peers}:holders", 0, "+inf")) == 1


def test_a_call_whose_end_had_no_answer_has_given_its_place_back(client, peer, monkeypatch):
    receipt = begin(peer)
    with monkeypatch.context() as patch:
        lose_answers(peer, patch)
        receipt.refund()
    peer.plug_in()
    assert (left(client), peer.store._leases._buckets) == (3, {})


def test_each_process_keeps_to_its_share_of_the_places(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    assert [peer.admitted(9, Concurrency(8)) for peer in peers] == [4, 4]


def test_a_share_counts_the_calls_that_were_in_flight_before(client):
    first, second = peers_of(client, 2)
    assert first.admitted(3, Concurrency(8)) == 3
    cut_off(first, second)
    assert first.admitted(9, Concurrency(8)) == 1


def test_a_process_that_is_alone_has_all_places_that_its_calls_leave(peer):
    assert peer.admitted(5, Concurrency(8)) == 5
    cut_off(peer)
    assert peer.admitted(9, Concurrency(8)) == 3


def test_a_call_that_ends_during_an_outage_frees_its_share(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    receipts = [begin(peers[0], FOUR) for _ in range(2)]
    assert begin(peers[0], FOUR) is None
    receipts[0].refund()
    assert begin(peers[0], FOUR) is not None


def test_a_share_is_one_place_at_least(client):
    peers = peers_of(client, 3)
    cut_off(*peers)
    assert peers[0].admitted(5, Concurrency(1)) == 1


def test_what_other_processes_held_at_the_last_answer_counts_for_a_minute(client):
    first, second = peers_of(client, 2)
    assert (second.admitted(7, Concurrency(8)), first.admitted(1, Concurrency(8))) == (7, 1)
    cut_off(first)
    assert first.admitted(1, Concurrency(8)) == 0
    first.clock.advance(61)
    assert first.admitted(9, Concurrency(8)) == 3


def test_a_large_call_fits_into_no_share_and_is_admitted_alone(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    assert begin(peers[0], FOUR, cost=4) is not None
    assert begin(peers[0], FOUR) is None


def test_a_shadow_refuses_nothing_during_an_outage(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    receipts = [begin(peers[0], FOUR, shadow=True) for _ in range(5)]
    assert [len(receipt.charges) for receipt in receipts] == [1, 1, 0, 0, 0]


def test_the_answer_of_an_outage_has_the_share_that_is_left(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    (one,) = charge(Concurrency(8))
    assert peers[0].store.acquire([one]) is not None
    asked = charge(Concurrency(8))
    peers[0].store.peek(asked)
    assert (asked[0].remaining, asked[0].wait_time, asked[0].fallback) == (3, 0.0, True)


def test_calls_that_wait_before_a_call_count_during_an_outage(peer):
    cut_off(peer)
    (one,) = charge(FOUR)
    for ahead, wait in ((3, 0.0), (4, 0.2)):
        peer.store.peek([one], {one.bucket: ahead})
        assert one.wait_time == wait


def test_a_cooldown_refuses_calls_though_there_are_places_during_an_outage(peer):
    cut_off(peer)
    peer.store.start_cooldown(charge(THREE), 30.0, 1.0)
    done, ((wait, _, in_cooldown),) = acquire(peer.store, *charge(THREE))
    assert (done, wait, in_cooldown) == (False, 30.0, True)


def test_a_refusal_during_an_outage_has_what_is_left_of_the_other_limits(peer):
    cut_off(peer)
    begin(peer, cost=3)
    assert acquire(peer.store, *charge(TEN), *charge(THREE)) == (
        False,
        [(0.0, 10, False), (0.2, 0, False)],
    )


@pytest.mark.parametrize("first", ["place", "window"])
def test_places_and_a_window_are_charged_both_or_none_during_an_outage(peer, first):
    def both():
        charges = [*charge(THREE), *charge(TEN)]
        return charges if first == "place" else charges[::-1]

    cut_off(peer)
    receipts = [peer.store.acquire(both()) for _ in range(4)]
    assert (receipts[3], peer.remaining()) == (None, 7)
    for receipt in receipts[:3]:
        receipt.refund()
    assert peer.remaining() == 10
    peer.admitted(10)
    assert peer.store.acquire(both()) is None
    assert peer.admitted(9, THREE) == 3


def test_a_closed_store_gives_no_place_while_it_is_away(client):
    peer = Peer(client, mode="closed")
    cut_off(peer)
    assert peer.admitted(1, THREE) == 0
    peer.plug_in()
    assert peer.admitted(1, THREE) == 1


def test_an_open_store_gives_any_number_of_places_while_it_is_away(client):
    peer = Peer(client, mode="open")
    cut_off(peer)
    receipts = [begin(peer) for _ in range(5)]
    assert None not in receipts
    peer.plug_in()
    assert begin(peer) is None
    for receipt in receipts:
        receipt.refund()
    assert left(client) == 3


@pytest.mark.parametrize("mode", ["local", "open"])
def test_calls_that_began_in_an_outage_and_run_on_are_known_afterwards(client, mode):
    peer = Peer(client, mode=mode)
    cut_off(peer)
    receipts = [begin(peer) for _ in range(2)]
    receipts[0].refund()
    peer.plug_in()
    assert left(client) == 2
    receipts[1].refund()
    assert left(client) == 3


@pytest.mark.parametrize("mode", ["local", "closed", "open"])
def test_calls_that_end_in_an_outage_have_given_their_places_back_afterwards(client, mode):
    peer = Peer(client, mode=mode)
    ended, running = begin(peer), begin(peer)
    cut_off(peer)
    ended.refund()
    peer.plug_in()
    assert left(client) == 2
    running.refund()
    assert left(client) == 3


def test_a_lease_that_the_store_has_given_is_kept_in_mind_until_the_outage_is_over(peer):
    ended = begin(peer)
    cut_off(peer)
    ended.refund()
    (bucket,) = peer.store._leases._buckets.values()
    assert (bucket.leases, bucket.doubtful) == ({}, {ended.charges[0].lease})
    peer.plug_in()
    assert peer.store._leases._buckets == {}


def test_a_call_that_begins_and_ends_in_an_outage_leaves_nothing(client, peer):
    cut_off(peer)
    peer.clock.advance(1)
    begin(peer, TEN)
    for _ in range(5):
        begin(peer).refund()
    assert peer.store._leases._buckets == {}
    peer.plug_in()
    assert left(client) == 3


def test_a_call_that_began_in_an_outage_and_ends_in_the_recovery_leaves_nothing(client):
    first, second = peers_of(client, 2)
    cut_off(first, second)
    receipt = begin(first, FOUR)
    first.plug_in()
    assert (first.is_away, left(client, FOUR)) == (True, 3)
    receipt.refund()
    for peer in (second, first):
        peer.plug_in()
    assert (left(client, FOUR), first.store._leases._buckets) == (4, {})


def recovering(client, mode="local"):
    """Return a process that is back, and a process for which the server waits."""
    first, second = peers_of(client, 2, mode=mode)
    cut_off(first, second)
    begin(first, TEN)
    first.plug_in()
    assert first.is_away
    return first, second


def test_a_call_of_a_recovery_has_its_place_on_the_server(client):
    first, _ = recovering(client)
    receipt = begin(first, FOUR)
    assert left(client, FOUR) == 3
    receipt.refund()
    first.pass_time()
    assert left(client, FOUR) == 4


def test_a_call_that_ends_in_a_recovery_has_given_its_place_back_after_it(client):
    first, second = recovering(client)
    receipt = begin(first, FOUR)
    second.plug_in()
    receipt.refund()
    first.pass_time()
    assert (first.is_away, left(client, FOUR)) == (False, 4)


def test_a_call_that_the_server_refuses_in_a_recovery_holds_no_place(client):
    first, _ = recovering(client)
    other = RedisStore(client, "peers")
    for _ in range(3):
        assert other.acquire(charge(THREE), recovering=True) is not None
    assert (begin(first), first.store._leases.units(charge(THREE)[0])) == (None, 0)


def test_a_call_of_a_recovery_whose_answer_is_lost_holds_one_place(client, monkeypatch):
    first, second = recovering(client)
    with monkeypatch.context() as patch:
        lose_answers(first, patch)
        receipt = begin(first, FOUR)
    for peer in (first, second, first):
        peer.plug_in()
    assert (first.is_away, left(client, FOUR)) == (False, 3)
    receipt.refund()
    assert left(client, FOUR) == 4


def test_data_that_are_lost_while_calls_are_in_flight_are_restored(client):
    peers = peers_of(client, 2)
    receipts = [begin(peer, FOUR) for peer in peers]
    client.flushall()
    for peer in (*peers, *peers):
        peer.pass_time()
    assert left(client, FOUR) == 2
    for receipt in receipts:
        receipt.refund()
    assert left(client, FOUR) == 4


def test_a_call_that_ends_when_data_are_lost_has_given_its_place_back(client, peer):
    ended, _ = begin(peer), begin(peer)
    client.flushall()
    # Another process has begun the new data.
    RedisStore(client, "peers").upkeep()
    ended.refund()
    for _ in range(2):
        peer.pass_time()
    assert left(client) == 2


def test_a_call_that_begins_when_data_are_lost_has_one_place(client, peer):
    begin(peer)
    client.flushall()
    RedisStore(client, "peers").upkeep()
    receipt = begin(peer)
    for _ in range(2):
        peer.pass_time()
    assert (left(client), receipt is not None) == (1, True)


# Threads that meet. The server is a double, which lets a test act in the middle of an answer.


@attrs.define
class Server:
    """Counts leases, and calls functions of the test before and after it is told of leases."""

    capacity: int = 3
    has_lapsed: bool = False
    counted: dict = attrs.field(factory=dict)
    names: int = 0
    before_hold: object = lambda: None
    after_refund: object = lambda: None
    fails: bool = False

    def new_lease(self):
        self.names += 1
        return str(self.names)

    def acquire(self, charges):
        for one in charges:
            if sum(self.counted.values()) + one.cost > self.capacity:
                return None
            self.counted[one.lease] = one.cost
        return Receipt(self, charges, 0.0, False)

    def refund(self, receipt):
        if self.fails:
            raise StoreError("away")
        for one in receipt.charges:
            self.counted.pop(one.lease, None)
        self.after_refund()

    def hold(self, named, leases):
        self.before_hold()
        if self.fails:
            raise StoreError("away")
        for lease, units in leases.items():
            if units:
                self.counted[lease] = units
            else:
                self.counted.pop(lease, None)


@pytest.fixture
def double():
    return Server()


@pytest.fixture
def leases(double):
    return Leases(double)


def hold_one(leases, double):
    charges = charge(THREE)
    return leases.acquire(charges, lambda: double.acquire(charges))


def test_a_lease_that_is_got_while_the_store_is_told_stays(double, leases):
    hold_one(leases, double)
    double.before_hold = lambda: hold_one(leases, double)
    leases.tell()
    assert double.counted == {"1": 1, "2": 1}


def test_a_lease_that_is_refused_before_the_store_is_told_of_it_is_dropped(double, leases):
    hold_one(leases, double)

    def ask():
        leases.tell()

    assert leases.acquire(charge(THREE), ask) is None
    assert (double.counted, leases._buckets.keys()) == ({"1": 1}, {charge(THREE)[0].bucket})
    assert leases.units(charge(THREE)[0]) == 1


def test_a_lease_that_is_refused_without_the_store_being_told_is_not_asked_about(double, leases):
    refunds = []
    double.after_refund = lambda: refunds.append(1)
    assert leases.acquire(charge(THREE), lambda: None) is None
    assert (refunds, leases._buckets) == ([], {})


def in_another_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_lease_that_ends_while_the_store_is_told_of_it_is_dropped(double, leases):
    receipt, refunded, ending = hold_one(leases, double), threading.Event(), []
    double.after_refund = refunded.set

    def end_first():
        double.before_hold = lambda: None
        ending.append(in_another_thread(lambda: leases.release(receipt.charges)))
        assert refunded.wait(TIMEOUT)

    double.before_hold = end_first
    leases.tell()
    ending[0].join(TIMEOUT)
    assert (double.counted, leases._buckets) == ({}, {})


def test_a_lease_that_the_store_is_told_of_just_before_it_ends_is_dropped(double, leases):
    receipt, told = hold_one(leases, double), []

    def tell_late():
        if not told:
            told.append(1)
            # As if the store had heard of the lease before, and of its end first.
            leases._times_told += 1
            double.counted.update({receipt.charges[0].lease: 1})

    double.after_refund = tell_late
    leases.release(receipt.charges)
    assert (double.counted, leases._buckets) == ({}, {})


def test_a_lease_that_may_have_been_got_is_dropped_when_the_store_is_told(double, leases):
    charges = charge(THREE)

    def ask():
        double.acquire(charges)
        raise StoreError("the answer is lost")

    with pytest.raises(StoreError):
        leases.acquire(charges, ask)
    assert (double.counted, leases.units(charges[0])) == ({"1": 1}, 0)
    leases.tell()
    assert (double.counted, leases._buckets) == ({}, {})


def test_a_lease_whose_end_the_store_has_missed_is_dropped_when_it_is_told(double, leases):
    receipt, double.fails = hold_one(leases, double), True
    for change in (lambda: leases.release(receipt.charges), leases.tell):
        with pytest.raises(StoreError):
            change()
    assert double.counted == {"1": 1}
    double.fails = False
    leases.tell()
    assert (double.counted, leases._buckets) == ({}, {})


def test_a_lease_that_ends_while_the_store_is_told_of_others_stays_doubtful(double, leases):
    kept, ended = hold_one(leases, double), hold_one(leases, double)
    double.before_hold = lambda: leases.forget(ended.charges)
    leases.tell()
    assert set(double.counted) == {one.charges[0].lease for one in (kept, ended)}
    double.before_hold = lambda: None
    leases.tell()
    assert list(double.counted) == [kept.charges[0].lease]


def test_a_refused_lease_that_can_not_be_dropped_takes_the_admitted_lease_with_it(double, leases):
    charges = [*charge(THREE), *charge(FOUR, shadow=True)]

    def ask():
        leases.tell()
        double.fails = True
        return double.acquire(charges[:1])

    with pytest.raises(StoreError):
        leases.acquire(charges, ask)
    double.fails = False
    leases.tell()
    assert (double.counted, leases._buckets) == ({}, {})


def test_telling_goes_on_with_the_buckets_that_the_store_has_not_heard_of(double, leases):
    receipts = [hold_one(leases, double) for _ in range(2)]
    leases.forget(receipts[0].charges)

    def lose():
        raise DataLostError("new")

    double.before_hold = lose
    with pytest.raises(DataLostError):
        leases.tell()
    assert not leases._is_telling
    double.before_hold = lambda: None
    leases.tell()
    assert list(double.counted) == [receipts[1].charges[0].lease]


def test_what_lapses_while_the_store_is_told_is_told_again(double, leases):
    hold_one(leases, double)
    double.has_lapsed = True

    def lapse():
        assert not double.has_lapsed
        double.has_lapsed = True

    double.before_hold = lapse
    leases.tell()
    assert double.has_lapsed


def test_a_lease_is_forgotten_once(double, leases):
    receipt = hold_one(leases, double)
    leases.forget(receipt.charges)
    leases.tell()
    leases.forget(receipt.charges)
    assert (double.counted, leases._buckets) == ({}, {})


def test_a_bucket_that_is_forgotten_while_the_store_is_told_of_it_stays_forgotten(double, leases):
    receipt = hold_one(leases, double)
    double.before_hold = lambda: leases.remove(receipt.charges)
    leases.tell()
    assert leases._buckets == {}


def test_a_charge_that_holds_nothing_is_not_noted(double, leases):
    asked = charge(TEN)
    assert leases.acquire(asked, lambda: "the answer") == "the answer"
    assert (leases._buckets, asked[0].lease) == ({}, "")


@pytest.mark.usefixtures("impatient")
def test_threads_that_begin_and_end_calls_while_the_store_is_told_leak_nothing(client, peer):
    policy, in_flight, most, lock = Concurrency(4), [], [], threading.Lock()
    done = threading.Event()

    def work(number):
        admitted = 0
        for _ in range(150):
            receipt = peer.store.acquire(charge(policy))
            if receipt is None:
                continue
            admitted += 1
            with lock:
                in_flight.append(number)
                most.append(len(in_flight))
            with lock:
                in_flight.remove(number)
            receipt.refund()
        return admitted

    def tell():
        while not done.is_set():
            peer.store._leases.tell()

    with ThreadPoolExecutor(8) as threads:
        telling = threads.submit(tell)
        admitted = list(threads.map(work, range(7)))
        done.set()
        telling.result(TIMEOUT)
    assert sum(admitted) > 100
    assert max(most) <= 4
    assert (left(client, policy), peer.store._leases._buckets) == (4, {})


@pytest.mark.usefixtures("impatient")
def test_threads_that_begin_and_end_calls_during_outages_leak_nothing(client, peer):
    policy, done = Concurrency(4), threading.Event()
    flips, cuts = iter(range(1, 1_000_000)), []

    def fail_now_and_then():
        peer.cable.cut = next(flips) % 50 < 5
        cuts.append(peer.cable.cut)

    def work(_):
        for _ in range(300):
            receipt = peer.store.acquire(charge(policy))
            if receipt is not None:
                receipt.refund()

    def keep_up():
        while not done.is_set():
            peer.pass_time()

    peer.cable.before = fail_now_and_then
    with ThreadPoolExecutor(8) as threads:
        keeping = threads.submit(keep_up)
        list(threads.map(work, range(7)))
        done.set()
        keeping.result(TIMEOUT)
    peer.cable.before = lambda: None
    peer.plug_in()
    assert cuts.count(True) > 3
    assert (peer.is_away, left(client, policy), peer.store._leases._buckets) == (False, 4, {})
