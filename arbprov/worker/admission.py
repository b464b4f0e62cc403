"""Waiting for limits: who may, how long, and in which order."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from arbprov.dispatcher import Call, Dispatcher
from arbprov.executors.threads import ThreadPool
from arbprov.limits import Decision
from arbprov.limits.queue import Waiter, WaitQueue
from arbprov.limits.stores.base import BucketKey

__all__ = ["Admission"]

T = TypeVar("T")

# What refuses may let a call in earlier than it has said: when another call gave its charge back,
# or when the first one through a gate has ended.
_LOOK_AGAIN = 1.0


class Admission:
    """Admits calls, at once or after a wait, or refuses them.

    It belongs to the event loop that runs when it is made.

    Args:
        dispatcher: Asks the limits.
        threads: Where that is done, if it may take a while.
        most_waiting: Calls that wait at once; they hold slots, which other calls need too.
        stopping: Is done when nobody is to wait any more.
        make_ready: Starts what a call runs in, if that takes a while.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        threads: ThreadPool,
        most_waiting: int,
        stopping: asyncio.Future[None],
        make_ready: Callable[[Call], Awaitable[None]],
    ) -> None:
        self._dispatcher = dispatcher
        self._threads = threads
        self._most_waiting = most_waiting
        self._stopping = stopping
        self._make_ready = make_ready
        self._loop = asyncio.get_running_loop()
        self._lines = WaitQueue()
        # One after the other: of many that come at once, limits may admit but the first.
        self._starting = asyncio.Lock()

    async def decide(self, call: Call) -> Decision:
        """Return what the limits decide over a call, or will when the calls before it are through.

        Raises:
            Exception: A limit can't be asked, or the handler's process can't be started.
        """
        return await self._expected(call) or await self._decide(call)

    async def wait(self, call: Call, refused: Decision) -> Decision:
        """Return the last decision over a refused call, after a wait if it may wait."""
        may_wait = len(self._lines) < self._most_waiting and not self._stopping.done()
        return await self._wait(call, refused) if may_wait and refused.may_wait(0.0) else refused

    async def settle(self, call: Call) -> None:
        """Tell the limits how a call has ended, if they have to know."""
        if call.unsettled:
            await self._ask(call, lambda: self._dispatcher.settle(call))

    async def _expected(self, call: Call) -> Decision | None:
        """Return what will refuse the call when those are through who came before, if it will."""
        if not self._lines:
            return None
        limiter, stack = self._dispatcher.limiter, call.route.limits
        ahead = self._lines.demand_ahead(
            _costs(await self._ask(call, lambda: limiter.peek(stack, call.ctx)))
        )
        if not ahead:
            return None
        expected = await self._ask(call, lambda: limiter.peek(stack, call.ctx, ahead))
        return None if expected.allowed else expected

    async def _decide(self, call: Call) -> Decision:
        if call.route.pickled is None:
            return await self._charge(call)
        async with self._starting:
            return await self._start_and_charge(call)

    async def _start_and_charge(self, call: Call) -> Decision:
        """Have what the call runs in be there before the charge, which is for a start right now."""
        limiter, stack = self._dispatcher.limiter, call.route.limits
        looked = await self._ask(call, lambda: limiter.peek(stack, call.ctx))
        if not looked.allowed:
            return looked
        await self._make_ready(call)
        if call.error is not None:
            raise call.error
        return await self._charge(call)

    async def _charge(self, call: Call) -> Decision:
        return await self._ask(call, lambda: self._dispatcher.decide(call), _give_back)

    async def _wait(self, call: Call, first: Decision) -> Decision:
        """Stand in line, and return the last decision: only who is first in line asks for one."""
        turn = asyncio.Event()
        ticket = Waiter(_costs(first), turn.set)
        self._lines.enqueue(ticket)
        try:
            return await self._in_line(call, first, ticket, turn)
        finally:
            self._lines.dequeue(ticket)

    async def _in_line(
        self, call: Call, decision: Decision, ticket: Waiter, turn: asyncio.Event
    ) -> Decision:
        began, patience = self._loop.time(), _patience(decision)
        if not self._lines.is_first(ticket):
            await self._until_stopped_or(turn.wait(), patience)
            if self._stopping.done() or not turn.is_set():
                return decision
            decision = await self._decide(call)
        while not decision.allowed and decision.may_wait(self._loop.time() - began):
            pause = asyncio.sleep(min(decision.wait_time, _LOOK_AGAIN))
            await self._until_stopped_or(pause, patience)
            if self._stopping.done():
                break
            decision = await self._decide(call)
        return decision

    async def _until_stopped_or(self, waiting: Coroutine[Any, Any, Any], timeout: float) -> None:
        task = self._loop.create_task(waiting)
        either: list[asyncio.Future[Any]] = [task, self._stopping]
        try:
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()

    async def _ask(
        self, call: Call, question: Callable[[], T], undo: Callable[[T], object] | None = None
    ) -> T:
        """Ask the limits something, on a thread if that may take a while.

        If nobody waits for the answer any more when it comes, it is undone.
        """
        if not call.route.limits.blocks:
            return question()
        future = self._threads.run(question)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(functools.partial(self._undo, undo))
            raise

    def _undo(self, undo: Callable[[T], object], answered: asyncio.Future[T]) -> None:
        if answered.exception() is None:
            self._threads.run(lambda: undo(answered.result()))


def _costs(decision: Decision) -> dict[BucketKey, int]:
    """Return what a call takes from the buckets that it may wait for."""
    patient = [one for one in decision.charges if one.limit.declaration.max_wait and one.group]
    return {one.bucket: one.cost for one in patient}


def _patience(decision: Decision) -> float:
    """Return how long a refused call may wait at all."""
    return min(limit.declaration.max_wait for limit in decision.refusing_limits)


def _give_back(decision: Decision) -> None:
    decision.refund()
