"""Fixtures of several tests of limits."""

from __future__ import annotations

import sys

import pytest
from support.peers import Peer
from support.redis_servers import RedisServer

from arbprov.limits.stores.redis import RedisStore, connect


@pytest.fixture
def impatient():
    """Have threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="module")
def server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def client(server):
    client = connect(server.url)
    client.flushall()
    client.script_flush()
    yield client
    client.close()


@pytest.fixture
def store(client):
    return RedisStore(client, "tests")


@pytest.fixture
def peer(client):
    return Peer(client)


@pytest.fixture
def log(caplog):
    caplog.set_level("WARNING", "arbprov")
    return lambda: [record.getMessage() for record in caplog.records]
