"""Results on their way to the hub: each is sent, always the same, until the hub has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from arbprov._utils import quote
from arbprov.backoff import Backoff
from arbprov.errors import HubError, TaskError
from arbprov.outbox.journal import Journal
from arbprov.redaction import redact, secrets_in
from arbprov.task import Task, TaskResult
from arbprov.wire.hub import Hub, ResultRefused, ResultTooLarge
from arbprov.wire.messages import decode_result, encode_result

__all__ = ["Outbox", "OutboxEvents"]

logger = logging.getLogger("arbprov")

_MEBIBYTE = 1024 * 1024
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# Of an earlier run's results, so many are on their way at once; tasks need room for theirs.
_EARLIER_AT_ONCE = 32
# What stands for a result that is too large goes with the task's texts only up to this size.
_SMALL = 16 * 1024


class ResultTooLargeError(TaskError):
    """What the hub is told when it does not take a result for its size."""


class TaskInterruptedError(TaskError):
    """What the hub is told of a task that the provider's end has cut off."""


@attrs.frozen(kw_only=True)
class OutboxEvents:
    """What an outbox tells, and what it asks for.

    Args:
        refused: Called with a result that the hub will never take, and its error.
        trouble: Called with each error of a try.
        room: Called with whether there is room for more results, when that changes.
        spawn: Runs what an outbox does by itself.
    """

    refused: Callable[[TaskResult, HubError], object]
    trouble: Callable[[HubError], object]
    room: Callable[[bool], object]
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@attrs.define(eq=False)
class _Parcel:
    """A task from when it came until the hub has its result."""

    # While it is at work, the task; then the result's message.
    task: Task | None = None
    message: bytes = b""
    # The hub has handed the task out once more, so it wants a result from now on.
    wanted: bool = False
    # What sends the message.
    delivery: asyncio.Task[None] | None = None


class Outbox:
    """Keeps the results that the hub has not acknowledged, and sends them until it has.

    It also sees to it that no task runs twice: one that is there already is not begun again.

    Args:
        hub: Where the results go.
        journal: Remembers tasks and results.
        provider: The provider's name.
        fail: Returns the result of a task that ends with an error.
        events: Whom to tell.
        most: How many results may wait for the hub before there is no room for more.
        most_bytes: How large they may be together.
    """

    def __init__(
        self,
        hub: Hub,
        journal: Journal,
        provider: str,
        fail: Callable[[Task, Exception], TaskResult],
        events: OutboxEvents,
        most: int,
        most_bytes: int = 64 * _MEBIBYTE,
    ) -> None:
        self._hub = hub
        self._journal = journal
        self._provider = provider
        self._fail = fail
        self._events = events
        self._most = most
        self._most_bytes = most_bytes
        self._parcels: dict[str, _Parcel] = {}
        self._count = 0
        self._bytes = 0
        self._has_room = True
        self._told_full = False
        self._hurried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._eased = asyncio.Event()
        self._sends_earlier: asyncio.Task[None] | None = None
        journal.on_change = self._look_for_room

    # Tasks that come, and their results.

    def has(self, id: str) -> bool:
        """Return whether a task is running or its result is on its way; note that it came again."""
        parcel = self._parcels.get(id)
        if parcel is not None:
            parcel.wanted = True
        return parcel is not None

    async def begin(self, task: Task) -> bool:
        """Return whether `task` is to be run; if it was, its result is sent again."""
        if self.has(task.id):
            return False
        parcel = self._parcels[task.id] = _Parcel()
        known = await self._journal.begin(task)
        if known is None:
            parcel.task = task
            return True
        logger.info("task %s has been run before; its result is sent again", quote(task.id))
        self._send(task.id, known)
        return False

    async def put(self, result: TaskResult) -> None:
        """Take a task's result; from when this returns, it is on its way."""
        message = encode_result(result, self._provider)
        self._parcels[result.id].task = None
        await self._journal.finish(result.id, message)
        self._send(result.id, message)

    # Beginning and ending.

    async def recover(self) -> None:
        """Finish what an earlier run has begun, and have its results sent."""
        tasks = await self._journal.interrupted()
        results = [self._fail(task, _INTERRUPTED) for task in tasks]
        messages = [(one.id, encode_result(one, self._provider)) for one in results]
        await asyncio.gather(*(self._journal.finish(*message) for message in messages))
        if tasks:
            logger.warning("an earlier run was interrupted in %d tasks", len(tasks))
        self._sends_earlier = self._events.spawn(self._send_earlier())

    def hurry(self) -> None:
        """Try each result at once, and in short pauses again: there is not much time."""
        self._hurried.set_result(None)
        assert self._sends_earlier is not None  # `recover` has come before
        self._sends_earlier.cancel()

    async def interrupt(self) -> None:
        """Have the hub told of the tasks that are still at work: nobody will learn their end."""
        tasks = [parcel.task for parcel in self._parcels.values() if parcel.task is not None]
        await asyncio.gather(*(self.put(self._fail(task, _INTERRUPTED)) for task in tasks))

    async def empty(self, timeout: float) -> None:
        """Wait until the hub has all results, but no longer than `timeout` seconds."""
        if deliveries := self._deliveries():
            await asyncio.wait(deliveries, timeout=timeout)

    async def close(self) -> None:
        """Send no more."""
        deliveries = self._deliveries()
        for delivery in deliveries:
            delivery.cancel()
        if deliveries:
            await asyncio.wait(deliveries)
        await self._journal.close()

    @property
    def undelivered(self) -> list[str]:
        """The tasks whose results the hub has not taken."""
        return sorted(name for name, parcel in self._parcels.items() if parcel.message)

    @property
    def lost(self) -> list[str]:
        """Of the undelivered, those that will not be sent at the next start either."""
        return [name for name in self.undelivered if not self._journal.survives(name)]

    def _deliveries(self) -> list[asyncio.Task[None]]:
        parcels = self._parcels.values()
        return [parcel.delivery for parcel in parcels if parcel.delivery is not None]

    async def _send_earlier(self) -> None:
        number = 0
        while (stored := await self._journal.next_stored(number)) is not None:
            number = stored.number
            if stored.id not in self._parcels:
                self._parcels[stored.id] = _Parcel()
                self._send(stored.id, stored.message)
            while not self._has_room or self._count >= _EARLIER_AT_ONCE:
                self._eased.clear()
                await self._eased.wait()

    # Sending.

    def _send(self, id: str, message: bytes) -> None:
        parcel = self._parcels[id]
        self._weigh(parcel, message)
        parcel.delivery = self._events.spawn(self._deliver(id, parcel))

    async def _deliver(self, id: str, parcel: _Parcel) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        parcel.wanted = True
        while parcel.wanted:
            # Whoever asks for it during a try may not get what that brings.
            parcel.wanted = False
            if not await self._try(id, parcel):
                parcel.wanted = True
                await self._pause(backoff)
        del self._parcels[id]
        self._weigh(parcel, b"")

    async def _try(self, id: str, parcel: _Parcel) -> bool:
        """Send a result once; return whether that was it."""
        try:
            await self._hub.submit(parcel.message)
        except ResultRefused as error:
            await self._refused(id, parcel, error)
        except HubError as error:
            self._events.trouble(error)
            return False
        else:
            self._journal.delivered(id, parcel.message)
        return True

    async def _pause(self, backoff: Backoff) -> None:
        if self._hurried.done():
            await asyncio.sleep(backoff.next())
            return
        await asyncio.wait([self._hurried], timeout=backoff.next())
        if self._hurried.done():
            backoff.reset()

    async def _refused(self, id: str, parcel: _Parcel, error: ResultRefused) -> None:
        result = decode_result(parcel.message)
        # The hub may repeat what it was sent.
        reason = redact(str(error), secrets_in(result.task.account))
        logger.error("the hub refuses the result of task %s for good: %s", quote(id), reason)
        self._journal.refused(id, parcel.message, reason)
        self._events.refused(result, error)
        if isinstance(error, ResultTooLarge):
            small = encode_result(self._fail(_light(result.task), _TOO_LARGE), self._provider)
            if len(small) < len(parcel.message):
                await self._journal.finish(id, small)
                self._weigh(parcel, small)
                parcel.wanted = True

    # Room.

    def _weigh(self, parcel: _Parcel, message: bytes) -> None:
        """Have a parcel hold `message` from now on."""
        self._count += bool(message) - bool(parcel.message)
        self._bytes += len(message) - len(parcel.message)
        parcel.message = message
        self._look_for_room()

    def _look_for_room(self) -> None:
        full = self._count >= self._most or self._bytes >= self._most_bytes
        if full and not self._told_full:
            logger.warning(
                "%d results of %d bytes wait for the hub; no polls until there is room again",
                self._count,
                self._bytes,
            )
        # Not each time that one goes and another comes.
        self._told_full = full or (self._told_full and self._count > 0)
        self._eased.set()
        has_room = not full and self._journal.ready
        if has_room != self._has_room:
            self._has_room = has_room
            self._events.room(has_room)


_INTERRUPTED = TaskInterruptedError("interrupted, outcome unknown")
_TOO_LARGE = ResultTooLargeError("the result is too large for the hub")


def _light(task: Task) -> Task:
    """Return a task without what is large in it."""
    return attrs.evolve(
        task,
        payload=task.payload if len(task.payload) <= _SMALL else b"",
        account=task.account if len(task.account) <= _SMALL else b"",
    )
