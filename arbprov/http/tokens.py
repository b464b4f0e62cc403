"""Access tokens that expire: one for each account, refreshed once for all calls that need it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov.clock import SystemClock

__all__ = ["Refresh", "Token", "TokenCache"]

Account = Mapping[str, Any]

# Seconds between two attempts to take the lock that another process holds.
_LOCK_INTERVAL = 0.05
# Tokens that a cache keeps at most: the accounts come from outside.
_MAX_TOKENS = 10_000


@attrs.frozen
class Token:
    """An access token of an API.

    Args:
        value: What goes into the Authorization header.
        expires_in: Seconds from now; None if it does not expire.
    """

    value: str = attrs.field(repr=False)
    expires_in: float | None = None


# Called with the account, and the token that has expired or that the API has refused, if any.
Refresh = Callable[[Account, str | None], Token | Awaitable[Token]]


@attrs.define
class _Entry:
    """The token of an account, and since when a call refreshes it."""

    value: str | None = None
    expires_at: float = float("-inf")
    refreshing: Future[str] | None = None


class TokenCache:
    """Gives each call the access token of its account, and refreshes it once for all calls.

    Calls that need the same token wait for the call that refreshes it, on threads and on the loop
    alike. With a Redis server, processes wait for each other too: `refresh` runs in one of them at a
    time. It should then look first whether another process has stored a newer token than the one
    it is called with, in the same database where it keeps the refresh token. arbprov stores no
    token but in memory, and logs none.

    Args:
        refresh: Returns the `Token` of an account, plain or ``async``. It is called with the account
            and the text of the token that has expired or was refused; None at first.
        margin: Seconds before a token's end from which on it is refreshed; at most half of its time.
        redis: A URL or a `redis.Redis` client, if several processes refresh the same tokens.
        namespace: The processes that share the lock have it in common.
        timeout: Seconds that a refresh may take. A process that dies in between holds up the others
            for as long.
        clock: Tells the time; a test client's `clock` in tests.

    Raises:
        ConfigurationError: The package redis is not installed, or the URL is not valid.

    >>> def refresh(account, old):
    ...     return Token(f"token of {account['id']}", expires_in=3600)
    >>> tokens = TokenCache(refresh)
    >>> tokens.get({"id": 42})
    'token of 42'
    """

    def __init__(
        self,
        refresh: Refresh,
        *,
        margin: float = 60.0,
        redis: Any = None,
        namespace: str = "arbprov",
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._refresh = refresh
        self._margin = margin
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._redis = redis
        self._namespace = namespace
        self._entries: dict[str, _Entry] = {}
        self._guard = threading.Lock()
