"""What is remembered of tasks, so that none is run twice and no result is lost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from arbprov.task import Task

__all__ = ["Journal", "MemoryJournal", "ResultCache", "StoredResult"]

_MEBIBYTE = 1024 * 1024


@attrs.frozen
class StoredResult:
    """A result that waits for the hub; `number` says where it stands in the order they came."""

    number: int
    id: str
    message: bytes = attrs.field(repr=False)


class Journal(Protocol):
    """Remembers each task from when it came until some time after the hub has its result.

    Attributes:
        ready: Whether it can keep what it promises; if not, no new task should be fetched.
        on_change: Called whenever `ready` has changed.
    """

    ready: bool
    on_change: Callable[[], object]

    async def begin(self, task: Task) -> bytes | None:
        """Note that a task has come, before it runs; return its result if it had one already."""
        ...

    async def finish(self, id: str, message: bytes) -> None:
        """Keep a task's result; it may be sent from when this returns."""
        ...

    def delivered(self, id: str, message: bytes) -> None:
        """Note that the hub has a result."""
        ...

    def refused(self, id: str, message: bytes, reason: str) -> None:
        """Note that the hub will never take a result, and put that among the dead letters."""
        ...

    def survives(self, id: str) -> bool:
        """Return whether the next start will know of a task what this one knows."""
        ...

    async def interrupted(self) -> Sequence[Task]:
        """Return the tasks that an earlier run has begun and not finished."""
        ...

    async def next_stored(self, after: int) -> StoredResult | None:
        """Return the first result with a number above `after` that the hub has not taken."""
        ...

    async def close(self) -> None:
        """Write what is not written yet, and let go of all."""
        ...


class ResultCache:
    """The latest results, so many and so large at most; the oldest make room for new ones.

    Args:
        most: How many.
        most_bytes: How large all of them together.
    """

    def __init__(self, most: int = 10_000, most_bytes: int = 16 * _MEBIBYTE) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._messages: OrderedDict[str, bytes] = OrderedDict()

    def get(self, id: str) -> bytes | None:
        """Return a task's result, if it is one of the latest."""
        return self._messages.get(id)

    def keep(self, id: str, message: bytes) -> None:
        """Add a result as the latest one."""
        self._bytes += len(message) - len(self._messages.pop(id, b""))
        self._messages[id] = message
        while self._bytes > self._most_bytes or len(self._messages) > self._most:
            self._bytes -= len(self._messages.popitem(last=False)[1])


class MemoryJournal:
    """Remembers for as long as the process runs; see `Journal`.

    Args:
        recent: Keeps the results that the hub has, or has refused.
    """

    def __init__(self, recent: ResultCache | None = None) -> None:
        self.ready = True
        self.on_change: Callable[[], object] = lambda: None
        self._recent = recent or ResultCache()

    async def begin(self, task: Task) -> bytes | None:
        """Return the result of a task that was there before; see `Journal.begin`."""
        return self._recent.get(task.id)

    async def finish(self, id: str, message: bytes) -> None:
        """Do nothing: the outbox has the result in memory."""

    def delivered(self, id: str, message: bytes) -> None:
        """Keep a result as a recent one."""
        self._recent.keep(id, message)

    def refused(self, id: str, message: bytes, reason: str) -> None:
        """Keep a result as a recent one: there are no dead letters in memory."""
        self._recent.keep(id, message)

    def survives(self, id: str) -> bool:
        """Return False: memory ends with the process."""
        return False

    async def interrupted(self) -> Sequence[Task]:
        """Return nothing: no earlier run is known."""
        return ()

    async def next_stored(self, after: int) -> StoredResult | None:
        """Return nothing: no earlier run is known."""
        return None

    async def close(self) -> None:
        """Do nothing."""
