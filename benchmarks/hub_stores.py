"""The bundled hub's throughput, by its stores, beside procrastinate on the same PostgreSQL.

Each round submits tasks in batches and waits until the last result is recorded. The provider, or
procrastinate's worker, is one process with 64 tasks at once; the hub is another; a task does
nothing. All contenders run in each round, in turns; medians are shown, and ratios to the hub in
memory of the same round. PostgreSQL is that of the tests, but with fsync. Run it
with ``python -m benchmarks.hub_stores [ROUNDS [TASKS]]``; it needs ``pip install procrastinate``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import psycopg
from support.postgres_servers import PostgresServer

from arbprov.localhub import LocalHubClient

TOKEN = "sample-token"  # noqa: S105 - of a hub on loopback
CONCURRENCY = 64
BATCH = 500
_TIMEOUT = 300.0

PROVIDER = """
from arbprov import ProviderApp
app = ProviderApp("bench", execution_timeout=60)
@app.action
async def echo(number: int) -> dict:
    return {"number": number}
app.run()
"""
WORKER = """
import asyncio, sys
import procrastinate
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1]))
@app.task(name="echo")
async def echo(number):
    return {"number": number}
async def main():
    async with app.open_async():
        await app.run_worker_async(concurrency=64, install_signal_handlers=False)
asyncio.run(main())
"""


@contextlib.contextmanager
def process(arguments: list[str], folder: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python process inside the ``with`` block; its log is a file of the folder."""
    with (folder / f"log-{time.time_ns()}").open("w") as log:
        popen = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield popen
    finally:
        popen.kill()
        popen.wait()
        popen.stdout.close()


def measure_hub(store: str, folder: Path, count: int) -> float:
    """Return the tasks per second of a hub with a store."""
    address = f"unix:{folder}/hub"
    options = ["--address", address, "--http", "none", "--json"]
    environ = {"ARBPROV_HUB_TOKEN": TOKEN, "ARBPROV_HUB_STORE": store}
    settings = {
        "HUB_GRPC_URL": address,
        "PROVIDER_AUTH_TOKEN": TOKEN,
        "ARBPROV_CONCURRENCY": str(CONCURRENCY),
        "ARBPROV_LOG_LEVEL": "WARNING",
    }
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(process(["-m", "arbprov", "hub", *options], folder, **environ))
        assert json.loads(hub.stdout.readline())
        stack.enter_context(process(["-c", PROVIDER], folder, **settings))
        client = stack.enter_context(LocalHubClient(address, TOKEN))
        client.call("echo", {"number": 0}, timeout=_TIMEOUT)
        started_at = time.perf_counter()
        ids: list[str] = []
        for first in range(0, count, BATCH):
            numbers = range(first, min(count, first + BATCH))
            ids += client.submit([{"action": "echo", "payload": {"number": n}} for n in numbers])
        # The last task ends about last: few questions disturb the hub.
        left = ids
        while left:
            ended = {result.id for result in client.results(left[-BATCH:], timeout=_TIMEOUT)}
            left = [name for name in left if name not in ended]
        return count / (time.perf_counter() - started_at)


def measure_procrastinate(url: str, folder: Path, count: int) -> float:
    """Return the jobs per second of procrastinate on a database."""
    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="echo")
    async def echo(number: int) -> None: ...

    async def run() -> float:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            with process(["-c", WORKER, url], folder):
                await echo.defer_async(number=0)
                await wait_for(1)
                started_at = time.perf_counter()
                for first in range(0, count, BATCH):
                    numbers = range(first, min(count, first + BATCH))
                    await echo.batch_defer_async(*({"number": number} for number in numbers))
                await wait_for(count + 1)
                return count / (time.perf_counter() - started_at)

    async def wait_for(total: int) -> None:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        async with connection:
            query = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
            while (await (await connection.execute(query)).fetchone())[0] < total:
                await asyncio.sleep(0.02)

    return asyncio.run(run())


def new_database(server: PostgresServer) -> str:
    """Make a database, and return its URL."""
    name = f"bench_{time.time_ns()}"
    with server.client() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return urlsplit(server.url)._replace(path=f"/{name}").geturl()


def main(rounds: int = 3, count: int = 5_000) -> None:
    """Measure all contenders in each round, and print medians."""
    with contextlib.closing(PostgresServer(fsync=True)) as server:
        contenders: dict[str, Callable[[Path], float]] = {
            "memory": lambda folder: measure_hub("memory", folder, count),
            "SQLite": lambda folder: measure_hub(f"sqlite:{folder}/hub.sqlite", folder, count),
            "PostgreSQL": lambda folder: measure_hub(new_database(server), folder, count),
            "procrastinate": lambda folder: measure_procrastinate(
                new_database(server), folder, count
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            for name, measure in contenders.items():
                with tempfile.TemporaryDirectory(prefix="hub-") as folder:
                    rates[name].append(measure(Path(folder)))
                print(f"round {number + 1}: {name:14} {rates[name][-1]:8.0f} tasks/s", flush=True)
    print(f"\n{count} tasks, {rounds} rounds    tasks/s   of memory   of procrastinate")
    for name, found in rates.items():
        ratios = [
            statistics.median(mine / other for mine, other in zip(found, rates[base], strict=True))
            for base in ("memory", "procrastinate")
        ]
        median = statistics.median(found)
        print(f"{name:24} {median:8.0f}   {ratios[0]:9.2f}   {ratios[1]:16.2f}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*map(int, sys.argv[1:]))
