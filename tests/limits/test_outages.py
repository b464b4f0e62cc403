"""Limits in Redis while the server is away, and when it is back: each process has its share."""

from __future__ import annotations

import json
import struct
import time

import pytest
from support.hammering import hammering, most_for_certain
from support.peers import (
    POLICIES_OF_ALL_KINDS,
    TEN,
    Cable,
    Peer,
    acquire,
    charge,
    cut_off,
    peers_of,
)
from support.redis_servers import RedisServer
from support.stores import ClockedRedisStore

from arbprov import Calendar, Limit, TokenBucket
from arbprov.limits import StoreFactory, WorkerPlace, declare
from arbprov.limits.stores.base import StoreError
from arbprov.limits.stores.failover import FailoverStore
from arbprov.limits.stores.outage_file import OutageFile
from arbprov.limits.stores.redis import RedisStore, connect
from arbprov.testing import VirtualClock


def test_alone_a_process_may_use_all_of_a_limit_while_the_store_is_away(peer):
    peer.cable.cut = True
    assert peer.admitted(20) == 10


def test_workers_divide_the_limits_of_a_store_that_was_never_there():
    inner = RedisStore(connect("redis://127.0.0.1:1"), "x")
    stores = [FailoverStore(inner, VirtualClock(), "local", "the store", 4) for _ in range(4)]
    admitted = [
        sum(store.acquire(charge(Limit(4, 3600))) is not None for _ in range(6)) for store in stores
    ]
    assert admitted == [1, 1, 1, 1]


def test_a_process_that_the_server_does_not_know_of_counts_as_a_worker(client):
    peers = [Peer(client, workers=3) for _ in range(2)]
    for peer in peers:
        peer.cable.cut = True
    assert [peer.admitted(20) for peer in peers] == [3, 3]


def test_while_the_store_is_away_each_process_keeps_to_its_share(client):
    peers = [Peer(client) for _ in range(3)]
    for peer in peers:
        peer.store.upkeep()
        peer.cable.cut = True
    assert [peer.admitted(20) for peer in peers] == [3, 3, 3]


@pytest.mark.parametrize("cut", [False, True])
def test_a_probe_that_is_refunded_makes_the_next_call_the_probe(peer, cut):
    peer.store.start_cooldown(charge(TEN), 1e-6, 60.0)
    peer.clock.advance(1.0)
    first, refused = [peer.store.acquire(charge(TEN)) for _ in range(2)]
    peer.cable.cut = cut
    first.refund()
    assert (first.probing, refused, peer.admitted(1)) == (True, None, 1)


def test_a_process_that_has_joined_lately_counts_from_the_next_answer_on(client):
    first, second = Peer(client), Peer(client)
    first.admitted(1)
    first.cable.cut = second.cable.cut = True
    # Of the 9 that are left, half.
    assert [first.admitted(20), second.admitted(20)] == [4, 5]


def test_a_process_that_only_asks_now_and_then_gives_a_sign_of_life_before(client, peer):
    client.delete("arbprov:{peers}:peers")
    peer.clock.advance(10)
    peer.admitted(1)
    assert client.zcard("arbprov:{peers}:peers") == 1


def test_no_sign_of_life_is_given_twice_in_two_seconds(client, peer):
    client.delete("arbprov:{peers}:peers")
    peer.clock.advance(1.9)
    peer.admitted(1)
    assert client.zcard("arbprov:{peers}:peers") == 0


def test_a_share_is_one_at_least(client):
    peers = [Peer(client) for _ in range(3)]
    peers[-1].cable.cut = True
    assert peers[-1].admitted(20, Limit(2, 60)) == 1


def test_what_all_had_used_before_the_outage_counts(client, peer):
    other = Peer(client)
    peer.store.upkeep()
    assert (other.admitted(3), peer.admitted(1)) == (3, 1)
    peer.cable.cut = True
    # Half of the 6 that are left, as far as the processes know.
    assert peer.admitted(20) == 3


def test_a_call_that_no_share_ever_admits_has_to_wait(client, peer):
    Peer(client)
    peer.store.upkeep()
    peer.cable.cut = True
    peer.admitted(1)
    done, ((wait, remaining, _),) = acquire(peer.store, *charge(TEN, cost=9))
    assert (done, wait > 0, remaining) == (False, True, 4)


def test_the_calls_of_an_outage_are_reported_to_the_store_afterwards(peer):
    peer.admitted(2)
    peer.cable.cut = True
    assert peer.admitted(3) == 3
    peer.plug_in()
    assert peer.remaining() == 5


def test_the_calls_of_an_outage_leave_the_store_when_they_leave_the_window(client, peer):
    peer.cable.cut = True
    peer.admitted(1)
    peer.clock.advance(45)
    peer.plug_in()
    (key,) = client.keys("*used*")
    assert 13_000 < client.pttl(key) <= 15_000


@pytest.mark.parametrize(
    "policy",
    [
        Limit(10, 60, burst=5),
        TokenBucket(requests_per_minute=6, burst_size=5),
        Calendar("10/day", tz="Europe/Madrid"),
    ],
    ids=str,
)
def test_limits_of_all_kinds_are_reported_to_the_store_afterwards(peer, policy):
    peer.cable.cut = True
    peer.admitted(2, policy)
    left = peer.remaining(policy)
    peer.plug_in()
    assert peer.remaining(policy) == left


def test_the_calls_of_an_outage_are_reported_once(peer):
    peer.cable.cut = True
    peer.admitted(3)
    peer.plug_in()
    peer.cable.cut = True
    peer.admitted(1)
    peer.plug_in()
    assert peer.remaining() == 6


def test_calls_during_a_recovery_are_known_to_the_store_at_once(client):
    first, second = peers_of(client, 2)
    cut_off(first, second)
    assert first.admitted(1) == 1
    first.plug_in()
    assert (first.is_away, first.admitted(2)) == (True, 2)
    charges = charge(TEN)
    RedisStore(client, "peers").peek(charges)
    assert charges[0].remaining == 7


def test_a_process_that_is_cut_off_in_a_recovery_reports_afterwards(client):
    first, second = peers_of(client, 2)
    cut_off(first, second)
    first.plug_in()
    cut_off(first)
    assert (first.admitted(1), first.is_away) == (1, True)
    for peer in (second, first, second, first):
        peer.plug_in()
    assert (first.remaining(), second.remaining()) == (9, 9)


# Processes come back one after the other.


def test_processes_that_come_back_apart_keep_to_their_shares_until_all_have_reported(client):
    peers = peers_of(client, 3)
    cut_off(*peers)
    assert [peer.admitted(1) for peer in peers] == [1, 1, 1]
    admitted = 3
    for peer in peers:
        peer.plug_in()
        for each in peers:
            each.clock.advance(8)
            admitted += each.admitted(20)
    # Reports are about the last minute, so all 10 are used up.
    assert admitted == 10
    assert [peer.is_away for peer in peers] == [False] * 3


@pytest.mark.parametrize("flushed", [False, True])
def test_a_process_that_starts_during_a_recovery_waits_for_the_others(client, flushed):
    peers = peers_of(client, 3)
    cut_off(*peers)
    assert [peer.admitted(20) for peer in peers] == [3, 3, 3]
    if flushed:
        client.flushall()
    peers[0].plug_in()
    newcomer = Peer(client)
    (asked,) = charge(TEN)
    assert newcomer.store.acquire([asked]) is None
    assert (asked.wait_time, newcomer.admitted(20), peers[0].admitted(20)) == (1.0, 0, 0)
    for peer in peers[1:]:
        peer.plug_in()
    newcomer.pass_time()
    assert newcomer.admitted(20) == 1


def test_a_process_that_waits_for_the_others_has_its_share_when_the_store_goes_away(client):
    peers = peers_of(client, 3)
    cut_off(*peers)
    peers[0].admitted(1)
    peers[0].plug_in()
    newcomer = Peer(client)
    cut_off(newcomer)
    newcomer.pass_time()
    assert newcomer.admitted(20) == 2


def test_a_process_leaves_a_recovery_as_soon_as_an_answer_says_that_it_is_over(client):
    first, second = peers_of(client, 2)
    cut_off(first)
    first.admitted(1)
    first.plug_in()
    second.pass_time()
    assert (first.is_away, first.admitted(1), first.is_away) == (True, 1, True)
    assert (first.admitted(1), first.is_away) == (1, False)


def test_a_process_that_has_not_noticed_an_outage_has_no_more_than_its_share(client):
    peers = peers_of(client, 3)
    cut_off(*peers[:2])
    assert [peer.admitted(1) for peer in peers[:2]] == [1, 1]
    peers[0].plug_in()
    # As far as the third knows: its share of 10, not what the second has yet to report.
    assert (peers[2].admitted(20), peers[2].is_away) == (3, True)
    assert peers[0].admitted(20) == 2
    peers[1].plug_in()
    for peer in peers:
        peer.pass_time()
    assert sum(peer.admitted(20) for peer in peers) == 10 - 7


def test_a_process_that_does_not_run_while_others_restore_lost_data_is_waited_for(client):
    peers = peers_of(client, 3)
    assert [peer.admitted(3) for peer in peers[::-1]] == [3, 3, 3]
    client.flushall()
    admitted = 0
    for _ in range(20):
        for peer in peers[:2]:
            peer.pass_time()
            admitted += peer.admitted(5)
    # As far as the first two know, 9 and 6 were used before.
    assert (admitted, [peer.is_away for peer in peers]) == (1, [True, True, False])
    assert sum(peer.admitted(20) for peer in peers[::-1]) == 0


def test_data_that_are_lost_in_each_step_of_a_recovery_are_restored(client):
    peers = peers_of(client, 2)
    assert [peer.admitted(3) for peer in peers] == [3, 3]
    for peer in (*peers, *peers):
        client.flushall()
        peer.pass_time()
    for peer in (*peers, *peers):
        peer.pass_time()
    assert [(peer.is_away, peer.remaining()) for peer in peers] == [(False, 4)] * 2


@POLICIES_OF_ALL_KINDS
def test_a_call_that_is_noted_after_lost_data_were_restored_is_reported_too(client, peer, policy):
    acquire = peer.store._store.acquire

    def acquire_slowly(charges, known):
        peer.store._store.acquire = acquire
        receipt = acquire(charges, known)
        client.flushall()
        peer.store.upkeep()
        return receipt

    assert peer.admitted(1, policy) == 1
    peer.store._store.acquire = acquire_slowly
    assert (peer.admitted(1, policy), peer.remaining(policy)) == (1, 8)


def test_a_report_of_lost_data_that_fails_is_made_again(client, peer):
    assert peer.admitted(3) == 3
    client.flushall()
    merge = peer.store._store.merge

    def merge_without_connection(usages):
        cut_off(peer)
        merge(usages)

    peer.store._store.merge = merge_without_connection
    peer.pass_time()
    assert peer.is_away
    peer.store._store.merge = merge
    peer.plug_in()
    assert (peer.is_away, peer.remaining()) == (False, 7)


def test_data_that_are_lost_during_a_call_of_a_recovery_are_an_outage_again(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    peers[0].admitted(1)
    peers[0].plug_in()
    client.flushall()
    assert peers[0].admitted(1) == 1
    for peer in (*peers, peers[0]):
        peer.plug_in()
    assert [peer.remaining() for peer in peers] == [8, 8]


def test_a_process_that_has_ended_is_waited_for_half_a_minute_by_the_server_s_clock(client):
    def set_time(seconds):
        client.set("time", json.dumps([1_800_000_000 + seconds, 0]))

    set_time(0)
    first, second = peers_of(client, 2, kind=ClockedRedisStore)
    cut_off(first, second)
    assert first.admitted(20) == 5
    first.plug_in()
    for seconds, is_away in ((29, True), (30, False)):
        set_time(seconds)
        first.pass_time()
        assert first.is_away is is_away
    assert first.admitted(20) == 5


def test_a_process_that_is_cut_off_alone_has_its_share_and_no_more_beside_the_limit(client):
    peers = peers_of(client, 3)
    cut_off(peers[0])
    assert [peer.admitted(20) for peer in peers] == [3, 10, 0]


def test_an_open_store_that_recovers_admits_what_the_store_has(client):
    peers = peers_of(client, 2, mode="open")
    cut_off(*peers)
    assert peers[0].admitted(4) == 4
    peers[0].plug_in()
    assert (peers[0].is_away, peers[0].admitted(20)) == (True, 6)


def test_a_closed_store_that_recovers_admits_shares(client):
    peers = peers_of(client, 2, mode="closed")
    cut_off(*peers)
    assert peers[0].admitted(4) == 0
    peers[0].plug_in()
    assert (peers[0].is_away, peers[0].admitted(20)) == (True, 5)


def test_a_call_that_the_store_refuses_during_a_recovery_is_not_charged_to_the_share(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    peers[0].admitted(1)
    peers[0].plug_in()
    first, second = charge(TEN, "first"), charge(TEN, "second")
    client.set("arbprov:{peers}:used:10/minute|window:" + b"first".hex(), full_window())
    assert peers[0].store.acquire([*first, *second]) is None
    assert peers[0].admitted(20, key="second") == 5


def full_window():
    """Return the state of a window whose 10 calls are used up."""
    end = time.time() + 50
    return struct.pack("<3d", 10, end, 10)


def test_a_recovery_that_a_process_with_the_store_waits_for_is_no_warning(client, log):
    peers = peers_of(client, 2)
    cut_off(peers[0])
    peers[0].admitted(1)
    peers[0].plug_in()
    assert peers[1].admitted(1) == 1
    peers[0].pass_time()
    # Of the first only.
    assert [line.split(";")[0].split(",")[0] for line in log()] == [
        "the store is away",
        "the store decides again",
    ]


def test_the_state_of_a_recovery_never_changes(client):
    client.set("time", json.dumps([1774735200, 500_000]))
    first, second = (ClockedRedisStore(client, "tests") for _ in range(2))
    assert [first.rejoin([second._caller]), second.rejoin([])] == [True, True]
    second.finish_report()
    recovery = f"1774735230.5 -{first._caller} +{second._caller} "
    assert client.get("arbprov:{tests}:recovery") == recovery.encode()


def test_a_recovery_that_is_over_leaves_no_key(client, store):
    store.rejoin([])
    assert client.exists("arbprov:{tests}:recovery")
    assert store.recovering
    store.finish_report()
    assert not client.exists("arbprov:{tests}:recovery")
    assert not store.recovering


def test_a_closed_store_refuses_all_while_it_is_away(client):
    peer = Peer(client, "closed")
    peer.cable.cut = True
    charges = charge(TEN)
    assert peer.store.acquire(charges) is None
    assert (charges[0].wait_time, charges[0].fallback) == (1.0, True)


def test_an_open_store_admits_all_while_it_is_away(client):
    peer = Peer(client, "open")
    peer.cable.cut = True
    assert peer.admitted(25) == 25


def test_what_an_open_store_has_admitted_counts_afterwards(client):
    peer = Peer(client, "open")
    peer.cable.cut = True
    peer.admitted(25)
    peer.plug_in()
    assert peer.admitted(5) == 0


def test_a_charge_of_an_outage_can_be_taken_back(peer):
    peer.cable.cut = True
    peer.store.acquire(charge(TEN)).refund()
    assert peer.remaining() == 10
    peer.plug_in()
    assert peer.remaining() == 10


def test_a_charge_from_before_an_outage_can_not_be_taken_back_during_it(peer):
    receipt = peer.store.acquire(charge(TEN))
    peer.cable.cut = True
    receipt.refund()
    assert peer.remaining() == 9
    peer.plug_in()
    assert peer.remaining() == 9


def test_a_shadow_limit_never_refuses_during_an_outage(peer):
    peer.cable.cut = True
    assert peer.admitted(12, Limit(5, 60), shadow=True) == 12


def test_a_cooldown_that_starts_during_an_outage_is_for_all_processes_afterwards(client, peer):
    other = Peer(client)
    peer.cable.cut = True
    peer.store.start_cooldown(charge(TEN), 30.0, 1.0)
    assert (peer.admitted(1), other.admitted(1)) == (0, 1)
    peer.plug_in()
    assert other.admitted(1) == 0


def test_a_cooldown_that_ends_well_ends_for_all_processes(client, peer):
    other = Peer(client)
    peer.store.start_cooldown(charge(TEN), 1e-6, 60.0)
    receipt = peer.store.acquire(charge(TEN))
    assert (receipt.probing, other.admitted(1)) == (True, 0)
    receipt.store.end_cooldown(receipt.charges)
    assert other.admitted(1) == 1


def test_what_the_api_reports_counts_for_all_and_here_during_an_outage(client, peer):
    other = Peer(client)
    peer.store.upkeep()
    peer.store.report(charge(TEN)[0], 9, 30.0)
    peer.cable.cut = True
    assert (other.admitted(5), peer.admitted(5)) == (1, 0)


def test_a_change_is_logged_once(peer, caplog):
    peer.cable.cut = True
    peer.admitted(20)
    peer.plug_in()
    peer.admitted(20)
    assert [record.getMessage() for record in caplog.records] == [
        (
            "the store is away; meanwhile each process keeps to its share of the limits, "
            "one of 1: the cable is cut"
        ),
        "the store decides again, after 0.5 s",
    ]


def test_a_store_that_is_away_is_tried_twice_a_second(peer):
    peer.cable.cut = True
    peer.admitted(1)
    tries = peer.cable.tries
    for _ in range(20):
        peer.clock.advance(0.25)
        peer.admitted(1)
    assert peer.cable.tries - tries == 10


def test_upkeep_looks_whether_a_store_is_back(peer):
    peer.cable.cut = True
    assert peer.store.upkeep() == 0.5
    peer.cable.cut = False
    peer.clock.advance(0.5)
    assert peer.store.upkeep() == 2.0
    assert peer.remaining() == 10


def test_a_store_that_was_never_there_leaves_each_process_its_share():
    store = FailoverStore(
        RedisStore(connect("redis://127.0.0.1:1"), "x"), VirtualClock(), "local", "the store"
    )
    assert [store.acquire(charge(Limit(2, 60))) is not None for _ in range(3)] == [
        True,
        True,
        False,
    ]


@POLICIES_OF_ALL_KINDS
def test_data_that_are_lost_are_put_together_again_from_all_processes(client, policy):
    peers = [Peer(client) for _ in range(2)]
    assert [peer.admitted(3, policy) for peer in peers] == [3, 3]
    client.flushall()
    for peer in (*peers, *peers):
        peer.plug_in()
    assert [peer.remaining(policy) for peer in peers] == [4, 4]


def test_until_lost_data_are_put_together_again_each_process_keeps_to_its_share(client):
    peers = [Peer(client) for _ in range(2)]
    peers[0].store.upkeep()
    assert [peer.admitted(3) for peer in peers] == [3, 3]
    client.flushall()
    # 3 of its own, as far as it knows.
    assert peers[0].admitted(20) == 3


def test_data_that_are_lost_just_before_all_have_reported_are_put_together_again_first(client):
    peers = peers_of(client, 2)
    assert [peer.admitted(3) for peer in peers] == [3, 3]
    cut_off(*peers)
    peers[0].admitted(1)
    peers[0].plug_in()
    client.flushall()
    peers[0].clock.advance(0.5)
    # Half of the 7 that were left, as far as it knows; one call was before.
    assert peers[0].admitted(20) == 2


def test_a_cooldown_survives_a_loss_of_data(client, peer):
    peer.store.start_cooldown(charge(TEN), 30.0, 1.0)
    client.flushall()
    peer.plug_in()
    assert Peer(client).admitted(1) == 0


def test_data_that_are_lost_during_an_outage_are_reported_once(client, peer):
    peer.admitted(2)
    peer.cable.cut = True
    peer.admitted(3)
    client.flushall()
    Peer(client)
    peer.plug_in()
    assert peer.remaining() == 5


def test_data_that_are_lost_again_and_again_are_an_outage(client, peer):
    def lose_all():
        client.flushall()
        RedisStore(client, "peers").upkeep()

    peer.cable.before = lose_all
    assert peer.admitted(20) == 10
    assert peer.store.upkeep() == 0.5


# A worker is replaced while the server is away.


@pytest.fixture
def worker(client, tmp_path):
    """Return a function that starts the worker of a name, again if it has one already."""
    clock = VirtualClock()

    def start(name, cut=False):
        cable = Cable(client)
        cable.cut = cut
        others = [tmp_path / other for other in ("one", "two") if other != name]
        file = OutageFile(tmp_path / name, others)
        return Peer(cable, workers=2, name=name, file=file, clock=clock)

    return start


@pytest.fixture
def workers(worker):
    """Return two workers that know of each other."""
    workers = [worker("one"), worker("two")]
    workers[0].store.upkeep()
    return workers


@POLICIES_OF_ALL_KINDS
def test_a_worker_that_is_replaced_in_an_outage_has_no_new_share(workers, worker, policy):
    assert workers[0].admitted(2, policy) == 2
    cut_off(*workers)
    assert workers[0].admitted(2, policy) == 2
    admitted = []
    for _ in range(3):
        successor = worker("one", cut=True)
        admitted.append(successor.admitted(1, policy))
        admitted.append(successor.admitted(1, policy, key="new"))
    # Of the 8 that were left, half, and half of the new key.
    assert admitted == [1, 1, 1, 1, 0, 1]


@POLICIES_OF_ALL_KINDS
def test_the_calls_of_a_worker_that_is_replaced_are_reported_once(workers, worker, policy):
    cut_off(*workers)
    assert workers[0].admitted(2, policy) == 2
    successor = worker("one", cut=True)
    assert successor.admitted(1, policy) == 1
    for _ in range(2):
        successor = worker("one")
        workers[1].plug_in()
        successor.pass_time()
    assert (successor.is_away, successor.remaining(policy)) == (False, 7)


def test_a_worker_reports_lost_data_for_its_predecessor(workers, worker, client):
    assert workers[0].admitted(3) == 3
    cut_off(*workers)
    assert workers[0].admitted(1) == 1
    client.flushall()
    successor = worker("one")
    workers[1].plug_in()
    successor.pass_time()
    assert successor.remaining() == 6


def test_a_worker_is_waited_for_under_the_name_of_its_predecessor(workers, worker):
    cut_off(*workers)
    assert [one.admitted(20) for one in workers] == [5, 5]
    workers[1].plug_in()
    workers[1].pass_time()
    assert workers[1].is_away
    worker("one")
    workers[1].pass_time()
    assert (workers[1].is_away, workers[1].admitted(1)) == (False, 0)


def test_a_worker_knows_what_the_api_has_said_to_its_predecessor(workers, worker):
    cut_off(*workers)
    workers[0].admitted(1)
    workers[0].store.report(charge(TEN)[0], 10, 30.0)
    (other,) = charge(TEN, key="other")
    other.cooldown_action = "work"
    workers[0].store.start_cooldown([other], 30.0, 1.0)
    successor = worker("one", cut=True)
    assert successor.admitted(1) == 0
    assert successor.store.acquire([other]) is None
    assert (other.in_cooldown, other.cooldown_action) == (True, "work")


def test_after_an_outage_nothing_is_left_for_a_successor(workers, worker, tmp_path):
    cut_off(*workers)
    workers[0].admitted(1)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    for peer in (*workers, *workers):
        peer.plug_in()
    assert list(tmp_path.iterdir()) == []


def test_calls_that_are_admitted_during_a_recovery_count_for_a_successor_s_share(workers, worker):
    cut_off(*workers)
    assert workers[0].admitted(1) == 1
    workers[0].plug_in()
    assert workers[0].admitted(2) == 2
    assert worker("one", cut=True).admitted(20) == 2


def test_a_worker_whose_predecessor_had_not_noticed_knows_what_the_others_have_seen(
    workers, worker
):
    assert [one.admitted(3) for one in workers] == [3, 3]
    cut_off(*workers)
    assert workers[1].admitted(1) == 1
    # Half of the 4 that were left.
    assert worker("one", cut=True).admitted(20) == 2


def test_a_file_that_has_grown_is_rewritten_and_stays_true(workers, worker, tmp_path, monkeypatch):
    monkeypatch.setattr("arbprov.limits.stores.outage_file._MIN_SIZE_TO_REWRITE", 1)
    cut_off(*workers)
    sizes = []
    for number in range(40):
        workers[0].admitted(1, key=str(number % 4))
        sizes.append((tmp_path / "one").stat().st_size)
    assert max(sizes) < 6 * sizes[-1]
    successor = worker("one", cut=True)
    assert [successor.admitted(20, key=str(key)) for key in range(5)] == [0, 0, 0, 0, 5]


def test_a_record_that_is_not_whole_is_not_read(workers, worker, tmp_path):
    cut_off(*workers)
    assert workers[0].admitted(2) == 2
    file = tmp_path / "one"
    file.write_bytes(file.read_bytes()[:-5])
    # The second call is lost with it.
    assert worker("one", cut=True).admitted(20) == 4


@pytest.mark.parametrize("fails_at", ["the start", "a call"])
def test_a_file_that_can_not_be_written_costs_no_call_and_is_named(
    workers, log, tmp_path, fails_at
):
    cut_off(*workers)
    if fails_at == "the start":
        (tmp_path / "one.new").mkdir()
    assert workers[0].admitted(1) == 1
    if fails_at == "a call":
        (tmp_path / "one").unlink()
        (tmp_path / "one").mkdir()
    assert workers[0].admitted(2) == 2
    workers[0].store.start_cooldown(charge(TEN, key="other"), 1.0, 1.0)
    assert sum("one can't be written" in line for line in log()) == 1


def test_workers_of_one_run_wait_for_each_other_though_the_store_was_never_there(client, tmp_path):
    cables, clocks, stores = [], [], []
    for number in (1, 2):
        cables.append(Cable(client))
        clocks.append(VirtualClock())
        place = WorkerPlace(number, 2, "run", str(tmp_path))
        factory = StoreFactory(clocks[-1], "peers", cables[-1], place)
        stores.append(factory.open_store(declare("10/minute")))
        cables[-1].cut = True
        assert stores[-1].acquire(charge(TEN)) is not None
    for cable, clock, store, missing in zip(cables, clocks, stores, (True, False), strict=True):
        cable.cut = False
        clock.advance(0.5)
        store.upkeep()
        recovery = client.get("arbprov:{peers}:recovery") or b""
        assert (b" -run.2.0 " in recovery) is missing
    assert client.zrange("arbprov:{peers}:peers", 0, -1) == [b"run.1.0", b"run.2.0"]


def test_without_a_folder_nothing_is_left_to_a_successor(client):
    place = WorkerPlace(1, 2, "run", "")
    store = StoreFactory(VirtualClock(), "peers", client, place).open_store(declare("1/hour"))
    assert store._file is None


# The real server: killed, paused and flushed under load.


def certain(reports, period=1):
    """Return the most calls that were surely admitted in one period, and the slowest answer.

    "Surely" is by the machine's one clock, which all processes share.
    """
    admissions = [one for report in reports for one in report.admissions]
    return most_for_certain(admissions, period), max(report.slowest for report in reports)


def decides_again(report, back_at):
    """Tell whether a process got calls from the server itself after that was back."""
    return any(one.asked > back_at and not one.fallback for one in report.admissions)


@pytest.fixture
def own_server():
    server = RedisServer()
    yield server
    server.close()


def three_processes(url, **options):
    return hammering(url, "30/second", **{"processes": 3, "seconds": 7, **options})


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_costs_neither_the_limit_nor_the_calls(own_server):
    with three_processes(own_server.url) as hammers, own_server.client() as client:
        hammers.wait_until(2.0)
        hammers.wait_until_used_up(client)
        own_server.kill()
        hammers.wait_until(4.2)
        own_server.start()
        reports = hammers.reports()
    most, slowest = certain(reports)
    assert most <= 30
    assert slowest < 1.5
    assert all(any(one.fallback for one in report.admissions) for report in reports)
    assert all(decides_again(report, hammers.begin + 4.2) for report in reports)


@pytest.mark.slow
def test_a_server_that_is_paused_hangs_no_call(own_server):
    with three_processes(own_server.plain_url) as hammers, own_server.client() as client:
        hammers.wait_until(2.0)
        hammers.wait_until_used_up(client)
        own_server.pause()
        hammers.wait_until(4.6)
        own_server.resume()
        reports = hammers.reports()
    most, slowest = certain(reports)
    assert most <= 30
    assert slowest < 1.5
    assert all(any(one.fallback for one in report.admissions) for report in reports)
    assert all(decides_again(report, hammers.begin + 4.6) for report in reports)


@pytest.mark.slow
def test_a_server_that_is_flushed_forgets_nothing(own_server):
    with three_processes(own_server.url) as hammers, own_server.client() as client:
        for second in range(1, 6):
            hammers.wait_until(second)
            hammers.wait_until_used_up(client)
            client.flushall()
            client.script_flush()
        reports = hammers.reports()
    most, _ = certain(reports)
    assert most <= 30


@pytest.mark.slow
def test_a_server_that_is_away_with_closed_limits_admits_nothing(own_server):
    own_server.kill()
    with three_processes(own_server.url, seconds=1, on_store_error="closed") as hammers:
        reports = hammers.reports()
    assert [len(report.admissions) for report in reports] == [0, 0, 0]


# Threads that meet.


def test_two_threads_that_mark_the_store_down_at_once_start_one_outage(peer, caplog):
    peer.store._mark_down(StoreError("one"))
    peer.store._mark_down(StoreError("another"))
    assert len(caplog.records) == 1


def test_one_thread_at_a_time_tries_to_recover(peer):
    with peer.store._recovering:
        assert not peer.store._try_recover()


def test_a_thread_that_comes_after_the_recovery_has_nothing_to_do(peer):
    assert peer.store._try_recover()


def test_an_outage_that_is_over_before_a_call_notes_it_does_not_count(peer, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(peer.store, "_reach_store", lambda: next(answers))
    assert peer.admitted(1) == 1
