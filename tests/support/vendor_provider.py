"""A connector of the sample vendor, with what a connector needs every day."""

import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncGenerator

import attrs
import httpx

from arbprov import Concurrency, ProviderApp, TaskContext
from arbprov.http import LimitedTransport, Token, TokenCache

URL, DATABASE = os.environ["VENDOR_URL"], os.environ["VENDOR_DATABASE"]
app = ProviderApp("vendor", execution_timeout=60)


class Unavailable(Exception):
    """The vendor has answered 503."""


@attrs.frozen
class Account:
    id: str
    grant: str = attrs.field(repr=False)


@attrs.frozen
class Api:
    client: httpx.AsyncClient
    tokens: TokenCache[Account]


@app.lifespan
@contextlib.asynccontextmanager
async def connect() -> AsyncGenerator[Api]:
    redis = os.environ.get("ARBPROV_RATE_LIMIT_STORE")
    tokens = TokenCache(refresh, key=lambda account: account.id, redis=redis, timeout=10)
    transport = LimitedTransport("vendor", max_wait=30)
    async with httpx.AsyncClient(base_url=URL, transport=transport, timeout=30) as client:
        yield Api(client, tokens)


@app.action
@app.rate_limit(Concurrency(int(os.environ["AT_ONCE"])), key="account.id", max_wait=10)
@app.rate_limit(os.environ["LIMIT"], key="account.id", name="vendor", manual=True)
@app.retry(on=Unavailable, attempts=5)
async def orders(ctx: TaskContext[Api], account: Account, pages: int) -> list[str]:
    found, auth = [], ctx.state.tokens.httpx_auth(account)
    for page in range(pages):
        response = await ctx.state.client.get("/orders", params={"page": page}, auth=auth)
        if response.status_code == 503:
            raise Unavailable
        found += response.raise_for_status().json()["orders"]
    return found


def refresh(account: Account, old: str | None) -> Token:
    with contextlib.closing(sqlite3.connect(DATABASE, timeout=10)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS tokens (id PRIMARY KEY, access, refresh, ends_at)"
        )
        found = database.execute("SELECT * FROM tokens WHERE id = ?", [account.id]).fetchone()
        if found and found[1] != old and found[3] > time.time():
            return Token(found[1], found[3] - time.time())
        form = {"refresh_token": found[2] if found else account.grant}
        new = httpx.post(f"{URL}/token", data=form, timeout=5).raise_for_status().json()
        row = [account.id, new["access_token"], new["refresh_token"]]
        row.append(time.time() + new["expires_in"])
        database.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?)", row)
        return Token(new["access_token"], new["expires_in"])
