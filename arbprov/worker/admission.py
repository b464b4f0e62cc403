"""Asking the limits of the worker's calls, and the queue of calls that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from arbprov.dispatcher import Call, Dispatcher
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.limits import Decision
from arbprov.limits.queue import Waiter, WaitQueue
from arbprov.limits.stores.base import BucketKey

__all__ = ["Admission"]

T = TypeVar("T")

# Seconds after which a waiting call asks again at the latest. Its limits may admit it earlier than
# they have said: another call may take back its charge, or a cooldown may end.
_ASK_AGAIN_AFTER = 1.0


class Admission:
    """Asks the limits of calls, and queues refused calls; see `arbprov.dispatcher.Admitter`.

    It belongs to the event loop that runs when it is made.

    Args:
        dispatcher: Decides over the calls.
        threads: Where it decides, if a limit may block.
        executor: Starts the processes of isolated handlers.
        max_waiting: Calls that may wait at once; they hold slots that other calls need too.
        stopping: Is done when the worker stops, and no call waits any more.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        threads: ThreadPool,
        executor: Executor,
        max_waiting: int,
        stopping: asyncio.Future[None],
    ) -> None:
        self._dispatcher = dispatcher
        self._threads = threads
        self._executor = executor
        self._max_waiting = max_waiting
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._queue = WaitQueue()
        # Of many calls that arrive at once, the limits may admit only the first.
        self._starting = asyncio.Lock()

    async def decide(self, call: Call) -> Decision:
        """Charge a call, unless the calls that wait before it leave nothing of its limits.

        Raises:
            Exception: A limit can't be asked, or the handler's process can't be started.
        """
        if self._queue:
            limiter, limits = self._dispatcher.limiter, call.route.limits
            peeked = await self._ask(call, lambda: limiter.peek(limits, call.seen_by_limits))
            if ahead := self._queue.demand_ahead(_waited_for(peeked)):
                peeked = await self._ask(
                    call, lambda: limiter.peek(limits, call.seen_by_limits, ahead)
                )
                if not peeked.allowed:
                    return peeked
        return await self._charge(call)

    async def wait(self, call: Call, refused: Decision, waited: float) -> Decision:
        """Queue a refused call if its limits allow that, and return the last decision over it."""
        decision = refused
        try:
            is_full = len(self._queue) >= self._max_waiting
            if not is_full and not self._stopping.done() and refused.may_wait(waited):
                decision = await self._wait_in_queue(call, refused, waited)
        finally:
            if not decision.allowed:
                self._executor.release(call)
        return decision

    def readmit(self, call: Call) -> Awaitable[None] | None:
        """Decide again over a call whose charge has aged; see `arbprov.dispatcher.Admitter`."""
        if call.route.limits.blocks and not call.route.blocking:
            return self._readmit_beside_loop(call)
        # Not on the loop: the new charge would age on the way back to the handler's thread.
        decision = self._dispatcher.decide_again(call)
        return None if decision.allowed else self._dispatcher.await_turn(call, self, decision)

    async def settle(self, call: Call) -> None:
        """Tell the limits how a call has ended, if they have to know."""
        if call.unsettled:
            await self._ask(call, lambda: self._dispatcher.settle(call))

    async def _readmit_beside_loop(self, call: Call) -> None:
        again = lambda: self._dispatcher.decide_again(call)  # noqa: E731
        decision = await self._ask(call, again, Decision.refund)
        if not decision.allowed:
            await self._dispatcher.await_turn(call, self, decision)

    async def _wait_in_queue(self, call: Call, refused: Decision, waited: float) -> Decision:
        # Only the first in the queue asks the limits.
        is_first = asyncio.Event()
        waiter = Waiter(_waited_for(refused), is_first.set)
        max_wait = min(limit.declaration.max_wait for limit in refused.refusing_limits) - waited
        decision, started_at = refused, self._loop.time() - waited
        self._queue.enqueue(waiter)
        try:
            if not self._queue.is_first(waiter):
                await self._wait_or_stop(is_first.wait(), max_wait)
                if self._stopping.done() or not is_first.is_set():
                    return decision
                decision = await self._charge(call)
            while not decision.allowed and decision.may_wait(self._loop.time() - started_at):
                pause = min(decision.wait_time, _ASK_AGAIN_AFTER)
                await self._wait_or_stop(asyncio.sleep(pause), max_wait)
                if self._stopping.done():
                    break
                decision = await self._charge(call)
            return decision
        finally:
            self._queue.dequeue(waiter)

    async def _wait_or_stop(self, waiting: Coroutine[Any, Any, Any], timeout: float) -> None:
        task = self._loop.create_task(waiting)
        either: list[asyncio.Future[Any]] = [task, self._stopping]
        try:
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()

    async def _charge(self, call: Call) -> Decision:
        if call.route.pickled is None:
            return await self._ask(call, lambda: self._dispatcher.decide(call), Decision.refund)
        # The process is started first: a charge is for a call that starts right now.
        limiter, limits = self._dispatcher.limiter, call.route.limits
        async with self._starting:
            peeked = await self._ask(call, lambda: limiter.peek(limits, call.seen_by_limits))
            if not peeked.allowed:
                return peeked
            await self._executor.make_ready(call)
            if call.error is not None:
                raise call.error
            try:
                return await self._ask(call, lambda: self._dispatcher.decide(call), Decision.refund)
            except BaseException:
                self._executor.release(call)
                raise

    async def _ask(
        self, call: Call, question: Callable[[], T], undo: Callable[[T], object] | None = None
    ) -> T:
        """Ask the limits a question, on a thread if they may block.

        Args:
            call: The call that it is about.
            question: Returns the answer.
            undo: Takes an answer back that comes after the call was cancelled.
        """
        if not call.route.limits.blocks:
            return question()
        future = self._threads.run(question)

        def undo_late(answered: asyncio.Future[T]) -> None:
            if undo is not None and answered.exception() is None:
                self._threads.run(lambda: undo(answered.result()))

        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(undo_late)
            raise


def _waited_for(decision: Decision) -> dict[BucketKey, int]:
    """Return the buckets that a call may wait for, with its costs."""
    return {
        charge.bucket: charge.cost
        for charge in decision.charges
        if charge.limit.declaration.max_wait and charge.group
    }
