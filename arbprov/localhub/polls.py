"""Long polls: a provider's poll waits until the store has a task for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque

import attrs

from arbprov.localhub.store import Store
from arbprov.localhub.tasks import Delivery

__all__ = ["Polls"]

# The most tasks that one claim hands out.
_MOST = 256


@attrs.define(eq=False)
class _Poll:
    """A poll that waits.

    Attributes:
        answer: What it gets: a task, or None.
        was_asked_for: Whether the store was asked for a task for it. Before that, it is answered
            with nothing only by a hub that stops, even if it is not to be held at all.
        has_waited: Whether it has been held for as long as it may be.
    """

    answer: asyncio.Future[Delivery | None]
    was_asked_for: bool = False
    has_waited: bool = False

    def set(self, delivery: Delivery | None) -> bool:
        """Answer it; return False if it has ended."""
        if self.answer.done():
            return False
        self.answer.set_result(delivery)
        return True

    def end_if_over(self) -> None:
        """Answer it with nothing if it needs to wait no more."""
        if self.was_asked_for and self.has_waited:
            self.set(None)

    def end_wait(self) -> None:
        """Note that it has been held for as long as it may be."""
        self.has_waited = True
        self.end_if_over()


class Polls:
    """Hands tasks out to the polls that wait for them, first come, first served.

    It belongs to the event loop that runs when it is made. All polls of a provider that wait share
    a claim.

    Args:
        store: Has the tasks.
        hold: Seconds to hold a poll while there is no task.
    """

    def __init__(self, store: Store, hold: float) -> None:
        self._store = store
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        # By provider and by the seconds of its leases.
        self._waiting: defaultdict[tuple[str, float], deque[_Poll]] = defaultdict(deque)
        self._woken = asyncio.Event()
        self._closed = False
        self._claiming: asyncio.Task[None] | None = None
        self._handing_out = self._loop.create_task(self._hand_out())

    async def take(self, provider: str, lease: float) -> Delivery | None:
        """Return a task for a provider; None if there is none within `hold` seconds.

        Args:
            provider: The provider's name.
            lease: Seconds until the task is handed out again without a result or a renewal.

        Raises:
            HubError: The store cannot be used now.
        """
        if self._closed:
            return None
        poll = _Poll(self._loop.create_future())
        self._waiting[provider, lease].append(poll)
        timer = self._loop.call_later(self._hold, poll.end_wait)
        self._woken.set()
        try:
            return await poll.answer
        except asyncio.CancelledError:
            # The provider has gone; perhaps just when it got a task.
            answer = poll.answer
            if answer.done() and not answer.cancelled() and (delivery := answer.result()):
                await self.give_back([delivery])
            raise
        finally:
            timer.cancel()

    async def give_back(self, deliveries: list[Delivery]) -> None:
        """Take back tasks that did not reach the provider."""
        giving_back = self._store.give_back([(task.id, task.attempt) for task in deliveries])
        # Also if the poll is cancelled meanwhile.
        await asyncio.shield(giving_back)
        self.wake()

    def wake(self) -> None:
        """Look for tasks now, since there may be some."""
        if self._waiting:
            self._woken.set()

    def answer_all(self) -> None:
        """Answer the polls that wait; they get no task."""
        for polls in self._waiting.values():
            for poll in polls:
                poll.set(None)

    async def close(self) -> None:
        """Answer the polls that wait, and hand out no more tasks."""
        self._closed = True
        self.answer_all()
        self._handing_out.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._handing_out
        if self._claiming is not None:
            # What it was handed goes back, since no poll is left.
            await asyncio.wait([self._claiming])

    async def _hand_out(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            for key in [*self._waiting]:
                polls = self._waiting[key] = deque(
                    poll for poll in self._waiting[key] if not poll.answer.done()
                )
                if not polls:
                    del self._waiting[key]
                    continue
                self._claiming = self._loop.create_task(self._claim(*key, len(polls)))
                await asyncio.shield(self._claiming)

    async def _claim(self, provider: str, lease: float, count: int) -> None:
        polls = self._waiting[provider, lease]
        asked_for = [*polls][:_MOST]
        try:
            left = deque(await self._store.claim(provider, len(asked_for), lease))
        except Exception as error:
            for poll in asked_for:
                if not poll.answer.done():
                    poll.answer.set_exception(error)
            return
        # Polls that came meanwhile get what the others, which were cancelled, do not take.
        while left and polls:
            if polls.popleft().set(left[0]):
                left.popleft()
        for poll in asked_for:
            poll.was_asked_for = True
            poll.end_if_over()
        if left:
            await self.give_back([*left])
        elif count > _MOST:
            self.wake()
