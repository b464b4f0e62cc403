"""A lock in Redis: one holder at a time, and none at all while Redis is away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.redis_servers import RedisServer
from support.waiting import TIMEOUT, wait_until

from arbprov.http import LockError, Token, TokenCache
from arbprov.http import locks as locks_module
from arbprov.http.locks import RedisLocks


@pytest.fixture(scope="module")
def server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def client(server):
    with server.client() as client:
        client.flushdb()
        yield client


@pytest.fixture
def locks(client):
    return RedisLocks(client, "the store", "test", TIMEOUT)


def test_a_lock_has_one_holder_at_a_time(client):
    holders, most = [], []

    def work():
        with RedisLocks(client, "the store", "test", TIMEOUT).hold("it"):
            holders.append(True)
            most.append(len(holders))
            holders.pop()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for _ in range(12)]:
            future.result(TIMEOUT)
    assert set(most) == {1}


def test_locks_of_other_names_and_namespaces_are_free(client, locks):
    with (
        locks.hold("it"),
        locks.hold("another"),
        RedisLocks(client, "the store", "another", TIMEOUT).hold("it"),
    ):
        assert client.dbsize() == 3


def test_a_lock_lapses_after_the_time_of_its_work(client, locks):
    with locks.hold("it"):
        assert TIMEOUT * 1000 < client.pttl("test:lock:it") <= (TIMEOUT + 5) * 1000


def test_a_lock_is_free_again_after_an_error(client, locks):
    with pytest.raises(LookupError), locks.hold("it"):
        raise LookupError
    assert client.dbsize() == 0


def test_a_lock_that_has_lapsed_is_not_taken_from_its_next_holder(client, locks):
    with locks.hold("it"):
        client.set("test:lock:it", "another")
    assert client.get("test:lock:it") == b"another"


def test_the_lock_of_a_process_that_has_died_is_taken_when_it_lapses(client, locks):
    client.set("test:lock:it", "dead", px=50)
    with locks.hold("it"):
        assert client.get("test:lock:it") != b"dead"


def test_a_request_that_is_sent_twice_takes_the_lock_once(client, locks):
    assert locks._take("key", "holder")
    assert locks._take("key", "holder")
    assert not locks._take("key", "another")


def test_a_lock_that_was_granted_long_ago_is_taken_again(client, locks, monkeypatch):
    """The process was stopped between the request and its answer."""
    times = iter([0.0, 0.0, 6.0, 6.0, 6.0, 6.1])
    time = SimpleNamespace(monotonic=lambda: next(times), sleep=lambda seconds: None)
    monkeypatch.setattr(locks_module, "time", time)
    with locks.hold("it"):
        assert next(times, "all used") == "all used"


def test_a_lock_that_is_held_for_too_long_is_an_error(client, locks, monkeypatch):
    locks.patience = 0.0
    client.set("test:lock:it", "another")
    held = "another process has held a lock in the store for 0 s"
    with pytest.raises(LockError, match=held), locks.hold("it"):
        pytest.fail("it has the lock")


def test_without_redis_no_work_is_done():
    away = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    locks = RedisLocks(away, "redis://127.0.0.1", "test", 1)
    with pytest.raises(LockError) as caught, locks.hold("it"):
        pytest.fail("it has the lock")
    assert str(caught.value).startswith(
        "redis://127.0.0.1 is away, and nothing is done without its lock: ConnectionError: "
    )


# The tokens.


def test_a_refresh_holds_a_lock_whose_name_tells_nothing(server, client):
    seen = []

    def refresh(account, old):
        seen.extend(client.keys())
        return Token("secret-token")

    tokens = TokenCache(refresh, key=lambda account: "ada", redis=server.url, namespace="shop")
    tokens.get({})
    assert [key.startswith(b"shop:tokens:lock:") and b"ada" not in key for key in seen] == [True]


def test_redis_has_no_token(server, client):
    commands = []
    monitor = client.monitor()

    def listen():
        with monitor:
            for command in monitor.listen():
                commands.append(command["command"])
                if "the end" in command["command"]:
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    wait_until(lambda: client.get("begin") or any("begin" in command for command in commands))
    tokens = TokenCache(lambda account, old: Token("secret-token"), redis=server.url)
    tokens.refuse("account-secret", tokens.get("account-secret"))
    tokens.get("account-secret")
    client.get("the end")
    thread.join(TIMEOUT)
    shown = "\n".join(commands)
    assert ("EVAL" in shown.upper(), "secret" in shown) == (True, False)


def test_without_redis_no_token_is_refreshed():
    away = RedisServer()
    away.kill()
    tokens = TokenCache(lambda account, old: pytest.fail("refreshed"), redis=away.plain_url)
    with pytest.raises(LockError, match=r"the token locks' store redis://127\.0\.0\.1 is away"):
        tokens.get("ada")


def test_a_token_is_given_though_redis_is_away(server, client):
    own = RedisServer()
    tokens = TokenCache(lambda account, old: Token("token"), redis=own.url)
    tokens.get("ada")
    own.kill()
    assert tokens.get("ada") == "token"


def test_processes_refresh_one_after_another(server, client):
    """Two caches are as two processes: each has its own memory."""
    stored, asked = [], []

    def refresh(account, old):
        if stored and stored[-1] != old:
            return Token(stored[-1])
        asked.append(old)
        stored.append(f"token-{len(asked)}")
        return Token(stored[-1])

    caches = [TokenCache(refresh, redis=server.url) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda cache: cache.get("ada"), caches * 2))
        for cache in caches:
            cache.refuse("ada", "token-1")
        second = list(pool.map(lambda cache: cache.get("ada"), caches * 2))
    assert (first, second) == (["token-1"] * 8, ["token-2"] * 8)
    assert asked == [None, "token-1"]
