"""Exchange rates, through the wire, with a real Redis as their cache."""

from __future__ import annotations

import pytest
from support.examples import load, statuses_of_tasks, working
from support.redis_servers import RedisServer
from support.waiting import wait_until

KEY = "rates:EUR"


@pytest.fixture(scope="module")
def running_server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def server(running_server):
    with running_server.client() as client:
        client.flushall()
    return running_server


@pytest.fixture
def hub(server):
    with working(load("redis_cache", REDIS_URL=server.url)) as hub:
        yield hub


def ask(hub):
    return hub.call("exchange_rates", {"base": "EUR"}).data


def test_the_second_answer_comes_from_the_cache(hub):
    first = ask(hub)
    assert not first["cached"]
    assert ask(hub) == first | {"cached": True}


def test_two_providers_share_the_cache(hub, server):
    first = ask(hub)
    with working(load("redis_cache", REDIS_URL=server.url)) as another_hub:
        assert ask(another_hub) == first | {"cached": True}


def test_the_cache_keeps_rates_for_a_minute(hub, server):
    ask(hub)
    with server.client() as client:
        assert 50 < client.ttl(KEY) <= 60


def test_after_expiry_the_source_is_asked_again(hub, server):
    first = ask(hub)
    with server.client() as client:
        client.pexpire(KEY, 1)
        wait_until(lambda: not client.exists(KEY))
    second = ask(hub)
    assert not second["cached"]
    assert second["as_of"] > first["as_of"]


def test_without_redis_the_source_is_asked_and_the_log_says_so(hub, server, log_line):
    server.kill()
    try:
        first, second = ask(hub), ask(hub)
    finally:
        server.start()
    assert (first["cached"], second["cached"]) == (False, False)
    assert "connecting" in log_line("doing without the cache")


def test_a_hanging_redis_fails_no_task(server, log_line):
    with working(load("redis_cache", REDIS_URL=server.plain_url)) as hub:
        server.pause()
        try:
            result = hub.call("exchange_rates", {"base": "EUR"})
        finally:
            server.resume()
    assert (result.status, result.data["cached"]) == ("success", False)
    assert "Timeout" in log_line("doing without the cache")


def test_when_redis_is_back_the_cache_is_used_again(hub, server):
    ask(hub)
    server.kill()
    server.start()
    assert [ask(hub)["cached"] for _ in range(2)] == [False, True]


def test_a_provider_that_has_ended_has_no_connection_open(server):
    with server.client() as client:
        mine = client.client_id()
        others = lambda: [one for one in client.client_list() if int(one["id"]) != mine]
        with working(load("redis_cache", REDIS_URL=server.url)) as hub:
            ask(hub)
            assert others()
        wait_until(lambda: not others())


def test_the_example_s_tasks_succeed(hub):
    assert statuses_of_tasks("redis_cache", hub) == ["success"] * 2
