"""A provider that keeps a record of its own, for a test to compare with the hub's.

It runs in a process of its own, in the folder where the records are to be:

- `received`: the id of each task, as soon as the wire has brought it;
- `begun`: the id of each task that is about to run;
- `returned`: the id, and a digest of what the handler returned or raised.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from typing import Any

from arbprov import ProviderApp, TaskContext
from arbprov.errors import ProviderError
from arbprov.task import Task
from arbprov.wire.client import GrpcHub
from support.records import Record, digest

app = ProviderApp("chaos", execution_timeout=60)


received, begun, returned = map(Record, ("received", "begun", "returned"))


def outcome(ctx: TaskContext, number: int, size: int = 0) -> dict[str, Any]:
    """Return what no other run of the task returns."""
    data = {"number": number, "run": secrets.token_hex(8), "filler": secrets.token_hex(size)}
    returned.add(ctx.id, digest(data))
    return data


@app.before_task
def note(ctx: TaskContext) -> None:
    begun.add(ctx.id)


@app.action
def plain(ctx: TaskContext, number: int) -> dict:
    time.sleep(0.001 * (number % 5))
    return outcome(ctx, number)


@app.action
async def asynchronous(ctx: TaskContext, number: int) -> dict:
    await asyncio.sleep(0.001 * (number % 5))
    return outcome(ctx, number)


@app.action
def failing(ctx: TaskContext, number: int) -> dict:
    error = ValueError(f"on purpose: {secrets.token_hex(8)}")
    returned.add(ctx.id, digest({"error": str(error), "type": "ValueError"}))
    raise error


@app.action
def large(ctx: TaskContext, number: int) -> dict:
    return outcome(ctx, number, 30_000)


def record_what_is_received() -> None:
    fetch = GrpcHub.fetch

    async def recorded(hub: GrpcHub) -> Any:
        answer = await fetch(hub)
        if isinstance(answer, Task):
            received.add(answer.id)
        return answer

    GrpcHub.fetch = recorded  # type: ignore[method-assign]


if __name__ == "__main__":
    record_what_is_received()
    try:
        app.run()
    except ProviderError as error:
        sys.exit(str(error))
