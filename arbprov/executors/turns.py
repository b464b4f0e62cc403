"""Waiting for limits on an event loop: first come, first served, for each bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from arbprov.limits import Charge, Decision
from arbprov.limits.queue import Waiter, WaitQueue
from arbprov.limits.stores.base import BucketKey

__all__ = ["Turns", "refuse_to_block"]

# Seconds after which a waiting call asks again at the latest. Its limits may admit it earlier than
# they have said: another call may take back its charge, or a cooldown may end.
_ASK_AGAIN_AFTER = 1.0


class Turns:
    """The calls that wait for limits, before their handlers begin and inside them.

    Only one event loop may use it.

    Args:
        stopping: Is done when no call waits any more; without it, all wait as long as they may.
    """

    def __init__(self, stopping: asyncio.Future[None] | None = None) -> None:
        self._stopping = stopping
        self._queue = WaitQueue()

    def __len__(self) -> int:
        return len(self._queue)

    def demand_ahead(self, charges: Iterable[Charge]) -> dict[BucketKey, int]:
        """Return the units that waiting calls will take from the buckets of some charges."""
        return self._queue.demand_ahead(dict.fromkeys(one.bucket for one in charges if one.group))

    def lengths(self) -> dict[BucketKey, int]:
        """Return how many calls wait for each bucket; only buckets with a queue."""
        return self._queue.lengths()

    async def wait(
        self, refused: Decision, waited: float, charge: Callable[[], Awaitable[Decision]]
    ) -> Decision:
        """Queue a refused call, and return the last decision over it.

        Args:
            refused: The decision that has refused it.
            waited: Seconds since the first decision over it.
            charge: Decides again.
        """
        # Only the first in the queue asks the limits.
        has_changed = asyncio.Event()
        waiter = Waiter(refused.waiting_costs, has_changed.set)
        max_wait = refused.longest_wait - waited
        loop = asyncio.get_running_loop()
        decision, started_at = refused, loop.time() - waited
        self._queue.enqueue(waiter)
        try:
            if not self._queue.is_first(waiter):
                await self._wait_or_stop(has_changed, max_wait)
                if self.has_stopped or not has_changed.is_set():
                    return decision
                has_changed.clear()
                decision = await charge()
            while not decision.allowed and decision.may_wait(loop.time() - started_at):
                pause = min(decision.pause(loop.time() - started_at), _ASK_AGAIN_AFTER)
                await self._wait_or_stop(has_changed, pause)
                if self.has_stopped:
                    break
                # First: what changes from now on may be too late for the answer.
                has_changed.clear()
                decision = await charge()
            return decision
        finally:
            self._queue.dequeue(waiter)

    @property
    def has_stopped(self) -> bool:
        """Whether no call waits any more."""
        return self._stopping is not None and self._stopping.done()

    def notify(self, charges: Iterable[Charge]) -> None:
        """Let the first calls that wait for the buckets of some charges ask again at once."""
        self._queue.notify(one.bucket for one in charges)

    async def _wait_or_stop(self, changed: asyncio.Event, timeout: float) -> None:
        task = asyncio.get_running_loop().create_task(changed.wait())
        either: list[asyncio.Future[Any]] = [task]
        if self._stopping is not None:
            either.append(self._stopping)
        try:
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()


def refuse_to_block() -> None:
    """Refuse to wait where that would block an event loop.

    Raises:
        RuntimeError: An event loop runs in this thread.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "ctx.limits.acquire(...) would block the event loop that runs here; write "
            "`await ctx.limits.aacquire(...)`"
        )
