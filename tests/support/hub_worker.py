"""A provider for a bundled hub; it notes each attempt that begins, in the folder where it runs."""

from __future__ import annotations

import asyncio

from arbprov import ProviderApp, TaskContext
from arbprov.logs.current import current_task
from support.records import Record

app = ProviderApp("work", execution_timeout=60)
begun = Record("begun")


@app.before_task
def note(ctx: TaskContext) -> None:
    task = current_task.get()
    assert task is not None
    begun.add(task.id, str(task.attempt))


@app.action
async def work(number: int) -> dict:
    await asyncio.sleep(0.01 * (number % 5))
    return {"number": number}


if __name__ == "__main__":
    app.run()
