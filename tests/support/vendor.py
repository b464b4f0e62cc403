"""A sample vendor: an HTTP API with quotas, a bound on calls in flight, and tokens that rotate.

It runs in a process of its own: `python -m support.vendor '{"accounts": 20, ...}'`. It prints its
port when it listens, and answers ``GET /counts`` with what it has counted; a test talks to it by
`VendorProcess`. Its accounts are ``shop-0``, ``shop-1``...; each speaks one of the `DIALECTS`.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import random
import secrets
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs

from support.processes import Process

Answer = tuple[int, dict[str, str], Any]


@attrs.frozen(kw_only=True)
class Terms:
    """What the vendor grants to an account, and how it behaves.

    Args:
        accounts: How many accounts it has.
        quota: Requests in any `period` seconds, whatever was answered; a 429 is not counted.
        at_once: Requests in flight.
        less: The quotas that are smaller, by account; when their first requests come, another
            program has just used them up.
        latency: The seconds that a request takes, at least and at most.
        unavailable: The share of requests that are answered with 503.
        uses: Requests that an access token is good for.
        lifetime: Seconds that an access token is good for.
        forgives: Whether it answers a refresh token once more if no request has used the access
            token that it gave for it before: the answer may have been lost.
        seed: Seed of its random choices.
    """

    accounts: int
    quota: int
    period: float
    at_once: int
    less: dict[str, int] = attrs.field(factory=dict)
    latency: tuple[float, float] = (0.005, 0.03)
    unavailable: float = 0.01
    uses: int = 150
    lifetime: float = 30.0
    forgives: bool = False
    seed: int = 1


@attrs.frozen
class Quota:
    """A quota as of now: requests that are left, and seconds until the oldest one is forgotten."""

    limit: int
    left: int
    period: float
    free_in: float

    @property
    def seconds(self) -> int:
        return math.ceil(self.free_in)


def ietf(quota: Quota) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"default";q={quota.limit};w={quota.period:.0f}',
        "RateLimit": f'"default";r={quota.left};t={quota.seconds}',
    }


def epoch(quota: Quota) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(quota.limit),
        "X-RateLimit-Remaining": str(quota.left),
        "X-RateLimit-Reset": str(math.ceil(time.time() + quota.free_in)),
    }


def nothing(quota: Quota) -> dict[str, str]:
    return {}


def retry_in_seconds(quota: Quota) -> dict[str, str]:
    return {"Retry-After": str(quota.seconds)}


def retry_at_a_date(quota: Quota) -> dict[str, str]:
    moment = math.ceil(time.time() + quota.free_in)
    return {"Retry-After": email.utils.formatdate(moment, usegmt=True)}


Headers = Callable[[Quota], dict[str, str]]
# The headers of each answer, and of a 429. Account `n` speaks dialect `n`, and so on in turn.
DIALECTS: list[tuple[Headers, Headers]] = [
    (epoch, retry_in_seconds),
    (ietf, ietf),
    (epoch, epoch),
    (nothing, retry_in_seconds),
    (ietf, retry_at_a_date),
]


@attrs.define
class Access:
    """An access token, and how long it is good."""

    uses_left: int
    ends_at: float


@attrs.define
class Shop:
    """An account, and what the vendor has counted of it."""

    name: str
    quota: int
    dialect: tuple[Headers, Headers]
    # The refresh token that is good, and the access tokens by the refresh tokens that gave them.
    refresh: str
    given: dict[str, str] = attrs.field(factory=dict)
    access: dict[str, Access] = attrs.field(factory=dict)
    times: deque[float] = attrs.field(factory=deque)
    in_flight: int = 0
    is_revoked: bool = False
    ended_at: float = 0.0
    counts: dict[str, int] = attrs.field(
        factory=lambda: dict.fromkeys(
            (
                "requests",
                "pages",
                "throttled",
                "over_quota",
                "over_at_once",
                "most_at_once",
                "unauthorized",
                "unavailable",
                "refreshes",
                "refreshed_twice",
                "forgiven",
            ),
            0,
        )
    )

    def add(self, *names: str) -> None:
        for name in names:
            self.counts[name] += 1


class Vendor:
    """Answers requests, and counts."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._random = random.Random(terms.seed)
        names = [f"shop-{number}" for number in range(terms.accounts)]
        self._shops = {
            name: Shop(
                name,
                terms.less.get(name, terms.quota),
                DIALECTS[number % len(DIALECTS)],
                f"{name}.grant",
            )
            for number, name in enumerate(names)
        }
        self._began_at = self._clock_moved = 0.0
        self._wall_at_0 = time.time() - time.monotonic()

    @property
    def counts(self) -> dict[str, Any]:
        """The arguments of `Counts`."""
        shops = self._shops.values()
        return {
            "shops": {shop.name: shop.counts for shop in shops},
            "seconds": {shop.name: shop.ended_at - self._began_at for shop in shops},
            "clock_moved": self._clock_moved,
        }

    async def answer(self, method: str, path: str, bearer: str, body: str) -> Answer:
        if path == "/counts":
            return 200, {}, self.counts
        if method == "POST":
            return await self._refresh(parse_qs(body)["refresh_token"][0])
        shop = self._shops[bearer.partition(".")[0]]
        now = time.monotonic()
        self._began_at = self._began_at or now
        if shop.name in self._terms.less and not shop.counts["most_at_once"]:
            shop.times.extend([now] * shop.quota)
        shop.in_flight += 1
        try:
            return await self._serve(shop, bearer, now)
        finally:
            # Before the answer leaves, so that its reader is never early.
            shop.in_flight -= 1
            shop.ended_at = time.monotonic()

    async def _serve(self, shop: Shop, bearer: str, now: float) -> Answer:
        status = self._admit(shop, bearer, now)
        # In flight for as long, whatever the answer is.
        await asyncio.sleep(self._random.uniform(*self._terms.latency))
        always, throttled = shop.dialect
        if status == 429:
            return 429, throttled(self._quota_of(shop)), {"error": "slow down"}
        orders = {"orders": [secrets.token_hex(4)]} if status == 200 else {}
        return status, always(self._quota_of(shop)), orders

    def _admit(self, shop: Shop, bearer: str, now: float) -> int:
        """Count a request that has come, and return the status of its answer."""
        self._forget(shop, now)
        moved = time.time() - time.monotonic() - self._wall_at_0
        self._clock_moved = max(self._clock_moved, moved, key=abs)
        shop.counts["most_at_once"] = max(shop.counts["most_at_once"], shop.in_flight)
        is_over_quota = len(shop.times) >= shop.quota
        is_over_at_once = shop.in_flight > self._terms.at_once
        shop.counts["over_quota"] += is_over_quota
        shop.counts["over_at_once"] += is_over_at_once
        if is_over_quota or is_over_at_once:
            shop.add("throttled")
            return 429
        shop.times.append(now)
        shop.add("requests")
        access = shop.access.get(bearer)
        if access is None or shop.is_revoked or access.uses_left <= 0 or access.ends_at < now:
            shop.add("unauthorized")
            return 401
        access.uses_left -= 1
        if self._random.random() < self._terms.unavailable:
            shop.add("unavailable")
            return 503
        shop.add("pages")
        return 200

    def _forget(self, shop: Shop, now: float) -> None:
        while shop.times and shop.times[0] <= now - self._terms.period:
            shop.times.popleft()

    def _quota_of(self, shop: Shop) -> Quota:
        now, period = time.monotonic(), self._terms.period
        self._forget(shop, now)
        free_in = shop.times[0] + period - now if shop.times else period
        return Quota(shop.quota, shop.quota - len(shop.times), period, free_in)

    async def _refresh(self, token: str) -> Answer:
        await asyncio.sleep(self._random.uniform(*self._terms.latency))
        shop = self._shops[token.partition(".")[0]]
        if token != shop.refresh and not self._is_forgiven(shop, token):
            shop.add("refreshed_twice")
            shop.is_revoked = True
        if shop.is_revoked:
            return 400, {}, {"error": "invalid_grant"}
        shop.add("refreshes")
        access, shop.refresh = (f"{shop.name}.{secrets.token_hex(8)}" for _ in range(2))
        shop.given[token] = access
        shop.access[access] = Access(self._terms.uses, time.monotonic() + self._terms.lifetime)
        answer = {"access_token": access, "refresh_token": shop.refresh}
        return 200, {}, answer | {"expires_in": self._terms.lifetime}

    def _is_forgiven(self, shop: Shop, token: str) -> bool:
        """Tell whether a spent refresh token is the last one, and its answer may have been lost."""
        last = list(shop.given)[-1:]
        is_unused = last == [token] and shop.access[shop.given[token]].uses_left == self._terms.uses
        shop.counts["forgiven"] += self._terms.forgives and is_unused
        return self._terms.forgives and is_unused


async def serve(vendor: Vendor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection, one after the other."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): text for name, _, text in (x.partition(": ") for x in lines)}
            body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
            bearer = headers.get("authorization", "").removeprefix("Bearer ")
            status, more, answer = await vendor.answer(
                method, target.partition("?")[0], bearer, body
            )
            content = json.dumps(answer).encode()
            more = {
                "Date": email.utils.formatdate(usegmt=True),
                "Content-Length": str(len(content)),
            } | more
            phrase = HTTPStatus(status).phrase
            text = "".join(f"{name}: {value}\r\n" for name, value in more.items())
            writer.write(f"HTTP/1.1 {status} {phrase}\r\n{text}\r\n".encode() + content)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is gone
    finally:
        writer.close()


async def main(terms: Terms) -> None:
    vendor = Vendor(terms)
    server = await asyncio.start_server(lambda *pair: serve(vendor, *pair), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@attrs.frozen
class Counts:
    """What the vendor has counted.

    Args:
        shops: The counts of each account.
        seconds: From the first request of all to the last answer of each account.
        clock_moved: Seconds by which this machine's wall clock was set, which Redis counts by.
    """

    shops: dict[str, dict[str, int]]
    seconds: dict[str, float]
    clock_moved: float

    def __getitem__(self, name: str) -> int:
        """Return a count of all accounts together."""
        return sum(counts[name] for counts in self.shops.values())

    def by_account(self, name: str) -> dict[str, int]:
        """Return a count of each account that has any."""
        return {shop: counts[name] for shop, counts in self.shops.items() if counts[name]}


class VendorProcess:
    """The vendor in a process of its own; to be used with ``with``."""

    def __init__(self, folder: Path, terms: Terms) -> None:
        settings = json.dumps(attrs.asdict(terms))
        self._process = Process(["-m", "support.vendor", settings], folder)
        port = self._process.popen.stdout.readline()
        assert port, self._process.log
        self.url = f"http://127.0.0.1:{int(port)}"

    @property
    def counts(self) -> Counts:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/counts", timeout=30) as answer:
            return Counts(**json.load(answer))

    def __enter__(self) -> VendorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


if __name__ == "__main__":
    asyncio.run(main(Terms(**json.loads(sys.argv[1]))))
