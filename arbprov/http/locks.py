"""A lock in Redis, so that a single process at a time does some work."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from arbprov.errors import TaskError

__all__ = ["LockError", "RedisLocks"]

# Seconds between two attempts to take a lock that another process holds, on average.
_INTERVAL = 0.05
# Seconds that may pass between taking a lock and beginning the work under it.
_SLACK = 5.0
# Takes the lock, also if it was taken before by the same request, whose answer was lost.
_TAKE = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


class LockError(TaskError):
    """A lock can't be had: Redis is away, or another process holds the lock for too long."""


class RedisLocks:
    """Locks by name; a single process holds a lock at a time.

    The lock of a process that dies lapses, a little later than `seconds` after it was taken.

    Args:
        client: A plain Redis client.
        place: The server's name in error messages.
        namespace: Is put before the names.
        seconds: How long the work under a lock may take.
    """

    def __init__(self, client: Any, place: str, namespace: str, seconds: float) -> None:
        self._client = client
        self._place = place
        self._namespace = namespace
        self._lifetime = seconds + _SLACK
        # A lock that a dead process has left is waited for in any case.
        self.patience = self._lifetime + 1.0

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold a lock; it blocks until it has the lock.

        Raises:
            LockError: Redis is away, or another process holds the lock for too long.
        """
        key, holder = f"{self._namespace}:lock:{name}", uuid.uuid4().hex
        gives_up_at = time.monotonic() + self.patience
        try:
            while not self._take(key, holder):
                if time.monotonic() > gives_up_at:
                    raise LockError(
                        f"another process has held a lock in {self._place} for "
                        f"{self.patience:g} s; is the work under it hanging?"
                    )
                time.sleep(random.uniform(0.5, 1.5) * _INTERVAL)  # noqa: S311
            yield
        finally:
            # It lapses by itself. And an answer that was lost may have taken it.
            with suppress(Exception):
                self._client.eval(_RELEASE, 1, key, holder)

    def _take(self, key: str, holder: str) -> bool:
        """Try to take a lock, and return whether enough of its time is left for the work."""
        asked_at = time.monotonic()
        try:
            taken = self._client.eval(_TAKE, 1, key, holder, int(self._lifetime * 1000))
        except Exception as error:
            raise LockError(
                f"{self._place} is away, and nothing is done without its lock: "
                f"{type(error).__name__}: {error}"
            ) from error
        # The process may have been stopped meanwhile; then the next attempt renews the lock.
        return bool(taken) and time.monotonic() - asked_at < _SLACK
