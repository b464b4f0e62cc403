"""The bundled hub, its stores and its providers are killed at random: each task ends once.

`-m chaos` runs the long forms. Hubs and providers are processes; the stores are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest
from support.postgres_servers import PostgresServer
from support.processes import Process
from support.waiting import TIMEOUT, wait_until

from arbprov import HubError
from arbprov.localhub import LocalHubClient
from arbprov.localhub.stores.factory import make_store
from arbprov.localhub.tasks import State, TaskFilter

TOKEN = "sample-token"
# A provider that is killed holds its tasks for so long, in seconds.
LEASE = 2.0
CONCURRENCY = 32
# More often than a task can be unlucky.
DELIVERIES = 100
BATCH = 500


@pytest.fixture(scope="module")
def postgres():
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def store_url(request, tmp_path, postgres):
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/hub.sqlite"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        name = f"hub_{os.getpid()}_{time.time_ns()}"
        connection.execute(f"CREATE DATABASE {name}")
    return urlsplit(postgres.url)._replace(path=f"/{name}").geturl()


@attrs.define(eq=False)
class Place:
    """A hub and a provider that works for it; both can be killed."""

    folder: Path
    number: int
    store: str
    hub: Process | None = None
    provider: Process | None = None

    @property
    def address(self):
        return f"unix:{self.folder}/{self.number}"

    def start_hub(self):
        options = ["--address", self.address, "--http", "none", "--lease", str(LEASE), "--json"]
        self.hub = Process(
            ["-m", "arbprov", "hub", *options],
            self.folder,
            ARBPROV_HUB_TOKEN=TOKEN,
            ARBPROV_HUB_STORE=self.store,
        )
        assert self.hub.popen.stdout.readline(), self.hub.log

    def start_provider(self):
        self.provider = Process(
            ["-m", "support.hub_worker"],
            self.folder,
            HUB_GRPC_URL=self.address,
            PROVIDER_AUTH_TOKEN=TOKEN,
            ARBPROV_CONCURRENCY=str(CONCURRENCY),
        )

    def start(self):
        self.start_hub()
        self.start_provider()

    def kill_hub(self):
        self.hub.kill()
        self.start_hub()

    def kill_provider(self):
        self.provider.kill()
        self.start_provider()

    def stop(self):
        for process in (self.provider, self.hub):
            if process is not None:
                process.kill()

    @property
    def client(self):
        return LocalHubClient(self.address, TOKEN)


def make_tasks(count):
    return [
        {
            "id": f"t{number}",
            "action": "work",
            "payload": {"number": number},
            "account": {"id": f"sample-{number % 7}"},
            "max_deliveries": DELIVERIES,
        }
        for number in range(count)
    ]


def insist(ask):
    """Ask a hub again and again, until it is there; return what it answers."""
    answers = []

    def succeeds():
        try:
            answers.append(ask())
        except (HubError, TimeoutError):
            return False
        return True

    assert wait_until(succeeds)
    return answers[0]


def submit_all(place, tasks):
    for start in range(0, len(tasks), BATCH):
        insist(lambda start=start: place.client.submit(tasks[start : start + BATCH]))


def wait_for_all(place, ids):
    """Wait until all tasks have ended, by the hub's own word."""
    left = [*ids]
    while left:
        ended = insist(lambda ids=left[:BATCH]: place.client.results(ids, timeout=1.0))
        found = {result.id for result in ended}
        left = [name for name in left if name not in found]


def cut_listeners(url):
    """End the connections on which hubs listen for what other hubs do."""
    with psycopg.connect(url, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
        ).fetchall()
    return len(cut)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def survive(places, url, count, kills, seed):
    """Kill hubs and providers while tasks are submitted and run; return when all have ended."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    disasters = [Place.kill_hub, Place.kill_provider] * (kills // 2)
    chance.shuffle(disasters)
    tasks = make_tasks(count)
    begun, cut = places[0].folder / "begun", 0
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.callback(place.stop)
            place.start()
        pool = stack.enter_context(ThreadPoolExecutor(1))
        submitting = pool.submit(submit_all, places[0], tasks)
        for number, disaster in enumerate(disasters):
            enough = int(count * (number + chance.random()) / kills)
            wait_until(lambda enough=enough: len(lines(begun)) >= enough)
            disaster(chance.choice(places))
            if not url.startswith("sqlite"):
                cut += cut_listeners(url)
        submitting.result(TIMEOUT)
        wait_for_all(places[0], [task["id"] for task in tasks])
    print(f"{len(lines(begun))} attempts began; {cut} listening connections were cut")
    return cut


async def read_store(url):
    """Return the tasks of a store with their attempts."""
    store = make_store(url)
    await store.open(lambda: None)
    try:
        tasks, before = [], None
        while page := await store.search(TaskFilter(), before=before, limit=1000):
            tasks += page
            before = page[-1].number
        return {task.id: (task, await store.attempts(task.id)) for task in tasks}
    finally:
        await store.close()


def check(folder, url, count):
    found = asyncio.run(read_store(url))
    assert found.keys() == {f"t{number}" for number in range(count)}
    assert {task.state for task, _ in found.values()} == {State.DONE}
    for task, attempts in found.values():
        # Exactly one result is the task's; an attempt whose provider was killed has none.
        assert task.result in {attempt.result for attempt in attempts if attempt.result}
        assert json.loads(task.result)["data"]["response"] == {"number": int(task.id[1:])}
        assert [attempt.number for attempt in attempts] == [*range(1, len(attempts) + 1)]
        assert all(attempt.aside == () for attempt in attempts)
    twice = [line for line, times in Counter(lines(folder / "begun")).items() if times > 1]
    assert twice == []


@pytest.fixture
def folder():
    """A folder with a short path, since a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
def test_each_task_ends_once_whoever_is_killed(folder, store_url):
    hubs = 1 if store_url.startswith("sqlite") else 2
    places = [Place(folder, number, store_url) for number in range(hubs)]
    survive(places, store_url, count=600, kills=4, seed=1)
    check(folder, store_url, 600)


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
def test_each_of_ten_thousand_tasks_ends_once_whoever_is_killed(folder, store_url):
    hubs = 1 if store_url.startswith("sqlite") else 2
    places = [Place(folder, number, store_url) for number in range(hubs)]
    cut = survive(places, store_url, count=10_000, kills=20, seed=random.randrange(10**6))
    check(folder, store_url, 10_000)
    assert hubs == 1 or cut
