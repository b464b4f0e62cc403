"""What `Concurrency` promises: how many calls are in flight, and from when until when."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
from support import isolated
from support.examples import working
from support.peers import charge, cut_off, peers_of
from support.stores import ClockedRedisStore
from support.waiting import TIMEOUT, wait_until
from support.workers import task, work_off

from arbprov import Concurrency, ProviderApp
from arbprov.limits.stores import redis as redis_store

TWO = Concurrency(2)


def test_no_more_calls_are_in_flight_than_the_limit_allows():
    app, in_flight, most = ProviderApp("test", execution_timeout=60), set(), []

    @app.action
    @app.rate_limit(TWO, max_wait=10)
    async def work(number: int):
        in_flight.add(number)
        most.append(len(in_flight))
        await asyncio.sleep(1 + number)
        in_flight.remove(number)

    results = work_off(app, *(task(0, f"t{number}", number=number) for number in range(6)))
    assert {status for _, _, status in results} == {"success"}
    assert (len(results), max(most)) == (6, 2)


def test_a_task_that_waits_begins_as_soon_as_a_call_has_ended():
    app = ProviderApp("test", execution_timeout=5)

    @app.action
    @app.rate_limit(TWO, max_wait=10)
    async def work(seconds: float):
        await asyncio.sleep(seconds)

    arrivals = [task(0, "long", seconds=3), task(0, "short", seconds=1), task(0, "next", seconds=1)]
    assert [(at, name) for at, name, _ in work_off(app, *arrivals)] == [
        (1.0, "short"),
        (2.0, "next"),
        (3.0, "long"),
    ]


def test_a_thread_that_outlives_its_timeout_keeps_its_place():
    app, may_end = ProviderApp("test"), threading.Event()

    @app.action(timeout=0.1)
    @app.rate_limit(Concurrency(1))
    def work():
        may_end.wait(TIMEOUT)

    with working(SimpleNamespace(app=app)) as hub:
        try:
            assert "timeout" in hub.call("work").data
            assert hub.call("work").status == "limit"
        finally:
            may_end.set()
        wait_until(lambda: hub.call("work").status == "success")


def test_between_two_tries_the_place_is_free():
    app = ProviderApp("test", execution_timeout=60)

    @app.action
    @app.retry(on=OSError, attempts=2, wait_initial=10, wait_max=10, wait_jitter=0)
    @app.rate_limit(Concurrency(1))
    async def work(fails: int):
        if fails:
            raise OSError("the API hung up")

    arrivals = [task(0, "failing", fails=1), task(5, "between", fails=0)]
    assert [(name, status) for _, name, status in work_off(app, *arrivals)] == [
        ("between", "success"),
        ("failing", "error"),
    ]


def test_a_process_that_is_killed_at_its_timeout_frees_its_place(tmp_path):
    app, payload = ProviderApp("isolated"), {"path": str(tmp_path / "pids")}
    app.action(isolation="process", timeout=0.5)(app.rate_limit(Concurrency(1))(isolated.hang))
    with working(SimpleNamespace(app=app)) as hub:
        for _ in range(2):
            wait_until(lambda: "timeout" in hub.call("hang", payload).data)


# Over Redis.


@pytest.fixture
def set_time(client):
    """Return a function that sets the server's time, in seconds."""
    set_to = lambda seconds: client.set("time", json.dumps([1_800_000_000 + seconds, 0]))
    set_to(0)
    return set_to


def test_processes_share_the_places(client):
    first, second = peers_of(client, 2)
    assert (first.admitted(1, TWO), second.admitted(2, TWO)) == (1, 1)


def test_the_places_of_a_process_are_free_30_seconds_after_its_last_heartbeat(client, set_time):
    first, second = peers_of(client, 2, kind=ClockedRedisStore)
    assert first.admitted(3, TWO) == 2
    set_time(30)
    second.store.upkeep()
    assert second.admitted(1, TWO) == 0
    set_time(31)
    second.store.upkeep()
    assert second.admitted(3, TWO) == 2


def test_a_process_that_was_frozen_for_longer_is_over_the_limit_until_its_calls_end(
    client, set_time
):
    frozen, other = peers_of(client, 2, kind=ClockedRedisStore)
    receipts = [frozen.store.acquire(charge(TWO)) for _ in range(2)]
    set_time(31)
    other.store.upkeep()
    assert other.admitted(1, TWO) == 1
    frozen.store.upkeep()
    assert (other.admitted(1, TWO), frozen.admitted(1, TWO)) == (0, 0)
    for receipt in receipts:
        receipt.refund()
    assert frozen.admitted(2, TWO) == 1


def test_while_the_server_is_away_each_process_has_its_share_of_the_places(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    assert [peer.admitted(4, Concurrency(4)) for peer in peers] == [2, 2]


def test_when_the_server_is_back_it_knows_the_calls_in_flight(client):
    peers = peers_of(client, 2)
    cut_off(*peers)
    assert [peer.admitted(1, TWO) for peer in peers] == [1, 1]
    for peer in peers * 2:
        peer.plug_in()
    assert [peer.admitted(1, TWO) for peer in peers] == [0, 0]


def test_heartbeats_go_on_while_a_handler_blocks_the_event_loop(server, client, monkeypatch):
    monkeypatch.setattr(redis_store, "_HEARTBEAT_INTERVAL", 0.02)
    app = ProviderApp("test", rate_limit_store=server.url)

    def heartbeat():
        (name,) = client.keys("*peers")
        ((_, seconds),) = client.zrange(name, 0, -1, withscores=True)
        return seconds

    @app.action(timeout=TIMEOUT)
    @app.rate_limit(TWO)
    async def work():
        first = heartbeat()
        while heartbeat() == first:
            pass
        return "another"

    with working(SimpleNamespace(app=app)) as hub:
        assert hub.call("work", timeout=TIMEOUT).data == "another"
