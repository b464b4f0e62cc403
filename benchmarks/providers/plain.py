"""A provider of plain `def` handlers, with a hook before and one after each task."""

from __future__ import annotations

import time

from arbprov import ProviderApp, TaskContext, TaskResult

app = ProviderApp("bench", execution_timeout=30)
began: dict[str, float] = {}


@app.before_task
def start_watch(ctx: TaskContext) -> None:
    began[ctx.id] = time.monotonic()


@app.after_task
def stop_watch(result: TaskResult, ctx: TaskContext) -> TaskResult:
    del began[ctx.id]
    return result


@app.action
def echo(city: str, days: int = 3) -> dict:
    return {"city": city, "days": days}


@app.action
def block(city: str, days: int = 3) -> dict:
    time.sleep(0.02)
    return {"city": city, "days": days}


@app.action
def burn(city: str, days: int = 3) -> dict:
    ends = time.thread_time() + 0.02
    while time.thread_time() < ends:
        pass
    return {"city": city, "days": days}


if __name__ == "__main__":
    app.run()
