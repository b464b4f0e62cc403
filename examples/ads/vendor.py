"""The vendor's HTTP API: accounts, requests, and the meaning of the answers."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import httpx

from arbprov import RateLimited

api = httpx.AsyncClient(
    base_url=os.environ.get("ADS_API_URL", "http://127.0.0.1:8000"),
    timeout=5,  # seconds
    limits=httpx.Limits(max_connections=10),
)


# It becomes a part of a URL, so that not every text is safe.
CampaignId = Annotated[str, attrs.validators.matches_re(r"c\d{1,18}")]


@attrs.frozen
class Account:
    """The account that the hub sends with each task."""

    business: str
    token: str = attrs.field(repr=False)
    may_change: bool = False


class ApiError(Exception):
    """The API refuses a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def ask(account: Account, method: str, path: str, **request: Any) -> Any:
    """Send a request for an account, and return the JSON of the answer.

    Raises:
        ApiError: The API refuses the request.
        RateLimited: The API throttles the account.
    """
    headers = {"Authorization": f"Bearer {account.token}"}
    response = await api.request(method, path, headers=headers, **request)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        # Starts a cooldown of the account: until its end, the API gets no request for it.
        raise RateLimited(retry_after=response.headers.get("Retry-After", 60))
    if response.is_error:
        raise ApiError(response.status_code, reason(response))
    return response.json()


def reason(response: httpx.Response) -> str:
    """Return the text of an error, which may come from a proxy, in another form."""
    try:
        return str(response.json()["error"])
    except (ValueError, LookupError, TypeError):
        return f"The API answered {response.status_code} {response.reason_phrase}"


async def pages(account: Account, path: str, **params: str) -> AsyncIterator[list[Any]]:
    """Yield a list page by page, as long as there is a next one."""
    cursor = ""
    while True:
        page = await ask(account, "GET", path, params=params | {"after": cursor})
        yield page["items"]
        if not (cursor := page["next"]):
            return
