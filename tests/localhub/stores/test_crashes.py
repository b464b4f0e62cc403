"""A process that is killed at any time loses nothing that its store had returned."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import sqlite3
import subprocess
import sys

import pytest

from arbprov.localhub.stores.sqlite import SqliteStore
from arbprov.localhub.tasks import State, TaskFilter

# Reports each call that has returned; submits pairs, of which there must be both or none.
PROCESS = """
import asyncio
import itertools
import sys
from pathlib import Path

from arbprov.localhub.stores.sqlite import SqliteStore
from arbprov.localhub.tasks import NewTask, ReceivedResult


def report(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()


async def submit(store, name):
    for n in itertools.count():
        ids = [f"{name}-{n}-{part}" for part in "ab"]
        await store.submit(
            [
                NewTask(id=id, action="act", account_key=name, payload=b"x" * (n % 7 * 1000))
                for id in ids
            ]
        )
        report("submitted", *ids)


async def work(store):
    while True:
        for task in await store.claim("p", 3, 1e6):
            report("claimed", task.id)
            result = ReceivedResult(id=task.id, attempt=task.attempt, result=task.id)
            await store.record([result])
            report("recorded", task.id)
        await asyncio.sleep(0)


async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open(lambda: None)
    report("open")
    await asyncio.gather(
        *(submit(store, f"{sys.argv[2]}-{name}") for name in range(4)),
        *(work(store) for _ in range(4)),
    )


asyncio.run(main())
"""


def run_and_kill(path, name, lines):
    """Run the process until it has reported so many calls; return all its reports."""
    command = [sys.executable, "-c", PROCESS, str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        reports = []
        try:
            while len(reports) < lines:
                line = process.stdout.readline()
                assert line, "the process has ended by itself"
                reports.append(line)
        finally:
            process.kill()
        # `communicate` would not see what `readline` has read beyond the line.
        reports += process.stdout.read().splitlines(keepends=True)
    # The kill may have cut off the last line.
    return [line.split() for line in reports if line.endswith("\n")]


async def check(path, submitted, recorded):
    store = SqliteStore(path)
    await store.open(lambda: None)
    stored = {task.id: task for task in await store.search(TaskFilter(), limit=10**9)}
    assert submitted - set(stored) == set(), "a submitted task was lost"
    pairs = {name[:-1] for name in stored}
    assert len(stored) == 2 * len(pairs), "half of a submission is there"
    assert all(stored[name].state == State.DONE for name in recorded), "a result was lost"
    for task in stored.values():
        assert task.result == task.id * (task.state == State.DONE)
    states = collections.Counter(task.state for task in stored.values())
    assert (await store.counts()).get("act", {}) == states
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        attempts = database.execute("SELECT task, end FROM attempt ORDER BY task").fetchall()
        assert attempts == [
            (task.number, "result" if task.state == State.DONE else "")
            for task in reversed(stored.values())
            if task.attempt
        ]
        lanes = set(database.execute("SELECT number FROM lane"))
        assert lanes == set(
            database.execute("SELECT DISTINCT lane FROM task WHERE state = 'waiting'")
        )


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, marks=pytest.mark.slow),
        pytest.param(200, marks=pytest.mark.long),
    ],
)
def test_what_had_returned_is_there_after_a_kill_and_nothing_is_there_by_half(tmp_path, kills):
    path = tmp_path / "hub.sqlite"
    randomly = random.Random(kills)
    submitted, recorded, claimed = set(), set(), set()
    for n in range(kills):
        # The first calls are those that open the store, and after a kill, bring it in order.
        for kind, *ids in run_and_kill(path, str(n), randomly.choice([0, 1, 2, 50, 200, 400])):
            {"submitted": submitted, "recorded": recorded, "claimed": claimed, "open": set()}[
                kind
            ].update(ids)
        asyncio.run(check(path, submitted, recorded))
    assert len(recorded) > 50
    assert recorded <= claimed
