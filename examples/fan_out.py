"""Async fan-out: a task makes many requests, a few at once, and returns the answers in time.

Run `pip install httpx` first. The files of `sample_api` stand for an API:

    python -m http.server 8000 --bind 127.0.0.1 --directory examples/sample_api &
    arbprov dev examples/fan_out.py --tasks examples/fan_out.jsonl
    kill %1

Set API_URL to use another API.
"""

import asyncio
import os
from typing import Annotated, Any

import httpx
from attrs.validators import max_len, min_len

from arbprov import ProviderApp, ProviderResponse, TaskContext, TaskError

API_URL = os.environ.get("API_URL", "http://127.0.0.1:8000")
# Requests of one task at the same time.
AT_ONCE = 4
# Seconds before the task's deadline at which the task stops waiting for answers.
RESERVE = 0.5

app = ProviderApp("catalogue", execution_timeout=5)
api: httpx.AsyncClient


class ApiError(TaskError):
    """The API gave no article."""


@app.on_startup
async def open_client() -> None:
    global api
    # No timeout of its own: the task's deadline ends a request.
    api = httpx.AsyncClient(base_url=API_URL, timeout=None)  # noqa: S113


@app.on_shutdown
async def close_client() -> None:
    await api.aclose()


@app.action
async def get_articles(
    ids: Annotated[list[int], min_len(1), max_len(100)], ctx: TaskContext
) -> ProviderResponse:
    """Return many articles: the articles in time, and why the rest is missing."""
    turns = asyncio.Semaphore(AT_ONCE)
    requests = [asyncio.create_task(get_article(one, turns)) for one in ids]
    try:
        await asyncio.wait(requests, timeout=ctx.remaining - RESERVE)
    finally:
        # No request goes on after the answer, or after the task was cancelled.
        for request in requests:
            request.cancel()
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
    found = dict(zip(map(str, ids), outcomes, strict=True))
    failed = {key: reason(one) for key, one in found.items() if isinstance(one, BaseException)}
    articles = [one for one in found.values() if not isinstance(one, BaseException)]
    data = {"articles": articles, "failed": failed}
    if not failed:
        return ProviderResponse("success", data=data)
    message = f"{len(failed)} of {len(found)} articles are missing"
    return ProviderResponse("warning" if articles else "error", message=message, data=data)


async def get_article(id: int, turns: asyncio.Semaphore) -> Any:
    async with turns:
        try:
            response = await api.get(f"/articles/{id}.json")
        except httpx.TransportError as error:
            raise ApiError(f"the API can't be reached: {error}") from error
    if response.is_error:
        raise ApiError(f"the API answered {response.status_code} {response.reason_phrase}")
    return response.json()


def reason(error: BaseException) -> str:
    """Return why an article is missing; raise any error that the API did not cause."""
    if isinstance(error, asyncio.CancelledError):
        return "did not come in time"
    if isinstance(error, ApiError):
        return str(error)
    raise error


if __name__ == "__main__":
    app.run()
