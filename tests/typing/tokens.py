"""What type checkers see of tokens and their use: `tox -e typing` has them read it."""

from __future__ import annotations

import httpx
import httpx2
import redis
from typing_extensions import assert_type

from arbprov import TaskContext
from arbprov.http import Token, TokenCache


class Account:
    id: str = ""


class Api:
    def __init__(self, tokens: TokenCache[Account]) -> None:
        self.tokens = tokens


def refresh(account: Account, old: str | None) -> Token:
    return Token(account.id, expires_in=3600)


async def refresh_later(account: Account, old: str | None) -> Token:
    return Token(account.id, "3600")


tokens = TokenCache(refresh, key=lambda account: account.id)
later = TokenCache(refresh_later, redis="redis://localhost", margin=30, timeout=10)
shared = TokenCache(refresh, redis=redis.Redis(socket_timeout=1))

assert_type(tokens, TokenCache[Account])
assert_type(later, TokenCache[Account])
assert_type(tokens.get(Account()), str)
assert_type(tokens.httpx_auth(Account()), httpx.Auth)
assert_type(tokens.httpx2_auth(Account()), httpx2.Auth)
assert_type(Token("value").value, str)
assert_type(Token("value", 5).expires_in, float)


async def use(ctx: TaskContext[Api], account: Account) -> None:
    assert_type(await ctx.state.tokens.aget(account), str)
    async with httpx.AsyncClient() as client:
        response = await client.get("/", auth=ctx.state.tokens.httpx_auth(account))
        assert_type(response, httpx.Response)
    async with httpx2.AsyncClient(auth=tokens.httpx2_auth(account)) as client2:
        assert_type(await client2.get("/"), httpx2.Response)


# Each line is one mistake, and the marks say that both type checkers find it.


def returns_text(account: Account, old: str | None) -> str:
    return account.id


def takes_text(account: str, old: str) -> Token:
    return Token(account)


TokenCache(returns_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
TokenCache(takes_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tokens.get("ada")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tokens.refuse(Account(), None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
httpx.Client(auth=tokens.httpx2_auth(Account()))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
