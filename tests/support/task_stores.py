"""Each kind of store for a hub's tasks, on a bench that lets time pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from arbprov.localhub.store import Store
from arbprov.localhub.tasks import NewTask

from .postgres_databases import new_database

BEGIN = 1_700_000_000.0


@attrs.define(eq=False)
class Bench:
    """An open store.

    Attributes:
        store: The store.
        advance: Lets so many seconds pass for the store.
        open_again: Opens the store once more, after it was closed; None if it is not durable.
    """

    store: Store
    advance: Callable[[float], Awaitable[None]]
    open_again: Callable[[], Awaitable[Store]] | None = None

    @property
    def is_durable(self) -> bool:
        return self.open_again is not None

    async def reopen(self) -> None:
        """Close the store, and open it again."""
        assert self.open_again is not None
        await self.store.close()
        self.store = await self.open_again()

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, and have the store do what is due then."""
        await self.advance(seconds)
        while (await self.store.upkeep()).next_in == 0:
            pass


class FakeTime:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        self.now += seconds


async def open_memory(folder: Path) -> Bench:
    from arbprov.localhub.stores.sqlite import SqliteStore

    clock = FakeTime()
    store = SqliteStore(None, clock=clock)
    await store.open(lambda: None)
    return Bench(store, clock.advance)


async def open_sqlite(folder: Path) -> Bench:
    from arbprov.localhub.stores.sqlite import SqliteStore

    clock = FakeTime()

    async def open_file() -> Store:
        store = SqliteStore(folder / "hub.sqlite", clock=clock)
        await store.open(lambda: None)
        return store

    return Bench(await open_file(), clock.advance, open_file)


async def open_postgres(folder: Path) -> Bench:
    from arbprov.localhub.stores.postgres import PostgresStore

    database = new_database(clock=True)

    async def open_database() -> Store:
        store = PostgresStore(database.url)
        await store.open(lambda: None)
        return store

    return Bench(await open_database(), database.advance, open_database)


# How to open an empty store of each kind, with a folder to keep files in.
STORES: dict[str, Callable[[Path], Awaitable[Bench]]] = {
    "memory": open_memory,
    "sqlite": open_sqlite,
    "postgres": open_postgres,
}


def new_task(id: str, **values: object) -> NewTask:
    """Return a task of the account "a" and the action "act", unless told otherwise."""
    return NewTask(**{"id": id, "action": "act", "account_key": "a"} | values)
