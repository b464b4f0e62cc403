"""How a result is sent: encoded once, stored, and sent the same until the hub accepts it.

1. `Outbox.begin` registers a task before it runs. A task that the hub redelivers does not run
   again: the result of its first run is sent again. It is another task if the hub has given it
   another number of attempt.
2. `Outbox.put` encodes the task's result, stores it in the journal and starts its delivery.
3. `Outbox._deliver` submits the result until the hub accepts it, or refuses it for good. A refused
   result is a dead letter; for a result that is too large, a small error is sent in its place.

The journal remembers which tasks have run, in memory (`MemoryJournal`) or on disk (`Spool`). With
a spool, `Outbox.recover` sends the results that an earlier run could not send. While too many
results wait for the hub, `Capacity` stops the polling.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from arbprov._utils import MEBIBYTE, format_count, quote
from arbprov.backoff import Backoff
from arbprov.errors import HubError, TaskError
from arbprov.outbox.capacity import Capacity
from arbprov.outbox.journal import DAMAGED, Journal, StoredResult
from arbprov.redaction import find_secrets_in_json, redact
from arbprov.responses import ResultTooLargeError
from arbprov.task import Task, TaskKey, TaskResult
from arbprov.wire.hub import Hub, ResultRefused, ResultTooLarge
from arbprov.wire.messages import decode_result, encode_result

__all__ = ["Outbox", "OutboxEvents"]

logger = logging.getLogger("arbprov")

# Seconds between attempts to send a result: a backoff's first ceiling, and its cap.
_PAUSES = (0.5, 30.0)
# Results of an earlier run on their way at once; the rest of the capacity is for new tasks.
_MAX_STORED_AT_ONCE = 32
# An error that replaces a result too large omits a payload or an account of more bytes.
_MAX_REPEATED = 16 * 1024
# Bytes of a task's payload and account, which the hub gets back with the result: so a message
# stays below the 1,000,000,000 bytes that the spool can store.
_MAX_ECHO = 200 * MEBIBYTE


class TaskInterruptedError(TaskError):
    """The result of a task that the provider's end interrupted."""


class ResultDamagedError(TaskError):
    """The error that is sent in place of a result that the disk has damaged."""


_TOO_LARGE = ResultTooLargeError("the result is too large for the hub")
_TASK_TOO_LARGE = ResultTooLargeError("the task is too large to be sent back with its result")
_INTERRUPTED = TaskInterruptedError("interrupted, outcome unknown")
_DAMAGED = ResultDamagedError("the task has run, but its stored result is damaged")


@attrs.frozen(kw_only=True)
class OutboxEvents:
    """Callbacks of an outbox.

    Args:
        on_refused: Called with a result that the hub refuses for good, and the hub's error.
        on_error: Called with the error of each failed attempt to send a result.
        on_capacity: Called with whether polling may go on, when that changes.
        spawn: Starts an asyncio task for the outbox.
    """

    on_refused: Callable[[TaskResult, HubError], object]
    on_error: Callable[[HubError], object]
    on_capacity: Callable[[bool], object]
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@attrs.define(eq=False)
class _Entry:
    """A task from its arrival until the hub has its result."""

    # The task while it runs, then None.
    task: Task | None = None
    # The encoded result; empty while the task runs.
    message: bytes = b""
    # The result must be sent (again), e.g. because the hub has redelivered the task.
    resend: bool = False
    # The event loop's time when the message was put.
    put_at: float = 0.0
    # Sends the message.
    delivery: asyncio.Task[None] | None = None


class Outbox:
    """Sends each result until the hub has it, and keeps redelivered tasks from running again.

    Args:
        hub: Receives the results.
        journal: Remembers tasks and results.
        provider: The provider's name.
        fail: Returns the error result of a task.
        events: Callbacks.
        max_results: How many results may wait for the hub before polling stops.
        max_bytes: Bytes of all waiting results before polling stops.

    >>> from arbprov.outbox.journal import MemoryJournal
    >>> from arbprov.task import Status
    >>> class PrintingHub:
    ...     async def submit(self, message: bytes, attempt: int) -> None:
    ...         print("sent", decode_result(message).data)
    >>> async def run() -> None:
    ...     events = OutboxEvents(
    ...         on_refused=print,
    ...         on_error=print,
    ...         on_capacity=print,
    ...         spawn=asyncio.get_running_loop().create_task,
    ...     )
    ...     outbox = Outbox(PrintingHub(), MemoryJournal(), "weather", print, events, 256)
    ...     task = Task("t1", "forecast")
    ...     print(await outbox.begin(task), await outbox.begin(task))
    ...     body = '{"message": "done", "data": {"response": {"rows": 1}}}'
    ...     await outbox.put(TaskResult(task, Status.SUCCESS, "done", {"rows": 1}, body=body))
    ...     await outbox.flush(timeout=1.0)
    >>> asyncio.run(run())
    True False
    sent {'rows': 1}
    """

    def __init__(
        self,
        hub: Hub,
        journal: Journal,
        provider: str,
        fail: Callable[[Task, Exception], TaskResult],
        events: OutboxEvents,
        max_results: int,
        max_bytes: int = 64 * MEBIBYTE,
    ) -> None:
        self._hub = hub
        self._journal = journal
        self._provider = provider
        self._fail = fail
        self._events = events
        self._capacity = Capacity(journal, events.on_capacity, max_results, max_bytes)
        # By id and attempt: an attempt may run while the result of the last one waits.
        self._entries: dict[TaskKey, _Entry] = {}
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recovery: asyncio.Task[None] | None = None

    # A task's way: `begin`, the handler, `put`, `_deliver`.

    async def begin(self, task: Task) -> bool:
        """Register a task before it runs.

        Returns:
            True if the task is new; False if it must not run, because its result is on its way.
        """
        if self.note_duplicate(task.key):
            return False
        entry = self._entries[task.key] = _Entry()
        message = await self._journal.begin(task)
        if message is None:
            entry.task = task
            return True
        if message == DAMAGED:
            logger.error("the stored result of task %s is damaged", quote(task.id))
            await self.put(self._fail(task, _DAMAGED))
            return False
        logger.info("task %s was redelivered; its result is sent again", quote(task.id))
        self._start_delivery(task.key, entry, message)
        return False

    def note_duplicate(self, key: TaskKey) -> bool:
        """Have a redelivered task's result sent again.

        Returns:
            True if the task runs now, or its result is on its way; False if the task is unknown.
        """
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.resend = True
        return True

    async def put(self, result: TaskResult) -> None:
        """Store a task's result and start its delivery."""
        task = result.task
        if len(task.payload) + len(task.account) > _MAX_ECHO:
            # The bytes that are not UTF-8 need three times as many.
            result = self._fail(_without_large_parts(task), _TASK_TOO_LARGE)
        message = encode_result(result, self._provider)
        entry = self._entries[task.key]
        entry.task = None
        await self._journal.finish(task.key, message)
        self._start_delivery(task.key, entry, message)

    def _start_delivery(self, key: TaskKey, entry: _Entry, message: bytes) -> None:
        self._set_message(entry, message)
        entry.put_at = asyncio.get_running_loop().time()
        entry.delivery = self._events.spawn(self._deliver(key, entry))

    async def _deliver(self, key: TaskKey, entry: _Entry) -> None:
        """Send a result until no further attempt is needed, then forget the task."""
        backoff = Backoff(*_PAUSES)
        entry.resend = True
        while entry.resend:
            # If the hub redelivers the task during this attempt, another attempt follows: the hub
            # may already have given up on this attempt.
            entry.resend = False
            try:
                await self._hub.submit(entry.message, key[1])
            except ResultRefused as error:
                await self._on_refused(key, entry, error)
            except HubError as error:
                self._events.on_error(error)
                entry.resend = True
                await self._wait_before_retry(backoff)
            else:
                self._journal.mark_delivered(key, entry.message)
        del self._entries[key]
        self._set_message(entry, b"")

    async def _wait_before_retry(self, backoff: Backoff) -> None:
        if self._draining.done():
            await asyncio.sleep(backoff.next())
            return
        await asyncio.wait([self._draining], timeout=backoff.next())
        if self._draining.done():
            backoff.reset()

    async def _on_refused(self, key: TaskKey, entry: _Entry, error: ResultRefused) -> None:
        result = decode_result(entry.message, attempt=key[1])
        # The hub may quote the account in its error.
        reason = redact(str(error), find_secrets_in_json(result.task.account))
        logger.error("the hub refuses the result of task %s for good: %s", quote(key[0]), reason)
        self._journal.mark_refused(key, entry.message, reason)
        self._events.on_refused(result, error)
        if isinstance(error, ResultTooLarge):
            error_result = self._fail(_without_large_parts(result.task), _TOO_LARGE)
            small = encode_result(error_result, self._provider)
            if len(small) < len(entry.message):
                await self._journal.finish(key, small)
                self._set_message(entry, small)
                entry.resend = True

    def _set_message(self, entry: _Entry, message: bytes) -> None:
        results = bool(message) - bool(entry.message)
        size = len(message) - len(entry.message)
        entry.message = message
        self._capacity.update(results, size)

    # The start and the end of a run.

    async def recover(self) -> None:
        """Report an earlier run's unfinished tasks as interrupted, and send its stored results."""
        tasks = await self._journal.interrupted_tasks()
        for task in tasks:
            self._entries[task.key] = _Entry(task)
        # Not only stored: on a full disk, they are sent from memory.
        await asyncio.gather(*(self.put(self._fail(task, _INTERRUPTED)) for task in tasks))
        if tasks:
            logger.warning(
                "an earlier run left %s unfinished; the hub gets an error for each",
                format_count(len(tasks), "task"),
            )
        self._recovery = self._events.spawn(self._send_stored())

    async def _send_stored(self) -> None:
        number = 0
        while (stored := await self._journal.next_stored(number)) is not None:
            number = stored.number
            if stored.key not in self._entries:
                entry = self._entries[stored.key] = _Entry()
                if stored.is_damaged or not _is_result(stored):
                    await self._replace_damaged(stored)
                else:
                    self._start_delivery(stored.key, entry, stored.message)
            await self._capacity.wait_below(_MAX_STORED_AT_ONCE)

    async def _replace_damaged(self, stored: StoredResult) -> None:
        """Send an error in place of a damaged result, which is kept as a dead letter."""
        logger.error(
            "the stored result of task %s is damaged; the hub gets an error, and the spool keeps "
            "the result as a dead letter",
            quote(stored.id),
        )
        self._journal.mark_refused(stored.key, stored.message, "damaged on the disk, never sent")
        task = Task(stored.id, stored.action, attempt=stored.attempt)
        await self.put(self._fail(task, _DAMAGED))

    def start_draining(self) -> None:
        """Retry each result at once, then with short pauses; leave stored results to a next run."""
        self._draining.set_result(None)
        assert self._recovery is not None  # `recover` comes first
        self._recovery.cancel()

    async def interrupt(self) -> None:
        """Put an error as the result of each task that still runs: its outcome stays unknown."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        await asyncio.gather(*(self.put(self._fail(task, _INTERRUPTED)) for task in tasks))

    async def flush(self, timeout: float, patience: float = math.inf) -> None:
        """Wait until the hub has every result.

        Args:
            timeout: Seconds to wait at most.
            patience: Seconds to wait at most in which the hub accepts no result.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout
        deliveries, waiting = self._deliveries(), math.inf
        while deliveries and len(deliveries) < waiting and loop.time() < ends_at:
            waiting = len(deliveries)
            await asyncio.wait(deliveries, timeout=min(patience, ends_at - loop.time()))
            deliveries = self._deliveries()

    async def close(self) -> None:
        """Stop sending, and close the journal."""
        deliveries = self._deliveries()
        for delivery in deliveries:
            delivery.cancel()
        if deliveries:
            await asyncio.wait(deliveries)
        await self._journal.close()

    def _deliveries(self) -> list[asyncio.Task[None]]:
        entries = self._entries.values()
        return [entry.delivery for entry in entries if entry.delivery is not None]

    @property
    def keys(self) -> list[TaskKey]:
        """The keys of all tasks that run, or whose results the hub does not have."""
        return list(self._entries)

    @property
    def in_flight(self) -> int:
        """How many tasks run."""
        return sum(entry.task is not None for entry in self._entries.values())

    @property
    def waiting_bytes(self) -> int:
        """The bytes of all results that the hub does not have."""
        return self._capacity.bytes

    @property
    def oldest_put_at(self) -> float | None:
        """The event loop's time when the oldest result that waits was put; None without results."""
        times = [entry.put_at for entry in self._entries.values() if entry.message]
        return min(times, default=None)

    @property
    def undelivered(self) -> list[str]:
        """The ids of tasks whose results the hub does not have, sorted."""
        return [name for name, _ in self._undelivered_keys()]

    @property
    def lost(self) -> list[str]:
        """The ids of undelivered results that no later start can send, since none is on disk."""
        return [key[0] for key in self._undelivered_keys() if not self._journal.is_durable(key)]

    def _undelivered_keys(self) -> list[TaskKey]:
        return sorted(key for key, entry in self._entries.items() if entry.message)


def _is_result(stored: StoredResult) -> bool:
    try:
        return decode_result(stored.message).id == stored.id
    except Exception:  # of protobuf, of JSON, or of a missing field
        return False


def _without_large_parts(task: Task) -> Task:
    return attrs.evolve(
        task, payload=_drop_if_large(task.payload), account=_drop_if_large(task.account)
    )


def _drop_if_large(content: bytes) -> bytes:
    return content if len(content) <= _MAX_REPEATED else b""
