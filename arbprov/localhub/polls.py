"""Long polls: a provider's poll waits until the store has a task for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque

from arbprov.localhub.store import Store
from arbprov.localhub.tasks import Delivery

__all__ = ["Polls"]

# The most tasks that one claim hands out.
_MOST = 256

_Poll = asyncio.Future["Delivery | None"]


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
        poll: _Poll = self._loop.create_future()
        self._waiting[provider, lease].append(poll)
        timer = self._loop.call_later(self._hold, _answer, poll, None)
        self._woken.set()
        try:
            return await poll
        except asyncio.CancelledError:
            # The provider has gone; perhaps just when it got a task.
            if poll.done() and not poll.cancelled() and (delivery := poll.result()) is not None:
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
                _answer(poll, None)

    async def close(self) -> None:
        """Answer the polls that wait, and hand out no more tasks."""
        self._closed = True
        self.answer_all()
        self._handing_out.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._handing_out

    async def _hand_out(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            for key in [*self._waiting]:
                polls = self._waiting[key] = deque(
                    poll for poll in self._waiting[key] if not poll.done()
                )
                if not polls:
                    del self._waiting[key]
                    continue
                await asyncio.shield(self._loop.create_task(self._claim(*key, len(polls))))

    async def _claim(self, provider: str, lease: float, count: int) -> None:
        try:
            deliveries = await self._store.claim(provider, min(count, _MOST), lease)
        except Exception as error:
            for poll in self._waiting.pop((provider, lease)):
                if not poll.done():
                    poll.set_exception(error)
            return
        left = deque(deliveries)
        # Polls that came meanwhile get what the others, which were cancelled, do not take.
        polls = self._waiting[provider, lease]
        while left and polls:
            if _answer(polls.popleft(), left[0]):
                left.popleft()
        if left:
            await self.give_back([*left])
        elif count > _MOST:
            self.wake()


def _answer(poll: _Poll, delivery: Delivery | None) -> bool:
    """Answer a poll; return False if it has ended."""
    if poll.done():
        return False
    poll.set_result(delivery)
    return True
