"""Journals remember tasks and results, so that no task runs twice and no result is lost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from arbprov._utils import MEBIBYTE
from arbprov.task import Task, TaskKey

__all__ = ["DAMAGED", "Journal", "MemoryJournal", "ResultCache", "StoredResult"]

# In place of a result that the disk has damaged.
DAMAGED = b""


@attrs.frozen
class StoredResult:
    """A stored result that the hub does not have yet.

    Attributes:
        number: Its task's place in the order of arrival.
        id: The task's id.
        message: The encoded result.
        action: The task's action.
        is_damaged: Whether the disk has damaged the result.
        attempt: The hub's number of the task's attempt.

    >>> StoredResult(1, "t1", b"...", "forecast")
    StoredResult(number=1, id='t1', action='forecast', is_damaged=False, attempt=0)
    """

    number: int
    id: str
    message: bytes = attrs.field(repr=False)
    action: str = ""
    is_damaged: bool = False
    attempt: int = 0

    @property
    def key(self) -> TaskKey:
        """The task's id and attempt; see `arbprov.task.Task.key`."""
        return self.id, self.attempt


class Journal(Protocol):
    """Remembers each task from its arrival until some time after the hub has its result.

    Tasks are told apart by their keys: another attempt of a task has the same id, and is new.

    Attributes:
        ready: Whether it can store tasks and results now; if not, polling stops.
        on_change: Called after each change of `ready`.
    """

    ready: bool
    on_change: Callable[[], object]

    async def begin(self, task: Task) -> bytes | None:
        """Store a task before it runs.

        Returns:
            The task's result if it has run before, or `DAMAGED`; None if it is new.
        """
        ...

    async def finish(self, key: TaskKey, message: bytes) -> None:
        """Store a task's result; it may be sent once this returns."""
        ...

    def mark_delivered(self, key: TaskKey, message: bytes) -> None:
        """Record that the hub has a result."""
        ...

    def mark_refused(self, key: TaskKey, message: bytes, reason: str) -> None:
        """Record that the hub refuses a result for good, and keep it as a dead letter."""
        ...

    def is_durable(self, key: TaskKey) -> bool:
        """Return whether everything known of a task is on disk."""
        ...

    async def interrupted_tasks(self) -> Sequence[Task]:
        """Return the tasks that an earlier run started and did not finish."""
        ...

    async def next_stored(self, after: int) -> StoredResult | None:
        """Return the next result for the hub, by number, or None.

        Args:
            after: Number of the result before; 0 for the first result.
        """
        ...

    async def close(self) -> None:
        """Write pending changes and close the journal."""
        ...


class ResultCache:
    """The latest results, up to a number and a size; the oldest are dropped.

    Args:
        max_results: How many results to keep.
        max_bytes: Bytes of all kept results together.

    >>> cache = ResultCache(max_results=2)
    >>> for id in ("a", "b", "c"):
    ...     cache.add((id, 0), b"result")
    >>> cache.get(("a", 0)), cache.get(("c", 0))
    (None, b'result')
    """

    def __init__(self, max_results: int = 10_000, max_bytes: int = 16 * MEBIBYTE) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._bytes = 0
        self._messages: OrderedDict[TaskKey, bytes] = OrderedDict()

    def get(self, key: TaskKey) -> bytes | None:
        """Return a task's result, or None."""
        return self._messages.get(key)

    def add(self, key: TaskKey, message: bytes) -> None:
        """Keep a result as the latest, and drop the oldest results beyond the limits."""
        self._bytes += len(message) - len(self._messages.pop(key, b""))
        self._messages[key] = message
        while self._bytes > self._max_bytes or len(self._messages) > self._max_results:
            self._bytes -= len(self._messages.popitem(last=False)[1])


class MemoryJournal:
    """A journal in memory: it knows the tasks of this process only; see `Journal`.

    Args:
        cache: Keeps the results that the hub has, or refuses.

    >>> import asyncio
    >>> journal = MemoryJournal()
    >>> journal.mark_delivered(("t1", 0), b"result")
    >>> asyncio.run(journal.begin(Task("t1", "forecast")))
    b'result'
    """

    def __init__(self, cache: ResultCache | None = None) -> None:
        self.ready = True
        self.on_change: Callable[[], object] = lambda: None
        self._cache = cache or ResultCache()

    async def begin(self, task: Task) -> bytes | None:
        """Return the task's result if it is cached; see `Journal.begin`."""
        return self._cache.get(task.key)

    async def finish(self, key: TaskKey, message: bytes) -> None:
        """Do nothing: the outbox has the result in memory."""

    def mark_delivered(self, key: TaskKey, message: bytes) -> None:
        """Cache a result that the hub has."""
        self._cache.add(key, message)

    def mark_refused(self, key: TaskKey, message: bytes, reason: str) -> None:
        """Cache a result that the hub refuses; memory has no dead letters."""
        self._cache.add(key, message)

    def is_durable(self, key: TaskKey) -> bool:
        """Return False: nothing is on disk."""
        return False

    async def interrupted_tasks(self) -> Sequence[Task]:
        """Return nothing: no earlier run is known."""
        return ()

    async def next_stored(self, after: int) -> StoredResult | None:
        """Return None: no earlier run is known."""
        return None

    async def close(self) -> None:
        """Do nothing."""
