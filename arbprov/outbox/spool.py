"""A journal on disk: what was begun and what came of it outlives the process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import attrs

from arbprov.backoff import Backoff
from arbprov.errors import ProviderError
from arbprov.outbox.journal import ResultCache, StoredResult
from arbprov.outbox.sqlite import SpoolFile
from arbprov.task import Task

__all__ = ["Spool"]

logger = logging.getLogger("arbprov")

T = TypeVar("T")

# Between tries to write to a disk that is full, in seconds.
_PAUSES = (2.0, 10.0)


@attrs.define(eq=False)
class _Change:
    """Something to write; `id` is the task it is dropped with, if any."""

    id: str
    make: Callable[[], Any]
    # Whether it could be written at the first try, for who waits for that.
    written: asyncio.Future[bool] | None = None
    returned: Any = None


class Spool:
    """Keeps tasks and results in an SQLite file; see `Journal`.

    What several tasks have to write at a time is one transaction, on a thread. What can't be
    written is kept in memory, and tried again until it can.

    Args:
        path: Where the file is, or will be made.
        executor: Runs what blocks, one after the other; a thread, if not given.
        options: Of `SpoolFile`.

    Raises:
        ConfigurationError: The file can't be used.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, executor: Executor | None = None, **options: Any
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self.ready = True
        self.on_change: Callable[[], object] = lambda: None
        self._file = SpoolFile(self.path, **options)
        self._executor = executor or ThreadPoolExecutor(1, "arbprov-spool")
        self._unwritten: list[_Change] = []
        self._writer: asyncio.Task[None] | None = None
        self._pause = Backoff(*_PAUSES)
        # What the hub has taken while it could not be written.
        self._recent = ResultCache()
        self._closing = asyncio.Event()

    async def begin(self, task: Task) -> bytes | None:
        """Note that a task has come; see `Journal.begin`."""
        known = self._recent.get(task.id)
        if known is not None:
            return known
        change = _Change(task.id, functools.partial(self._file.begin, task))
        if await self._write(change):
            returned: bytes | None = change.returned
            return returned
        with contextlib.suppress(sqlite3.Error):
            return await self._call(functools.partial(self._file.result_of, task.id))
        return None

    async def finish(self, id: str, message: bytes) -> None:
        """Keep a task's result; see `Journal.finish`."""
        await self._write(_Change(id, functools.partial(self._file.finish, id, message)))

    def delivered(self, id: str, message: bytes) -> None:
        """Note that the hub has a result; see `Journal.delivered`."""
        if self.ready or self.survives(id):
            self._add(_Change(id, functools.partial(self._file.delivered, id, message)))
            return
        # There is no need to write it any more, and on a full disk there may never be room for it.
        self._recent.keep(id, message)
        self._unwritten = [change for change in self._unwritten if change.id != id]
        self._add(_Change(id, functools.partial(self._file.forget, id)))

    def refused(self, id: str, message: bytes, reason: str) -> None:
        """Keep a result as a dead letter; see `Journal.refused`."""
        self._add(_Change("", functools.partial(self._file.refused, id, message, reason)))

    def survives(self, id: str) -> bool:
        """Return whether all that is known of a task is written."""
        return all(change.id != id for change in self._unwritten)

    async def interrupted(self) -> Sequence[Task]:
        """Return the tasks that an earlier run has begun and not finished."""
        return await self._read(self._file.interrupted)

    async def next_stored(self, after: int) -> StoredResult | None:
        """Return the next result for the hub; see `Journal.next_stored`."""
        return await self._read(functools.partial(self._file.next_stored, after))

    async def close(self) -> None:
        """Try once more to write what is not written, and close the file."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._writer is not None:
            await self._writer
        await self._call(self._file.close)
        self._executor.shutdown(wait=False)

    async def _write(self, change: _Change) -> bool:
        """Write a change; return whether that could be done. If not, it is tried again."""
        if self.ready and not self._closing.is_set():
            change.written = asyncio.get_running_loop().create_future()
        self._add(change)
        return change.written is not None and await change.written

    def _add(self, change: _Change) -> None:
        self._unwritten.append(change)
        if self._closing.is_set():
            return
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._unwritten and (await self._write_once() or await self._waited()):
            pass

    async def _waited(self) -> bool:
        """Wait until it is time for the next try; return False if there is none."""
        if self._closing.is_set():
            return False
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._pause.next())
        return True

    async def _write_once(self) -> bool:
        # What is added while this is written is the next transaction.
        batch = list(self._unwritten)
        try:
            returned = await self._call(lambda: self._file.commit([one.make for one in batch]))
        except Exception as error:
            self._failed(error)
            return False
        for change, value in zip(batch, returned, strict=True):
            change.returned = value
        written = set(batch)
        self._unwritten = [change for change in self._unwritten if change not in written]
        self._settle(batch, True)
        self._worked()
        return True

    def _settle(self, changes: Sequence[_Change], written: bool) -> None:
        for change in changes:
            if change.written is not None and not change.written.done():
                change.written.set_result(written)

    def _failed(self, error: Exception) -> None:
        if self.ready:
            logger.error(
                "the spool at %s can't be written: %s; results are kept in memory, and no task "
                "is fetched until it can be written again",
                self.path,
                error,
            )
            self.ready = False
            self.on_change()
        self._settle(self._unwritten, False)

    def _worked(self) -> None:
        self._pause.reset()
        if not self.ready:
            logger.warning("the spool at %s can be written again", self.path)
            self.ready = True
            self.on_change()

    async def _read(self, look: Callable[[], T]) -> T:
        try:
            return await self._call(look)
        except sqlite3.Error as error:
            raise ProviderError(f"the spool at {self.path} can't be read: {error}") from error

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
