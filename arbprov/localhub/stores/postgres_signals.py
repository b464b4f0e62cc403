"""How hubs on a PostgreSQL store tell each other that something changed: LISTEN and NOTIFY.

It is only a hint that saves time. Behind a pooler that hands connections from transaction to
transaction, no notification arrives, and each hub looks by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from arbprov.backoff import Backoff

__all__ = ["Signals"]

_log = logging.getLogger("arbprov")

# Seconds between two notifications of a hub.
_INTERVAL = 0.02
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0


class Signals:
    """Two connections: one listens, the other notifies, at most every 20 ms.

    Args:
        connect: Opens a connection in autocommit mode.
        on_change: Called when another hub has changed something, and after a lost connection.
        name: The store's name, for the log.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[psycopg.AsyncConnection[Any]]],
        on_change: Callable[[], None],
        name: str,
    ) -> None:
        self._connect = connect
        self._on_change = on_change
        self._name = name
        # A hub ignores its own notifications.
        self._sender = uuid.uuid4().hex
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen and to notify."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._notify())]

    async def close(self) -> None:
        """Stop; a change that was not told yet is not told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def changed(self) -> None:
        """Have the other hubs know of a change soon."""
        self._changed.set()

    async def _listen(self) -> None:
        backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        is_first = True
        while True:
            with contextlib.suppress(psycopg.Error, OSError):
                async with await self._connect() as connection:
                    await connection.execute("LISTEN arbprov")
                    backoff.reset()
                    if not is_first:
                        # Something may have changed in the meantime.
                        self._on_change()
                    async for notification in connection.notifies():
                        if notification.payload != self._sender:
                            self._on_change()
            is_first = False
            _log.info("%s: listening was interrupted, retrying", self._name)
            await asyncio.sleep(backoff.next())

    async def _notify(self) -> None:
        backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        while True:
            with contextlib.suppress(psycopg.Error, OSError):
                async with await self._connect() as connection:
                    backoff.reset()
                    while True:
                        await self._changed.wait()
                        # Before it: a change during the call needs a notification of its own.
                        self._changed.clear()
                        await connection.execute("SELECT pg_notify('arbprov', %s)", [self._sender])
                        await asyncio.sleep(_INTERVAL)
            # The notification may be lost with the connection.
            self._changed.set()
            await asyncio.sleep(backoff.next())
