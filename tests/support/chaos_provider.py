"""A provider that keeps a record of its own, for a test to compare with the hub's.

It runs in a process of its own, in the folder where the records are to be:

- `received`: the id of each task, as soon as the wire has brought it;
- `begun`: the id of each task that is about to run;
- `returned`: the id, and a digest of the value that the handler returned or raised.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import secrets
import sys
import threading
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
    """Return a value that no other run of the task returns."""
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


class Unloadable(Exception):
    """It can be pickled, and not unpickled."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Unpicklable:
    def __reduce__(self) -> str:
        raise SystemExit

    __str__ = __repr__ = __reduce__


@app.action(isolation="process")
def isolated(ctx: TaskContext, number: int) -> dict:
    """Log what can't cross to the provider or makes it raise; now and then, crash or raise."""
    odd = (Unloadable(429, "slow down"), Unpicklable(), threading.Lock(), number)[number % 4]
    for _ in range(number % 3):
        ctx.logger.warning("number %d", number, extra={"odd": odd})
    if number % 50 == 7:
        text = "The action's process ended with exit code 3"
        returned.add(ctx.id, digest({"error": text, "type": "HandlerProcessError"}))
        os._exit(3)
    if number % 10 == 3:
        failing(ctx, number)
    return outcome(ctx, number)


def refuse(record: logging.LogRecord) -> bool:
    """Raise for some records, as an author's filter with a bug does."""
    if record.getMessage().endswith("5"):
        raise SystemExit("no record today")
    return True


logging.getLogger("arbprov.isolated").addFilter(
    # In a handler's process, the handler itself would get the exception.
    lambda record: multiprocessing.parent_process() is not None or refuse(record)
)


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
