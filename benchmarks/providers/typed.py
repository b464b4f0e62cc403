"""A provider whose payload of 1 KB is structured after nested types, alone and with two limits."""

from __future__ import annotations

from datetime import date
from typing import Literal

import attrs

from arbprov import ProviderApp, TaskContext, TaskResult

app = ProviderApp("bench", execution_timeout=30)
begun: dict[str, int] = {}


@attrs.frozen
class Address:
    street: str
    city: str
    zip: str
    kind: Literal["home", "work"]


@attrs.frozen
class Customer:
    name: str
    email: str
    born: date
    addresses: list[Address]
    newsletter: bool = False


@attrs.frozen
class Item:
    sku: str
    title: str
    quantity: int
    price: float
    tags: list[str] = attrs.field(factory=list)


@app.before_task
async def count(ctx: TaskContext) -> None:
    begun[ctx.action] = begun.get(ctx.action, 0) + 1


@app.after_task
async def uncount(result: TaskResult, ctx: TaskContext) -> TaskResult:
    begun[ctx.action] -= 1
    return result


@app.action
async def order(customer: Customer, items: list[Item], region: str) -> dict:
    return {"customer": customer, "items": items, "region": region}


@app.action
@app.rate_limit("10000000/hour", key="account.id")
@app.rate_limit("1000000/minute", key="payload.region")
async def limited(customer: Customer, items: list[Item], region: str) -> dict:
    return {"customer": customer, "items": items, "region": region}


if __name__ == "__main__":
    app.run()
