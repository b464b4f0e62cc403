# mypy: disallow-any-expr, disallow-any-decorated, disallow-any-explicit
"""A connector that uses all parts together: type checkers see no `Any`, but for JSON.

`tox -e typing` has mypy and pyright read it. An expression with an `Any` in its type is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from typing_extensions import assert_type

from arbprov import Concurrency, ProviderApp, ProviderResponse, Status, TaskContext, TaskResult
from arbprov.http import LimitedTransport, Token, TokenCache
from arbprov.limits import CallLimits, Headroom
from arbprov.limits.headers import HeaderNames
from arbprov.testing import TestClient

URL = "https://vendor.example"
HEADERS: HeaderNames = {"used": "X-Vendor-Calls"}

app = ProviderApp("shop", execution_timeout=30)


@dataclass(frozen=True)
class Account:
    id: str
    grant: str = field(repr=False)


@dataclass(frozen=True)
class Order:
    id: int
    paid: bool


@dataclass(frozen=True)
class Vendor:
    """What all tasks share."""

    client: httpx.AsyncClient
    plain: httpx.Client
    tokens: TokenCache[Account]

    async def orders(self, account: Account, page: int) -> list[Order]:
        auth = self.tokens.httpx_auth(account)
        assert_type(auth, httpx.Auth)
        response = await self.client.get(f"/orders?page={page}", auth=auth)
        assert_type(response, httpx.Response)
        return [Order(page, response.is_success)]


@app.lifespan
@contextlib.asynccontextmanager
async def connect() -> AsyncGenerator[Vendor]:
    limited = LimitedTransport("vendor", max_wait=5, headers=HEADERS)
    plain = LimitedTransport("vendor", httpx.HTTPTransport(retries=1), max_wait=5)
    async with httpx.AsyncClient(base_url=URL, transport=limited) as client:

        async def refresh(account: Account, old: str | None) -> Token:
            form = {"grant": account.grant}
            response = await client.post("/token", data=form)
            return Token(response.text, response.headers["X-Expires-In"])

        tokens = TokenCache(refresh, key=lambda account: account.id)
        assert_type(tokens, TokenCache[Account])
        with httpx.Client(base_url=URL, transport=plain) as plain_client:
            yield Vendor(client, plain_client, tokens)


# Each decorator keeps the signature of the handler.


@app.action(timeout=20)
@app.retry(on=(httpx.TransportError, TimeoutError), attempts=3)
@app.rate_limit(Concurrency(5), key="account.id", name="vendor", max_wait=10)
@app.rate_limit("100/minute", key="account.id", name="vendor", manual=True, max_wait=5)
async def orders(ctx: TaskContext[Vendor], account: Account, pages: int = 1) -> list[Order]:
    """Return the orders of an account."""
    assert_type(ctx.state, Vendor)
    assert_type(ctx.attempt, int)
    assert_type(ctx.idempotency_key, str)
    assert_type(ctx.remaining, float)
    assert_type(ctx.now, datetime)
    found: list[Order] = []
    for page in range(pages):
        found += await ctx.state.orders(account, page)
    return found


@app.rate_limit("100/minute", key="account.id", name="vendor", manual=True, max_wait=5)
@app.rate_limit(Concurrency(5), key="account.id", name="vendor", cost=2)
@app.retry(on=httpx.TransportError)
@app.action("order.refund")
def refund(ctx: TaskContext[Vendor], account: Account, order: int) -> ProviderResponse:
    """Pay an order back, by a client that is not limited by itself."""
    assert_type(ctx.limits, CallLimits)
    assert_type(ctx.limits.acquire("vendor"), None)
    assert_type(ctx.limits.acquire("vendor", cost=2, max_wait=0.5), None)
    token = ctx.state.tokens.get(account)
    assert_type(token, str)
    response = httpx.post(
        f"{URL}/orders/{order}/refund",
        headers={"Authorization": f"Bearer {token}", "Idempotency-Key": ctx.idempotency_key},
        timeout=ctx.remaining,
    )
    assert_type(ctx.limits.observe(response, limit="vendor", headers=HEADERS), None)
    assert_type(ctx.limits.report("vendor", used=0.5, reset_in="30"), None)
    assert_type(ctx.limits.refund(), None)
    assert_type(ctx.limits.headroom, tuple[Headroom, ...])
    return ProviderResponse("success" if response.is_success else "error")


@app.action
@app.rate_limit(lambda call: Concurrency(2 if call.action == "ship" else 5), cost=lambda call: 1)
@app.rate_limit("100/minute", key="account.id", name="vendor", manual=True)
async def ship(ctx: TaskContext[Vendor], account: Account, order: int) -> bool:
    """Send an order."""
    assert_type(await ctx.limits.aacquire("vendor", max_wait=5), None)
    assert_type(await ctx.state.tokens.aget(account), str)
    async with httpx.AsyncClient(auth=ctx.state.tokens.httpx_auth(account)) as client:
        response = await client.post(f"{URL}/orders/{order}/ship")
    ctx.limits.observe(response, limit="vendor")
    return response.is_success


@app.check(timeout=5)
async def credentials(account: Account, ctx: TaskContext[Vendor]) -> None:
    await ctx.state.orders(account, 0)


@app.after_task
def count(result: TaskResult, ctx: TaskContext[Vendor]) -> TaskResult:
    assert_type(result.status, Status)
    ctx.logger.info("%d pages a second", ctx.state.plain.timeout.read or 0)
    return result


Orders = Callable[[TaskContext[Vendor], Account, int], Coroutine[object, object, list[Order]]]


def takes_handler(handler: Orders) -> None: ...


takes_handler(orders)


async def awaited(vendor: TaskContext[Vendor], account: Account) -> None:
    assert_type(await orders(vendor, account), list[Order])
    assert_type(await orders(vendor, account, pages=2), list[Order])
    assert_type(refund(vendor, account, order=7), ProviderResponse)
    assert_type(await ship(vendor, account, 7), bool)
    assert_type(await credentials(account, vendor), None)


# What tools and tests see.

assert_type([check.name for check in app.checks()], list[str])


def test_orders() -> None:
    with app.test_client() as client:
        assert_type(client, TestClient)
        result = client.call("orders", {"pages": 2}, account={"id": "7", "grant": "sample"})
        assert_type(result, TaskResult)
        assert_type(result.status, Status)
        assert_type(result.wait_time, float | None)
        assert_type(client.limits.headroom("orders", key="7")[0].remaining, int | None)


async def test_orders_later() -> None:
    async with app.test_client() as client:
        result = await client.acall("orders", {"pages": 2}, account={"id": "7", "grant": "sample"})
        assert_type(result, TaskResult)


# What is JSON is of type Any, on purpose: its author knows more of it than a type checker.
assert_type(app.schema()["orders"]["payload"], Any)  # type: ignore[misc]
assert_type(app.test_client().call("orders").data, Any)  # type: ignore[misc]


# Each line is one mistake, and the marks say that both type checkers find it.


async def mistakes(ctx: TaskContext[Vendor], account: Account) -> None:
    ctx.state.order(account, 1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await ctx.state.orders(account, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.limits.aquire("vendor")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await orders(ctx, account, pages="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    refund(ctx, account)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ctx.limits.aacquire("vendor")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    ctx.state.tokens.httpx_auth(account.id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


Concurrency("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Concurrency(calls=5, period=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
app.rate_limit(Concurrency)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
app.retry(on="timeout")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
app.retry(attempts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
