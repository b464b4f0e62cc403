"""Runs the changes of a hub's SQLite file on one thread: waiting changes share a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from arbprov.errors import HubError
from arbprov.localhub.stores.sqlite_tasks import Tasks

__all__ = ["Transactions", "Writer"]

T = TypeVar("T")

# How many changes one transaction has at most, so that the first need not wait long for the last.
_MAX_CHANGES = 1_000


class Transactions:
    """Makes changes in transactions, on one connection.

    Args:
        database: The connection.
        name: The store, for errors.

    >>> from arbprov.localhub.stores.sqlite_files import open_memory
    >>> Transactions(open_memory(), "memory").run(lambda tasks: tasks.remove_token("a"))
    False
    """

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        self._name = name
        self._tasks = Tasks(database)

    def run(self, change: Callable[[Tasks], T]) -> T:
        """Make a change in a transaction of its own; return what it returned.

        Raises:
            HubError: The change was not made, in no part; it may be tried again.
        """
        return self.run_all([change])[0]  # type: ignore[no-any-return]

    def run_all(self, changes: Sequence[Callable[[Tasks], Any]]) -> list[Any]:
        """Make all changes in one transaction, or none; return what each returned.

        Raises:
            HubError: The database failed.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            returned = [change(self._tasks) for change in changes]
            self._tasks.flush()
            self._database.execute("COMMIT")
        except BaseException as error:
            self._tasks.discard()
            # SQLite itself rolls back after some errors.
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise HubError(f"the store {self._name} cannot be written: {error}") from error
            raise
        return returned

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


@attrs.frozen
class _Change:
    """A change that waits, and the future that gets what it returns."""

    make: Callable[[Tasks], Any]
    future: asyncio.Future[Any]


class Writer:
    """Makes changes on a thread; the changes that wait when a transaction begins share it.

    Args:
        transactions: Makes them.

    Attributes:
        thread: The thread.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._is_closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.thread = threading.Thread(target=self._run, name="arbprov-hub-store", daemon=True)
        self.thread.start()

    def submit(self, change: Callable[[Tasks], T]) -> asyncio.Future[T]:
        """Return a future of what a change returns, once that is on disk.

        Raises:
            HubError: The writer is closed.
        """
        if self._is_closed:
            raise HubError("the hub's store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Change(change, future))
        return future

    async def close(self) -> None:
        """Make the changes that wait, and end the thread."""
        self._is_closed = True
        self._waiting.put(None)
        await self._ended

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < _MAX_CHANGES:
                    batch.append(self._waiting.get_nowait())
            changes = [change for change in batch if change is not None]
            is_open = len(changes) == len(batch)
            if changes:
                self._call(_settle, changes, self._make(changes))
        self._transactions.close()
        self._call(self._ended.set_result, None)

    def _make(self, changes: Sequence[_Change]) -> list[Any]:
        """Return the outcome of each change."""
        try:
            return self._transactions.run_all([change.make for change in changes])
        except Exception as error:
            if len(changes) == 1:
                return [error]
        # A change that fails must not fail the others, nor cost each of them a transaction.
        half = len(changes) // 2
        return self._make(changes[:half]) + self._make(changes[half:])

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        # A loop that was closed waits for nothing.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


def _settle(changes: Sequence[_Change], outcomes: Sequence[Any]) -> None:
    for change, outcome in zip(changes, outcomes, strict=True):
        if change.future.done():
            continue
        if isinstance(outcome, Exception):
            change.future.set_exception(outcome)
        else:
            change.future.set_result(outcome)
