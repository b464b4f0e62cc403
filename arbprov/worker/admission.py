"""Asking the limits of the worker's calls, and the queue of calls that wait for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from arbprov.dispatcher import Call, Dispatcher
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.executors.turns import Turns, refuse_to_block
from arbprov.limits import Acquirer, Acquisition, ActionLimits, Decision
from arbprov.limits.stores.base import BucketKey

__all__ = ["Admission"]

T = TypeVar("T")

logger = logging.getLogger("arbprov")


class Admission:
    """Asks the limits of calls, and queues refused calls; see `arbprov.dispatcher.Admitter`.

    It is the `arbprov.limits.Acquirer` of all handlers too: they wait in the same queue. It belongs
    to the event loop that runs when it is made.

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
        self._turns = Turns(stopping)
        # Of many calls that arrive at once, the limits may admit only the first.
        self._starting = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many calls wait for limits."""
        return len(self._turns)

    def waiting_by_bucket(self) -> dict[BucketKey, int]:
        """Return how many calls wait for each bucket of limits that some call waits for."""
        return self._turns.lengths()

    def acquirer(self, call: Call) -> Acquirer:
        """Return this object: it asks and waits on behalf of all handlers."""
        return self

    async def decide(self, call: Call) -> Decision:
        """Charge a call, unless the calls that wait before it leave nothing of its limits.

        Raises:
            Exception: A limit can't be asked, or the handler's process can't be started.
        """
        if self._turns:
            limiter, limits = self._dispatcher.limiter, call.route.limits
            peeked = await self._ask(limits, lambda: limiter.peek(limits, call.seen_by_limits))
            if ahead := self._turns.demand_ahead(peeked.charges):
                peeked = await self._ask(
                    limits, lambda: limiter.peek(limits, call.seen_by_limits, ahead)
                )
                if not peeked.allowed:
                    return peeked
        return await self._charge(call)

    async def wait(self, call: Call, refused: Decision, waited: float) -> Decision:
        """Queue a refused call if its limits allow that, and return the last decision over it."""
        decision = refused
        try:
            is_full = len(self._turns) >= self._max_waiting
            if not is_full and not self._turns.has_stopped and refused.may_wait(waited):
                decision = await self._turns.wait(refused, waited, lambda: self._charge(call))
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

    async def pause(self, seconds: float) -> bool:
        """Wait before the next try of a handler, unless the worker stops."""
        await asyncio.wait([self._stopping], timeout=seconds)
        return not self._stopping.done()

    async def settle(self, call: Call) -> None:
        """Tell the limits how a call has ended, if they have to know."""
        if not call.unsettled:
            return
        if call.route.limits.settling_blocks:
            await self._ask_on_thread(lambda: self._dispatcher.settle(call))
        else:
            self._dispatcher.settle(call)
        # It may have been the probe that they wait for.
        self._turns.notify(call.decision.charges)

    async def release(self, call: Call) -> None:
        """Give back what a call has held; see `arbprov.dispatcher.Admitter`."""
        held = call.decision.held_charges
        await self._ask(call.route.limits, call.decision.release)
        self._turns.notify(held)

    # On behalf of a running handler.

    def acquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        """Charge a manual limit on a handler's thread; see `arbprov.limits.Acquirer`."""
        refuse_to_block()
        if not self._turns:
            # Most often there is no queue, and the loop need not be asked.
            decision = acquisition.charge()
            if decision.allowed or not decision.may_wait(0.0):
                return decision, decision
        waiting = self._acquire(acquisition)
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result()

    async def aacquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        """Charge a manual limit on an event loop; see `arbprov.limits.Acquirer`."""
        waiting = self._acquire(acquisition)
        if asyncio.get_running_loop() is self._loop:
            return await waiting
        # The author's own loop, in a plain handler.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, self._loop))

    def tell(self, limits: ActionLimits, change: Callable[[], object]) -> None:
        """Change limits, on a thread if that would block the loop; see `Acquirer`."""
        if limits.settling_blocks and asyncio._get_running_loop() is self._loop:
            self._threads.start(change, _log_failed_change)
        else:
            change()

    async def _acquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        limits = acquisition.limits

        async def charge() -> Decision:
            return await self._ask(limits, acquisition.charge, Decision.undo)

        ahead = self._turns.demand_ahead(acquisition.charges())
        decision = await self._ask(limits, lambda: acquisition.peek(ahead)) if ahead else None
        if decision is None or decision.allowed:
            decision = await charge()
        if decision.allowed or self._turns.has_stopped or not decision.may_wait(0.0):
            return decision, decision
        return decision, await self._turns.wait(decision, 0.0, charge)

    # Asking.

    async def _readmit_beside_loop(self, call: Call) -> None:
        again = lambda: self._dispatcher.decide_again(call)  # noqa: E731
        decision = await self._ask(call.route.limits, again, Decision.undo)
        if not decision.allowed:
            await self._dispatcher.await_turn(call, self, decision)

    async def _charge(self, call: Call) -> Decision:
        limits = call.route.limits
        if call.route.pickled is None:
            return await self._ask(limits, lambda: self._dispatcher.decide(call), Decision.undo)
        # The process is started first: a charge is for a call that starts right now.
        limiter = self._dispatcher.limiter
        async with self._starting:
            peeked = await self._ask(limits, lambda: limiter.peek(limits, call.seen_by_limits))
            if not peeked.allowed:
                return peeked
            await self._executor.make_ready(call)
            if call.error is not None:
                raise call.error
            try:
                return await self._ask(limits, lambda: self._dispatcher.decide(call), Decision.undo)
            except BaseException:
                self._executor.release(call)
                raise

    async def _ask(
        self,
        limits: ActionLimits,
        question: Callable[[], T],
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Ask limits a question, on a thread if they may block.

        Args:
            limits: The limits.
            question: Returns the answer.
            undo: Takes an answer back that comes after the call was cancelled.
        """
        return await self._ask_on_thread(question, undo) if limits.blocks else question()

    async def _ask_on_thread(
        self, question: Callable[[], T], undo: Callable[[T], object] | None = None
    ) -> T:
        future = self._threads.run(question)

        def undo_late(answered: asyncio.Future[T]) -> None:
            if undo is not None and answered.exception() is None:
                self._threads.run(lambda: undo(answered.result()))

        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(undo_late)
            raise


def _log_failed_change(_: Any, error: BaseException | None) -> None:
    if error is not None:
        logger.error("what an API says about its quota could not be stored: %s", error)
