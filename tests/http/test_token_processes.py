"""Four processes share the tokens of some accounts, through Redis and the author's database."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support import token_users
from support.examples import load_part
from support.processes import Process
from support.redis_servers import RedisServer

PROCESSES, REQUESTS, ACCOUNTS = 4, 15, 3


@pytest.fixture
def redis():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def vendor():
    """A server that revokes the tokens of an account whose refresh token was used twice."""
    with load_part("oauth.vendor").Vendor(0, uses=6, pause=0.01) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_no_refresh_token_is_used_twice(redis, vendor, tmp_path):
    arguments = [
        Path(token_users.__file__),
        f"http://127.0.0.1:{vendor.server_port}",
        tmp_path / "tokens.db",
        redis.url,
        REQUESTS,
        ACCOUNTS,
    ]
    processes = [Process([*map(str, arguments)], tmp_path) for _ in range(PROCESSES)]
    outputs = [process.popen.stdout.read() for process in processes]
    assert [process.wait() for process in processes] == [0] * PROCESSES, processes[0].log
    # Each process makes its requests twice: on threads and on the loop.
    total = PROCESSES * REQUESTS * 2
    assert sum(map(int, outputs)) == vendor.answered == total
    assert vendor.reused == []
    assert len(vendor.refreshed) >= total / vendor.uses
