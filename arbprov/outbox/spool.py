"""A journal on disk: tasks and results outlive the process."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import attrs

from arbprov._utils import quote
from arbprov.backoff import Backoff
from arbprov.errors import ProviderError
from arbprov.outbox.journal import ResultCache, StoredResult
from arbprov.outbox.sqlite import SpoolFile
from arbprov.task import Task, TaskKey

__all__ = ["Spool"]

logger = logging.getLogger("arbprov")

T = TypeVar("T")

# Seconds between attempts to write to a full disk: a backoff's first ceiling, and its cap.
_PAUSES = (2.0, 10.0)
# SQLite refuses a value, and will refuse it again: it is too large, or cannot be stored at all.
_NEVER_WORKS = (sqlite3.DataError, OverflowError, UnicodeEncodeError)
# In place of a task's key; no task has an empty id.
_NO_KEY = ("", 0)


@attrs.define(eq=False)
class _Change:
    """A pending change of the file.

    Attributes:
        key: The task's key; `_NO_KEY` if the change must be made although the hub has the result.
        apply: Makes the change.
        outcome: Gets whether the first attempt worked; None if nothing waits for that.
        returned: The value that `apply` returned.
    """

    key: TaskKey
    apply: Callable[[], Any]
    outcome: asyncio.Future[bool] | None = None
    returned: Any = None


class Spool:
    """Keeps tasks and results in an SQLite file; see `Journal`.

    One thread writes, and the changes of several tasks share a transaction. Changes that cannot be
    written now stay in memory, and are retried until they are written.

    Args:
        path: Path of the file, which is created if it does not exist.
        executor: Runs the blocking calls one after the other; by default, a thread of its own.
        options: Options of `SpoolFile`.

    Raises:
        ConfigurationError: The file cannot be used.

    >>> import tempfile
    >>> async def run(path: str) -> bytes | None:
    ...     spool = Spool(path)
    ...     await spool.begin(Task("t1", "forecast"))
    ...     await spool.finish(("t1", 0), b"result")
    ...     redelivered = await spool.begin(Task("t1", "forecast"))
    ...     await spool.close()
    ...     return redelivered
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(run(f"{folder}/spool"))
    b'result'
    """

    def __init__(
        self, path: str | os.PathLike[str], *, executor: Executor | None = None, **options: Any
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self.ready = True
        self.on_change: Callable[[], object] = lambda: None
        self._file = SpoolFile(self.path, **options)
        self._executor = executor or ThreadPoolExecutor(1, "arbprov-spool")
        self._pending: list[_Change] = []
        self._writer: asyncio.Task[None] | None = None
        self._backoff = Backoff(*_PAUSES)
        # Results that the hub accepted while the file could not be written.
        self._cache = ResultCache()
        # Tasks that the file cannot store, such as a task of more than a billion bytes.
        self._unstored: set[TaskKey] = set()
        self._closing = asyncio.Event()

    async def begin(self, task: Task) -> bytes | None:
        """Store a task before it runs; see `Journal.begin`."""
        message = self._cache.get(task.key)
        if message is not None:
            return message
        change = _Change(task.key, functools.partial(self._file.begin, task))
        if await self._write(change):
            returned: bytes | None = change.returned
            return returned
        with contextlib.suppress(sqlite3.Error):
            return await self._run(functools.partial(self._file.find_result, task.key))
        return None

    async def finish(self, key: TaskKey, message: bytes) -> None:
        """Store a task's result; see `Journal.finish`."""
        await self._write(_Change(key, functools.partial(self._file.finish, key, message)))

    def mark_delivered(self, key: TaskKey, message: bytes) -> None:
        """Record that the hub has a result; see `Journal.mark_delivered`."""
        if (self.ready and key not in self._unstored) or self.is_durable(key):
            self._add(_Change(key, functools.partial(self._file.mark_delivered, key, message)))
            return
        # The result need not be written any more, and on a full disk it may never fit.
        self._cache.add(key, message)
        self._unstored.discard(key)
        self._pending = [change for change in self._pending if change.key != key]
        self._add(_Change(key, functools.partial(self._file.forget, key)))

    def mark_refused(self, key: TaskKey, message: bytes, reason: str) -> None:
        """Keep a result as a dead letter; see `Journal.mark_refused`."""
        write = functools.partial(self._file.mark_refused, key, message, reason)
        self._add(_Change(_NO_KEY, write))

    def is_durable(self, key: TaskKey) -> bool:
        """Return whether everything known of a task is on disk."""
        return key not in self._unstored and all(change.key != key for change in self._pending)

    async def interrupted_tasks(self) -> Sequence[Task]:
        """Return the tasks that an earlier run started and did not finish."""
        return await self._read(self._file.interrupted_tasks)

    async def next_stored(self, after: int) -> StoredResult | None:
        """Return the next result for the hub; see `Journal.next_stored`."""
        return await self._read(functools.partial(self._file.next_stored, after))

    async def close(self) -> None:
        """Try once more to write pending changes, and close the file."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._writer is not None:
            await self._writer
        await self._run(self._file.close)
        self._executor.shutdown(wait=False)

    # Writing.

    async def _write(self, change: _Change) -> bool:
        """Add a change; return whether the first attempt to write it worked."""
        if self.ready and not self._closing.is_set():
            change.outcome = asyncio.get_running_loop().create_future()
        self._add(change)
        return change.outcome is not None and await change.outcome

    def _add(self, change: _Change) -> None:
        self._pending.append(change)
        if self._closing.is_set():
            return
        if self._writer is None or self._writer.done():
            # In no task's context: it writes the changes of all tasks.
            create_task = asyncio.get_running_loop().create_task
            self._writer = contextvars.Context().run(lambda: create_task(self._write_all()))

    async def _write_all(self) -> None:
        while self._pending and (await self._write_batch() or await self._pause()):
            pass

    async def _pause(self) -> bool:
        """Wait before a retry; return False if there is none because the spool is closing."""
        if self._closing.is_set():
            return False
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._backoff.next())
        return True

    async def _write_batch(self) -> bool:
        """Write all pending changes in one transaction; return whether that worked."""
        # Changes that are added during this transaction are written in the next.
        batch = list(self._pending)
        try:
            try:
                values = await self._run(
                    lambda: self._file.commit([change.apply for change in batch])
                )
            except _NEVER_WORKS:
                await self._drop_impossible(batch)
                return True
        except Exception as error:
            if self.ready:
                logger.error(
                    "the spool at %s can't be written: %s; results are kept in memory, and no "
                    "task is fetched until it can be written again",
                    self.path,
                    error,
                )
                self._set_ready(False)
            _set_outcome(self._pending, False)
            return False
        for change, value in zip(batch, values, strict=True):
            change.returned = value
        written = set(batch)
        self._pending = [change for change in self._pending if change not in written]
        _set_outcome(batch, True)
        self._backoff.reset()
        if not self.ready:
            logger.warning("the spool at %s can be written again", self.path)
            self._set_ready(True)
        return True

    async def _drop_impossible(self, batch: Iterable[_Change]) -> None:
        """Drop the changes whose values SQLite refuses, so that the next batch works."""
        for change in batch:
            try:
                # The next batch makes the changes that work.
                await self._run(functools.partial(self._file.attempt, change.apply))
            except _NEVER_WORKS as error:
                logger.error(
                    "task %s can't be stored in the spool at %s: %s; it is kept in memory only",
                    quote(change.key[0]),
                    self.path,
                    error,
                )
                self._unstored.add(change.key)
                self._pending = [other for other in self._pending if other is not change]
                _set_outcome([change], False)

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        self.on_change()

    async def _read(self, query: Callable[[], T]) -> T:
        try:
            return await self._run(query)
        except sqlite3.Error as error:
            raise ProviderError(f"the spool at {self.path} can't be read: {error}") from error

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _set_outcome(changes: Iterable[_Change], worked: bool) -> None:
    for change in changes:
        if change.outcome is not None and not change.outcome.done():
            change.outcome.set_result(worked)
