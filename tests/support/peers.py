"""Processes that share limits through a Redis server, in one process of the test's."""

from __future__ import annotations

import datetime

import pytest
import redis

from arbprov import Calendar, Limit, TokenBucket
from arbprov.clock import SystemClock
from arbprov.limits import Charge
from arbprov.limits.stores.failover import FailoverStore
from arbprov.limits.stores.redis import RedisStore
from arbprov.testing import VirtualClock

TEN = Limit(10, 60)
POLICIES_OF_ALL_KINDS = pytest.mark.parametrize(
    "policy", [TEN, TokenBucket(requests_per_minute=1, burst_size=10), Calendar("10/week")], ids=str
)
EVENING = VirtualClock(datetime.datetime(2026, 3, 25, 22, tzinfo=datetime.timezone.utc))


def charge(policy, key="key", cost=1, shadow=False, clock=None):
    """Return the charges of a limit's algorithms."""
    algorithms = policy.algorithms(clock or SystemClock())
    return [Charge(f"{policy}|{a.kind}", key.encode(), a, cost, shadow) for a in algorithms]


def acquire(store, *charges):
    """Try to charge; return whether it was done, and the answer to each charge."""
    done = store.acquire(charges) is not None
    return done, [(one.wait_time, one.remaining, one.in_cooldown) for one in charges]


class Cable:
    """A client whose connection can be cut; the server behind it goes on."""

    def __init__(self, client):
        self._client = client
        self.cut = False
        self.tries = 0
        self.before = lambda: None

    def __getattr__(self, name):
        def send(*arguments):
            self.tries += 1
            self.before()
            if self.cut:
                raise redis.ConnectionError("the cable is cut")
            return getattr(self._client, name)(*arguments)

        return send


class Peer:
    """One of the processes that share limits, with its own cable and its own clock."""

    def __init__(
        self, client, mode="local", workers=1, kind=RedisStore, name="", file=None, clock=None
    ):
        self.clock = clock or VirtualClock()
        self.cable = Cable(client)
        inner = kind(self.cable, "peers", name)
        self.store = FailoverStore(inner, self.clock, mode, "the store", workers, file)
        self.store.upkeep()

    def admitted(self, times, policy=TEN, **options):
        return sum(self.store.acquire(charge(policy, **options)) is not None for _ in range(times))

    def remaining(self, policy=TEN):
        charges = charge(policy)
        self.store.peek(charges)
        return charges[0].remaining

    @property
    def is_away(self):
        return self.store._outage is not None

    def plug_in(self):
        """Let the store come back, and report to it."""
        self.cable.cut = False
        self.pass_time()

    def pass_time(self, seconds=0.5):
        """Let time pass for this process, which does its upkeep then."""
        self.clock.advance(seconds)
        self.store.upkeep()


def peers_of(client, number, **options):
    """Return some processes that know of each other."""
    peers = [Peer(client, **options) for _ in range(number)]
    for peer in peers:
        peer.store.upkeep()
    return peers


def cut_off(*peers):
    for peer in peers:
        peer.cable.cut = True
