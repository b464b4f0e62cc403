"""Redis as a cache with expiry; while Redis is away, each task asks the source.

Run `pip install "arbprov[redis]"` first. A Redis server is optional:

    export REDIS_URL=redis://localhost:6379/0
    arbprov dev examples/redis_cache.py --tasks examples/redis_cache.jsonl
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from arbprov import ProviderApp, TaskContext

app = ProviderApp("rates")

TIME_TO_LIVE = 60  # seconds

# A slow cache is worse than no cache, so it gets 0.2 seconds, and no retry.
cache = Redis.from_url(
    os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    socket_connect_timeout=0.2,
    socket_timeout=0.2,
    retry=Retry(NoBackoff(), 0),
)


@app.on_shutdown
async def close_cache() -> None:
    await cache.aclose()


@app.action
async def exchange_rates(base: str, ctx: TaskContext) -> dict[str, Any]:
    """Return the exchange rates of a currency, at most a minute old."""
    key = f"rates:{base}"
    cached = None
    with unless_away(ctx):
        cached = await cache.get(key)
    if cached is not None:
        return {"cached": True, **json.loads(cached)}
    rates = await ask_the_source(base)
    with unless_away(ctx):
        await cache.set(key, json.dumps(rates), ex=TIME_TO_LIVE)
    return {"cached": False, **rates}


@contextmanager
def unless_away(ctx: TaskContext) -> Iterator[None]:
    """Go on without the cache if it does not answer, and log that."""
    try:
        yield
    except RedisError as error:
        ctx.logger.warning("doing without the cache: %s", error)


async def ask_the_source(base: str) -> dict[str, Any]:
    """Return fresh rates; this stands for an API, or a query, that is slow or costs money."""
    await asyncio.sleep(0.1)
    as_of = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    return {"base": base, "as_of": as_of, "EUR": 1.0, "USD": 1.1}


if __name__ == "__main__":
    app.run()
