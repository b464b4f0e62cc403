"""What mypy and pyright see of the limits that handlers acquire, and of the HTTP transports."""

from __future__ import annotations

import httpx
import httpx2
from typing_extensions import assert_type

from arbprov import ProviderApp, TaskContext
from arbprov.http import LimitedTransport
from arbprov.http.httpx2 import LimitedTransport as LimitedTransport2
from arbprov.limits.headers import HeaderNames

app = ProviderApp("shop")
names: HeaderNames = {"used": "X-Shopify-Shop-Api-Call-Limit"}

limited = LimitedTransport("vendor", httpx.HTTPTransport(retries=1), max_wait=5, headers=names)
plain = httpx.Client(transport=limited)
asynchronous = httpx.AsyncClient(transport=LimitedTransport("vendor"))
limited2 = LimitedTransport2("vendor", httpx2.AsyncHTTPTransport(), max_wait=5)
plain2 = httpx2.Client(transport=LimitedTransport2("vendor"))
asynchronous2 = httpx2.AsyncClient(transport=limited2)

assert_type(limited.handle_request(httpx.Request("GET", "/")), httpx.Response)
assert_type(limited2.handle_request(httpx2.Request("GET", "/")), httpx2.Response)
LimitedTransport()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
LimitedTransport("vendor", httpx2.HTTPTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
LimitedTransport("vendor", headers={"left": "X-Left"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


@app.action
@app.rate_limit("100/minute", name="vendor", manual=True)
def orders(ctx: TaskContext) -> dict[str, int]:
    assert_type(ctx.limits.acquire("vendor"), None)
    ctx.limits.acquire("vendor", cost=2, max_wait=0.5)
    ctx.limits.acquire()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ctx.limits.acquire("vendor", cost="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    response = plain.get("/orders")
    assert_type(response, httpx.Response)
    ctx.limits.observe(response, limit="vendor", headers={"remaining": "X-Left"})
    ctx.limits.observe(response)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ctx.limits.observe(response.text, limit="vendor")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return {"status": response.status_code}


@app.action
@app.rate_limit("100/minute", name="vendor", manual=True)
async def stock(ctx: TaskContext) -> dict[str, int]:
    await ctx.limits.aacquire("vendor", max_wait=5)
    response = await asynchronous2.get("/stock")
    assert_type(response, httpx2.Response)
    ctx.limits.observe(response, limit="vendor")
    return {"status": response.status_code}


app.rate_limit("1/hour", manual="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(orders(TaskContext.__new__(TaskContext)), dict[str, int])
