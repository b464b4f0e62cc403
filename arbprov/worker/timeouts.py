"""Telling when time is up, with one timer for all that have the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["Deadlines"]

Expire = Callable[..., object]


class Deadlines:
    """Calls back for whatever does not end in its time.

    Almost everything does, and with a timer of its own for each call, the event loop would have
    more to do for its deadline than for the call. Those that have the same time end in the order
    in which they began, so one timer serves all of them.

    Args:
        loop: Whose time it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # By seconds; the first of each is the one whose time is up first.
        self._running: dict[float, dict[Hashable, tuple[float, Expire, tuple[Any, ...]]]] = {}
        self._looking: set[float] = set()

    def start(self, seconds: float, what: Hashable, expire: Expire, *arguments: Any) -> None:
        """Have `expire` called in `seconds`, unless `what` is stopped before."""
        at = self._loop.time() + seconds
        self._running.setdefault(seconds, {})[what] = (at, expire, arguments)
        if seconds not in self._looking:
            self._looking.add(seconds)
            self._loop.call_at(at, self._look, seconds)

    def stop(self, seconds: float, what: Hashable) -> None:
        """Note that `what`, which was given `seconds`, has ended; its time may be up already."""
        self._running[seconds].pop(what, None)

    def _look(self, seconds: float) -> None:
        running, now = self._running[seconds], self._loop.time()
        # Looked up each time: what expires may stop or start others.
        while running:
            what, (at, expire, arguments) = next(iter(running.items()))
            if at > now:
                self._loop.call_at(at, self._look, seconds)
                return
            del running[what]
            expire(*arguments)
        self._looking.discard(seconds)
