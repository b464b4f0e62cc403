"""`SqliteStore`: keeps a hub's tasks in an SQLite file, or in memory."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from arbprov.errors import HubError
from arbprov.localhub.store import Accepted, Due, StoredToken
from arbprov.localhub.stores.sqlite_files import (
    claim_files,
    open_memory,
    open_reader,
    open_writer,
)
from arbprov.localhub.stores.sqlite_reads import Reads
from arbprov.localhub.stores.sqlite_tasks import Tasks
from arbprov.localhub.stores.sqlite_writer import Transactions, Writer
from arbprov.localhub.tasks import (
    Attempt,
    Delivery,
    Ending,
    NewTask,
    Outcome,
    Pause,
    ReceivedResult,
    Scope,
    State,
    StoredTask,
    TaskFilter,
)

__all__ = ["SqliteStore"]

T = TypeVar("T")

_READERS = 2


class _Database(Protocol):
    """An open database."""

    async def write(self, change: Callable[[Tasks], T]) -> T:
        """Make a change; return what it returned once that is durable."""
        ...

    async def read(self, query: Callable[[Reads], T]) -> T:
        """Return the rows of a query."""
        ...

    async def close(self) -> None:
        """Finish what was begun, and close the database."""
        ...


class _Memory:
    """A database in memory: each call takes microseconds, so none needs a thread."""

    def __init__(self) -> None:
        database = open_memory()
        self._reads = Reads(database)
        self._transactions = Transactions(database, "memory")

    async def write(self, change: Callable[[Tasks], T]) -> T:
        return self._transactions.run(change)

    async def read(self, query: Callable[[Reads], T]) -> T:
        return query(self._reads)

    async def close(self) -> None:
        self._transactions.close()


class _File:
    """A database in a file: one thread writes, others read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = claim_files(path)
        try:
            self._writer = Writer(Transactions(open_writer(path), f"at {path}"))
        except BaseException:
            self._lock.close()
            raise
        self._readers = ThreadPoolExecutor(_READERS, "arbprov-hub-reader")
        self._reader = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def write(self, change: Callable[[Tasks], T]) -> T:
        return await self._writer.submit(change)

    async def read(self, query: Callable[[Reads], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._readers, self._read, query
            )
        except sqlite3.Error as error:
            raise HubError(f"the store at {self._path} cannot be read: {error}") from error

    def _read(self, query: Callable[[Reads], T]) -> T:
        if not hasattr(self._reader, "reads"):
            connection = open_reader(self._path)
            self._connections.append(connection)
            self._reader.reads = Reads(connection)
        return query(self._reader.reads)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        # The writer is the last connection, which writes all of the log into the file.
        await self._writer.close()
        self._lock.close()


class SqliteStore:
    """A hub's store in an SQLite file of its own, or in memory.

    Both run the same SQL, so both behave the same. A file belongs to one hub; what a call returned
    is on its disk.

    Args:
        path: Path of the file, which is created if it does not exist; None keeps all in memory.
        clock: Returns the time in seconds since 1970.

    >>> async def main():
    ...     store = SqliteStore(None)
    ...     await store.open(lambda: None)
    ...     await store.submit([NewTask(id="t1", action="forecast")])
    ...     [task] = await store.claim("weather", 1, lease=60.0)
    ...     outcomes = await store.record([ReceivedResult(id="t1", attempt=task.attempt)])
    ...     await store.close()
    ...     return outcomes
    >>> asyncio.run(main())
    [<Outcome.RECORDED: 'recorded'>]
    """

    is_shared = False

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self.name = "memory" if path is None else f"sqlite:{path}"
        self._path = None if path is None else path.absolute()
        self._clock = clock
        self._database: _Database | None = None
        # Tasks that a claim found too late to start, for the next `upkeep` to tell of.
        self._expired: list[str] = []

    async def open(self, on_change: Callable[[], None]) -> None:
        """See `Store.open`; no other hub can change this store."""
        self._database = _Memory() if self._path is None else _File(self._path)

    async def close(self) -> None:
        """See `Store.close`."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    def _write(self, change: Callable[[Tasks], T]) -> Awaitable[T]:
        return self._open_database().write(change)

    def _read(self, query: Callable[[Reads], T]) -> Awaitable[T]:
        return self._open_database().read(query)

    def _open_database(self) -> _Database:
        if self._database is None:
            raise HubError(f"the store {self.name} is not open")
        return self._database

    # Tasks on their way.

    async def submit(self, tasks: Sequence[NewTask]) -> list[Accepted]:
        """See `Store.submit`."""
        now = self._clock()
        return await self._write(lambda changes: changes.submit(tasks, now))

    async def claim(self, provider: str, count: int, lease: float) -> list[Delivery]:
        """See `Store.claim`."""
        deliveries, expired = await self._write(
            lambda changes: changes.claim(provider, count, lease, self._clock())
        )
        self._expired += expired
        return deliveries

    async def give_back(self, deliveries: Sequence[tuple[str, int]]) -> None:
        """See `Store.give_back`."""
        await self._write(lambda changes: changes.give_back(deliveries, self._clock()))

    async def record(self, results: Sequence[ReceivedResult]) -> list[Outcome]:
        """See `Store.record`."""
        return await self._write(lambda changes: changes.record(results, self._clock()))

    async def renew(
        self, provider: str, tasks: Sequence[tuple[str, int]], lease: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """See `Store.renew`."""
        return await self._write(
            lambda changes: changes.renew(provider, tasks, lease, self._clock())
        )

    async def upkeep(self) -> Due:
        """See `Store.upkeep`."""
        due = await self._write(lambda changes: changes.upkeep(self._clock()))
        expired, self._expired = self._expired, []
        return Due(due.ready, (*expired, *due.ended), due.next_in)

    async def prune(self, max_age: float, max_count: int) -> int:
        """See `Store.prune`."""
        return await self._write(lambda changes: changes.prune(max_age, max_count, self._clock()))

    # What people do.

    async def retry(self, ids: Sequence[str]) -> list[str]:
        """See `Store.retry`."""
        return await self._write(lambda changes: changes.retry(ids, self._clock()))

    async def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """See `Store.cancel`."""
        return await self._write(lambda changes: changes.cancel(ids, reason, self._clock()))

    async def pause(self, pause: Pause) -> None:
        """See `Store.pause`."""
        await self._write(lambda changes: changes.pause(pause, self._clock()))

    async def resume(self, pause: Pause) -> None:
        """See `Store.resume`."""
        await self._write(lambda changes: changes.resume(pause))

    # Reading.

    async def get(self, id: str) -> StoredTask | None:
        """See `Store.get`."""
        return await self._read(lambda reads: reads.get(id))

    async def ended(self, ids: Sequence[str]) -> list[StoredTask]:
        """See `Store.ended`."""
        return await self._read(lambda reads: reads.ended(ids))

    async def attempts(self, id: str) -> list[Attempt]:
        """See `Store.attempts`."""
        return await self._read(lambda reads: reads.attempts(id))

    async def search(
        self,
        where: TaskFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
        preview: int | None = None,
    ) -> list[StoredTask]:
        """See `Store.search`."""
        return await self._read(lambda reads: reads.search(where, before, after, limit, preview))

    async def count(
        self,
        where: TaskFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        most: int = 10_000,
    ) -> int:
        """See `Store.count`."""
        return await self._read(lambda reads: reads.count(where, before, after, most=most))

    async def find_end(
        self, where: TaskFilter, *, before: int | None = None, most: int
    ) -> int | None:
        """See `Store.find_end`."""
        return await self._read(lambda reads: reads.find_end(where, before, most))

    async def counts(self) -> Mapping[str, Mapping[State, int]]:
        """See `Store.counts`."""
        return await self._read(lambda reads: reads.counts())

    async def endings(self, limit: int) -> list[Ending]:
        """See `Store.endings`."""
        return await self._read(lambda reads: reads.endings(limit))

    async def held(self) -> list[Scope]:
        """See `Store.held`."""
        return await self._read(lambda reads: reads.held())

    async def pauses(self) -> list[Pause]:
        """See `Store.pauses`."""
        return await self._read(lambda reads: reads.pauses())

    async def position(self, id: str) -> int:
        """See `Store.position`."""
        return await self._read(lambda reads: reads.position(id))

    # Tokens.

    async def add_token(self, token: StoredToken) -> bool:
        """See `Store.add_token`."""
        return await self._write(lambda changes: changes.add_token(token))

    async def remove_token(self, name: str) -> bool:
        """See `Store.remove_token`."""
        return await self._write(lambda changes: changes.remove_token(name))

    async def tokens(self) -> list[StoredToken]:
        """See `Store.tokens`."""
        return await self._read(lambda reads: reads.tokens())
