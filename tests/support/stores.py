"""The stores that keep the contract of `arbprov.limits.Store`, each on a clock of the test's own.

The laws of `support.laws` hold for each of them: add a new store to `BENCHES`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
from contextlib import contextmanager

import attrs

from arbprov.limits import Limiter
from arbprov.limits.stores.redis import RedisStore
from arbprov.testing import VirtualClock

from .redis_servers import RedisServer


@attrs.frozen
class Call:
    """The part of a call that a limit sees."""

    payload: dict = attrs.field(factory=dict)
    account: dict = attrs.field(factory=dict)
    action: str = "work"


class MemoryBench:
    """Limiters that keep their usage in memory, all on one clock."""

    def __init__(self):
        self.clock = VirtualClock()

    def limiter(self):
        """Return a limiter that shares nothing with the others but the clock."""
        return Limiter(self.clock)

    def now(self):
        """Return the time that the stores go by."""
        return self.clock.monotonic()

    def advance(self, seconds):
        """Let time pass for the stores."""
        self.clock.advance(seconds)

    def close(self):
        """Free the resources of the bench."""


class EpochClock(VirtualClock):
    """A clock with the same monotonic and wall time, in whole microseconds like a server's."""

    BEGIN = dt.datetime(2026, 3, 28, 22, tzinfo=dt.timezone.utc)

    def __init__(self):
        super().__init__(self.BEGIN)

    def monotonic(self):
        micros = round(super().monotonic() * 1e6)
        seconds, rest = divmod(micros, 1_000_000)
        # As the server adds them up.
        return (self.BEGIN.timestamp() + seconds) + rest / 1e6

    def now(self):
        return dt.datetime.fromtimestamp(self.monotonic(), dt.timezone.utc)


class ClockedRedisStore(RedisStore):
    """A store whose server goes by a clock of the test's, and forgets nothing by itself."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._script = self._script.replace(
            "redis.call('TIME')", "cjson.decode(redis.call('GET', 'time'))"
        ).replace("'PX', text(", "'EX', 3600 + 0 * (")

    def _evaluate(self, keys, arguments):
        return list(self._client.eval(self._script, len(keys), *keys, *arguments))


class RedisBench:
    """Limiters that keep their usage on one server, all on one clock."""

    def __init__(self, client):
        self.clock = EpochClock()
        self._client = client
        self._stores = []
        self._names = itertools.count()
        client.flushall()
        self._tell_the_time()

    def store(self):
        """Return a store that shares nothing with the others but the server and the clock."""
        store = ClockedRedisStore(self._client, f"bench-{next(self._names)}")
        self._stores.append(store)
        return store

    def limiter(self):
        """Return a limiter that shares nothing with the others but the server and the clock."""
        store = self.store()
        return Limiter(self.clock, lambda declaration: store)

    def now(self):
        """Return the time that the stores go by."""
        return self.clock.monotonic()

    def advance(self, seconds):
        """Let time pass for the stores: at least so much, in whole microseconds."""
        # A double of today's date is off by half a microsecond at most.
        self.clock.advance(math.ceil(seconds * 1e6 + 0.5) / 1e6 if seconds else 0.0)
        self._tell_the_time()
        for store in self._stores:
            store.upkeep()  # or the leases of the calls in flight would lapse

    def close(self):
        """Free the resources of the bench."""

    def _tell_the_time(self):
        now = self.now()
        self._client.set("time", json.dumps([int(now), round((now % 1) * 1e6)]))


@contextmanager
def memory_benches():
    yield MemoryBench


@contextmanager
def redis_benches():
    server = RedisServer()
    with server.client() as client:
        yield lambda: RedisBench(client)
    server.close()


# Each yields a function that makes a bench without usage.
BENCHES = {"memory": memory_benches, "redis": redis_benches}
