"""Deadlines of calls, and the handlers that run on after them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from arbprov.dispatcher import Call
from arbprov.errors import ProviderError

__all__ = ["Deadlines", "StuckHandlers"]

# Seconds that all slots may be lost, before it is no more likely that any of them comes back.
_PATIENCE = 10.0

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


class StuckHandlers:
    """Knows which handlers hang, and has the worker given up once they leave it no slot.

    It belongs to the event loop that runs when it is made.

    Args:
        slots: How many handlers can hang before no task can be run.
        give_up: Called with the error to end with.
    """

    def __init__(self, slots: int, give_up: Callable[[ProviderError], object]) -> None:
        self._slots = slots
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._since: dict[Call, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unhealthy_reason(self) -> str:
        """Why no task can be run, if they leave no slot, else an empty text."""
        if len(self._since) < self._slots:
            return ""
        longest: defaultdict[str, list[float]] = defaultdict(list)
        for call, since in self._since.items():
            longest[call.task.action].append(self._loop.time() - since)
        hanging = ", ".join(
            f"{action!r} ({len(times)}, for up to {max(times):.0f} s)"
            for action, times in sorted(longest.items())
        )
        return f"no slot is left of {self._slots}: handlers have outlived their time: {hanging}"

    @contextmanager
    def track(self, call: Call) -> Iterator[None]:
        """Count a call while it hangs."""
        self._since[call] = self._loop.time()
        if self.unhealthy_reason:
            self._timer = self._loop.call_later(_PATIENCE, self._give_up_now)
        try:
            yield
        finally:
            del self._since[call]
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _give_up_now(self) -> None:
        self._give_up(
            ProviderError(
                f"{self.unhealthy_reason}; they can't be ended, so the provider ends, for its "
                f'supervisor to start it again; with isolation="process" they could be killed'
            )
        )
