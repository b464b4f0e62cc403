"""A worker whose tasks arrive at given times, in an event loop whose time jumps."""

from __future__ import annotations

import asyncio

import attrs

from arbprov.task import Task
from arbprov.wire.messages import decode_result
from arbprov.worker.worker import Worker, WorkerSettings

from .loops import BEGIN, JumpingLoop, run_jumping


@attrs.define
class TimedHub:
    """Hands out each task at its time, and records each result with its time."""

    tasks: list
    results: list = attrs.field(factory=list)
    is_connected: bool = True
    renew_interval: float = 0.0
    report_interval: float = 0.0

    async def fetch(self):
        loop = asyncio.get_running_loop()
        if not self.tasks:
            await asyncio.sleep(0.5)
            return None
        at, task = self.tasks.pop(0)
        await asyncio.sleep(max(0.0, BEGIN + at - loop.time()))
        return task

    async def submit(self, message, attempt):
        result = decode_result(message)
        at = asyncio.get_running_loop().time() - BEGIN
        self.results.append((round(at, 3), result.id, result.status.value))

    async def close(self):
        pass


def task(at, id, action="work", **payload):
    """Return the time at which a task arrives, and the task."""
    body = "{" + ", ".join(f'"{name}": {value!r}' for name, value in payload.items()) + "}"
    return at, Task(id, action, body.replace("'", '"').encode())


def work_off(app, *tasks, until=100.0, **settings):
    """Run an app on tasks until it is stopped; return the results' times, ids and statuses."""
    loop, hub = JumpingLoop(), TimedHub(list(tasks))
    defaults = {"concurrency": 8, "drain_timeout": 25, "start_timeout": 30, "max_task_timeout": 1}

    async def main():
        worker_settings = WorkerSettings(**(defaults | settings))
        worker = Worker(app._dispatcher(loop), hub, app._life_hooks(), worker_settings)
        loop.call_at(BEGIN + until, worker.stop)
        await worker.run()

    run_jumping(main(), loop)
    return sorted(hub.results)
