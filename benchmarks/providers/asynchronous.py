"""A provider of `async def` handlers, with a hook before and one after each task."""

from __future__ import annotations

import asyncio

from arbprov import ProviderApp, TaskContext, TaskResult

app = ProviderApp("bench", execution_timeout=30)
begun: dict[str, int] = {}


@app.before_task
async def count(ctx: TaskContext) -> None:
    begun[ctx.action] = begun.get(ctx.action, 0) + 1


@app.after_task
async def uncount(result: TaskResult, ctx: TaskContext) -> TaskResult:
    begun[ctx.action] -= 1
    return result


@app.action
async def echo(city: str, days: int = 3) -> dict:
    return {"city": city, "days": days}


@app.action
async def wait(city: str, days: int = 3) -> dict:
    await asyncio.sleep(0.02)
    return {"city": city, "days": days}


if __name__ == "__main__":
    app.run()
