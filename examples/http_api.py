"""Calling an HTTP API: one client for the provider's life, its quota, and clear errors.

Run `pip install "arbprov[http]"` first. The files of `sample_api` stand for an API:

    python -m http.server 8000 --bind 127.0.0.1 --directory examples/sample_api &
    arbprov dev examples/http_api.py --tasks examples/http_api.jsonl
    kill %1

Set API_URL to use another API. At most five tasks of an account run at the same time. Each request
counts for the account's limit, however many a task makes, and the limit learns from the API's
headers. A 429 starts a cooldown for the account, as long as the API says: until then, the account's
tasks are refused, and the API gets no request for it.
"""

import contextlib
import os
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import httpx

from arbprov import Concurrency, ProviderApp, TaskContext, TaskError
from arbprov.http import LimitedTransport

API_URL = os.environ.get("API_URL", "http://127.0.0.1:8000")
# Seconds for each step of a request, and for the whole task.
API_TIMEOUT = 5.0
TASK_TIMEOUT = 10.0

app = ProviderApp("articles", execution_timeout=TASK_TIMEOUT)
Context = TaskContext[httpx.AsyncClient]


class ApiError(TaskError):
    """The API gave no usable answer."""


@attrs.frozen
class Account:
    api_key: str = attrs.field(repr=False)


@app.lifespan
@contextlib.asynccontextmanager
async def connect() -> AsyncGenerator[httpx.AsyncClient]:
    limited = LimitedTransport("articles", max_wait=API_TIMEOUT)
    async with httpx.AsyncClient(
        base_url=API_URL, timeout=API_TIMEOUT, transport=limited
    ) as client:
        yield client


@app.action
@app.rate_limit(Concurrency(5), key="account.api_key", max_wait=TASK_TIMEOUT)
@app.rate_limit("10/second", key="account.api_key", name="articles", manual=True)
async def get_article(ctx: Context, id: int, account: Account) -> Any:
    """Return an article from the API."""
    return await get(ctx.state, f"/articles/{id}.json", account)


async def get(api: httpx.AsyncClient, path: str, account: Account) -> Any:
    """Return the JSON of the API's answer.

    Raises:
        ApiError: There is no answer, or it is not JSON; the text says why.
        RateLimited: The account's quota is used up.
    """
    try:
        response = await api.get(path, headers={"Authorization": f"Bearer {account.api_key}"})
    except httpx.TimeoutException:
        raise ApiError(f"The API did not answer within {API_TIMEOUT:g} s") from None
    except httpx.TransportError as error:
        raise ApiError(f"The API can't be reached: {error}") from error
    if response.is_error:
        raise ApiError(f"The API answered {response.status_code} {response.reason_phrase}")
    try:
        return response.json()
    except ValueError as error:
        raise ApiError("The API's answer is not JSON") from error


if __name__ == "__main__":
    app.run()
