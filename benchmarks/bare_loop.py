"""The baseline of a provider: fetch, read JSON, write JSON and submit, and nothing else.

    bare_loop.py ADDRESS IN_FLIGHT echo
    bare_loop.py ADDRESS IN_FLIGHT sleep SECONDS      an async handler that waits
    bare_loop.py ADDRESS IN_FLIGHT threads SECONDS    a blocking handler, on IN_FLIGHT threads
    bare_loop.py ADDRESS IN_FLIGHT burn SECONDS       a CPU-bound handler, on IN_FLIGHT threads

It handles no errors and no signals, and imports no framework: it loads even the messages without
arbprov.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

MESSAGES = Path(__file__).parent.parent / "arbprov/_proto/hub_pb2.py"
TOKEN = "sample-token"  # noqa: S105 - of a hub on loopback
# Seconds until the next poll after an empty answer, for hubs that do not hold polls.
PAUSE = 0.05

Handle = Callable[[Any], Awaitable[Any]]


def load_messages() -> Any:
    """Load the generated module by its path."""
    spec = importlib.util.spec_from_file_location("hub_pb2", MESSAGES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def burn(seconds: float) -> None:
    """Work for so many seconds of this thread's processor time."""
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def blocking(work: Callable[[float], None], seconds: float, in_flight: int) -> Handle:
    """Return a handler that does blocking work on a thread and returns the payload."""
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(in_flight)

    def call(payload: Any) -> Any:
        if seconds:
            work(seconds)
        return payload

    return lambda payload: loop.run_in_executor(pool, call, payload)


def handler(kind: str, seconds: float, in_flight: int) -> Handle:
    """Return the handler of a kind."""

    async def echo(payload: Any) -> Any:
        return payload

    async def sleep(payload: Any) -> Any:
        await asyncio.sleep(seconds)
        return payload

    if kind in {"threads", "burn"}:
        return blocking({"threads": time.sleep, "burn": burn}[kind], seconds, in_flight)
    return {"echo": echo, "sleep": sleep}[kind]


async def main(address: str, in_flight: str, kind: str, seconds: str = "0") -> None:
    """Work for the hub at an address until the process is ended."""
    hub = load_messages()
    handle = handler(kind, float(seconds), int(in_flight))
    async with grpc.aio.insecure_channel(address) as channel:
        fetch = channel.unary_unary(
            "/Hub/GetTask", hub.ProviderRequest.SerializeToString, hub.Task.FromString
        )
        submit = channel.unary_unary(
            "/Hub/SubmitTaskResult", hub.TaskResult.SerializeToString, hub.Task.FromString
        )

        async def work() -> None:
            while True:
                task = await fetch(hub.ProviderRequest(provider="bare", auth_token=TOKEN))
                if not task.id:
                    await asyncio.sleep(PAUSE)
                    continue
                data = await handle(json.loads(task.payload))
                result = hub.TaskResult(
                    id=task.id,
                    provider="bare",
                    auth_token=TOKEN,
                    status="success",
                    action=task.action,
                    payload=task.payload.decode(),
                    result=json.dumps({"status": "success", "message": "done", "data": data}),
                    account=task.account.decode(),
                )
                await submit(result)

        await asyncio.gather(*(work() for _ in range(int(in_flight))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
