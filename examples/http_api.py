"""Calling an HTTP API: one client for the provider's life, honest errors, and quotas obeyed.

With `pip install httpx`, and the files of `sample_api` for an API:

    python -m http.server 8000 --bind 127.0.0.1 --directory examples/sample_api &
    arbprov dev examples/http_api.py --tasks examples/http_api.jsonl
    kill %1

API_URL is the address of another one. A 429 closes the account's gate for as long as the API says:
until then, its tasks are refused here, and the API is not asked.
"""

import os
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import attrs
import httpx

from arbprov import ProviderApp, RateLimited, TaskError

API_URL = os.environ.get("API_URL", "http://127.0.0.1:8000")
# In seconds: of each step of a request, and of all that a task may take.
API_TIMEOUT = 5.0
TASK_TIMEOUT = 10.0
# How long to leave an API alone that has had enough, and does not say for how long.
DEFAULT_WAIT = 60.0

app = ProviderApp("articles", execution_timeout=TASK_TIMEOUT)
api: httpx.AsyncClient


class ApiError(TaskError):
    """The API did not do what it was asked for."""


@attrs.frozen
class Account:
    api_key: str = attrs.field(repr=False)


@app.on_startup
async def open_client() -> None:
    global api
    api = httpx.AsyncClient(base_url=API_URL, timeout=API_TIMEOUT)


@app.on_shutdown
async def close_client() -> None:
    await api.aclose()


@app.action
@app.rate_limit("10/second", key="account.api_key")
async def get_article(id: int, account: Account) -> Any:
    """An article, as the API has it."""
    return await get(f"/articles/{id}.json", account)


async def get(path: str, account: Account) -> Any:
    """Return the JSON of an answer; anything else is an error that says what it was."""
    try:
        response = await api.get(path, headers={"Authorization": f"Bearer {account.api_key}"})
    except httpx.TimeoutException:
        raise ApiError(f"The API did not answer within {API_TIMEOUT:g} s") from None
    except httpx.TransportError as error:
        raise ApiError(f"The API can't be reached: {error}") from error
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(seconds_to_wait(response.headers.get("Retry-After", "")))
    if response.is_error:
        raise ApiError(f"The API answered {response.status_code} {response.reason_phrase}")
    try:
        return response.json()
    except ValueError as error:
        raise ApiError("The API answered something that is no JSON") from error


def seconds_to_wait(retry_after: str) -> float:
    """Return the seconds of a Retry-After, which may be a number of them or a date."""
    if retry_after.isdecimal():
        seconds = float(retry_after)
    else:
        try:
            at = parsedate_to_datetime(retry_after)
            seconds = (at - datetime.now(timezone.utc)).total_seconds()
        except (TypeError, ValueError):
            seconds = DEFAULT_WAIT
    return max(seconds, 1.0)


if __name__ == "__main__":
    app.run()
