"""A hub's SQLite file with many tasks: a block that a hub has made, and copies of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import time
from pathlib import Path

from arbprov.localhub.stores.sqlite import SqliteStore
from arbprov.localhub.submitting import make_task, read_result
from arbprov.localhub.tasks import Delivery, NewTask, ReceivedResult

__all__ = ["BLOCK", "RARE", "fill"]

BLOCK = 10_000
# In the payload of the first task of all.
RARE = "Reykjavik"

_ACTIONS = [f"action_{number}" for number in range(10)]
_ACCOUNTS = [f"account-{number:03}" for number in range(500)]
_CITIES = ["Lisbon", "Rome", "Paris", "Tokyo", "Nairobi", "Lima"]
_LEASE = 60.0
# Seconds between two blocks.
_APART = 30.0
_DONE = json.dumps({"message": "Action completed", "data": {"response": {"rows": 17}}})
_FAILED = json.dumps(
    {"message": "the API answered 502", "data": {"response": {"type": "ConnectionError"}}}
)


def fill(path: Path, count: int) -> None:
    """Make a store with tasks in all states, of 10 actions, 500 accounts and 2 providers.

    Of each block, nearly 500 tasks wait and 8 run; 300 of the others were handed out twice.

    Args:
        path: The file.
        count: How many tasks, in whole blocks.
    """
    asyncio.run(_make_block(path))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        for number in range(1, count // BLOCK):
            _copy_block(database, number)
        payload = json.dumps({"city": RARE})
        database.execute("UPDATE body SET payload = ? WHERE task = 1", [payload.encode()])
        database.execute(f"UPDATE counter SET n = n * {count // BLOCK}")
        database.commit()


async def _make_block(path: Path) -> None:
    chance = random.Random(1)
    now = time.time() - 3600.0
    store = SqliteStore(path, clock=lambda: now)
    await store.open(lambda: None)
    tasks = [_make_task(number, chance) for number in range(BLOCK)]
    await store.submit(tasks[:-508])
    # So many are handed out twice.
    await store.claim("weather", 300, _LEASE)
    now += _LEASE
    await store.upkeep()
    while deliveries := await store.claim(chance.choice(["weather", "orders"]), 1_000, _LEASE):
        now += 1.0
        await store.record([_make_result(delivery, chance) for delivery in deliveries])
    await store.submit(tasks[-508:])
    await store.cancel([task.id for task in tasks[-508:-490]], "not needed any more")
    # They run until long after the test.
    await store.claim("weather", 8, 1e6)
    await store.close()


def _make_task(number: int, chance: random.Random) -> NewTask:
    account = chance.choice(_ACCOUNTS)
    return make_task(
        chance.choice(_ACTIONS),
        {"number": number, "city": chance.choice(_CITIES), "note": "n" * chance.randrange(150)},
        account={"name": account, "api_key": f"key of {account}"},
        account_key=account,
        max_deliveries=1 if number % 100 == 0 else 10,
    )


def _make_result(delivery: Delivery, chance: random.Random) -> ReceivedResult:
    is_bad = chance.random() < 0.02
    status, envelope = ("error", _FAILED) if is_bad else ("success", _DONE)
    return read_result(delivery.id, status, envelope, attempt=delivery.attempt, provider="weather")


def _copy_block(database: sqlite3.Connection, number: int) -> None:
    """Copy the tasks of the first block with later numbers and times, and with other ids."""
    later = number * _APART
    for table in ("task", "body", "attempt"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        values = [
            {
                "id": f"'{number:04}' || id",
                "number": f"number + {number * BLOCK}",
                "task": f"task + {number * BLOCK}",
                "created_at": f"created_at + {later}",
                "started_at": f"started_at + {later}",
                "ended_at": f"ended_at + {later}",
            }.get(column, column)
            for column in columns
        ]
        key = "number" if table == "task" else "task"
        database.execute(
            f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table} WHERE {key} <= {BLOCK}"
        )
