"""An API with OAuth, whose refresh tokens are good for one use: one refresh for all tasks.

Run `pip install "arbprov[http]"` first. `vendor` stands for the API. It gives out a new refresh
token with each access token, and if it sees a refresh token twice, it revokes all tokens of that
account:

    cd examples
    python -m oauth.vendor &
    arbprov check oauth.app --account '{"id": "shop-1", "grant": "grant-1"}'
    arbprov dev oauth.app --tasks oauth/tasks.jsonl
    kill %1
    rm oauth-tokens.db

`refresh` keeps the newest tokens in a database, since the grant of the account is good for one use
too. Set REDIS_URL for several processes, as with `arbprov run --workers`: then one of them at a
time runs `refresh`, and the others find in the database what it has stored.
"""

import contextlib
import functools
import os
import sqlite3
import time
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import httpx

from arbprov import ProviderApp, TaskContext, TaskError
from arbprov.http import Token, TokenCache

API_URL = os.environ.get("OAUTH_API_URL", "http://127.0.0.1:8000")
DATABASE = os.environ.get("OAUTH_DATABASE", "oauth-tokens.db")
REDIS_URL = os.environ.get("REDIS_URL")

app = ProviderApp("orders", execution_timeout=20)


@attrs.frozen
class Account:
    id: str
    # The refresh token that the owner of the account has granted, for the first use.
    grant: str = attrs.field(repr=False)


@attrs.frozen
class Api:
    client: httpx.AsyncClient
    tokens: TokenCache[Account]


@app.lifespan
@contextlib.asynccontextmanager
async def connect() -> AsyncGenerator[Api]:
    async with httpx.AsyncClient(base_url=API_URL, timeout=10) as client:
        refresh_with = functools.partial(refresh, client)
        yield Api(client, TokenCache(refresh_with, key=lambda one: one.id, redis=REDIS_URL))


@app.action
async def list_orders(ctx: TaskContext[Api], account: Account) -> Any:
    """Return the orders of an account."""
    return await get("/orders", ctx.state, account)


@app.check
async def credentials(ctx: TaskContext[Api], account: Account) -> None:
    await get("/orders", ctx.state, account)


async def get(path: str, api: Api, account: Account) -> Any:
    """Return the JSON of the API's answer.

    Raises:
        TaskError: The API refuses the request, with a new token too.
    """
    response = await api.client.get(path, auth=api.tokens.httpx_auth(account))
    if response.is_error:
        raise TaskError(f"The API answered {response.status_code} {response.reason_phrase}")
    return response.json()


async def refresh(client: httpx.AsyncClient, account: Account, old: str | None) -> Token:
    """Return a token that is newer than `old`: a stored one, or else one from the API.

    Raises:
        TaskError: The API has revoked the account's tokens.
    """
    stored = load(account)
    if stored is not None:
        access, seconds = stored["access"], stored["expires_at"] - time.time()
        # Another process may have refreshed it, or an earlier run of the provider.
        if access != old and seconds > 0:
            return Token(access, seconds)
    refresh_token = account.grant if stored is None else stored["refresh"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    response = await client.post("/token", data=form)
    if response.is_error:
        raise TaskError("The API has revoked the tokens; their owner must grant access again")
    answer = response.json()
    save(account, answer)
    return Token(answer["access_token"], answer["expires_in"])


@contextlib.contextmanager
def database() -> Any:
    with contextlib.closing(sqlite3.connect(DATABASE, timeout=10)) as connection, connection:
        connection.row_factory = sqlite3.Row
        connection.execute(
            "CREATE TABLE IF NOT EXISTS tokens"
            " (account TEXT PRIMARY KEY, access TEXT, refresh TEXT, expires_at REAL)"
        )
        yield connection


def load(account: Account) -> Any:
    with database() as connection:
        found = connection.execute("SELECT * FROM tokens WHERE account = ?", [account.id])
        return found.fetchone()


def save(account: Account, answer: dict[str, Any]) -> None:
    expires_at = time.time() + answer["expires_in"]
    row = [account.id, answer["access_token"], answer["refresh_token"], expires_at]
    with database() as connection:
        connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?)", row)


if __name__ == "__main__":
    app.run()
