"""`LimitedTransport` for the library httpx."""

from __future__ import annotations

import threading

import httpx

from arbprov.http.limiting import LimitedRequests
from arbprov.limits.headers import HeaderNames

__all__ = ["LimitedTransport"]


class LimitedTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Sends each request of a handler within a manual limit of its action.

    A request charges the limit first, and waits for it as ``ctx.limits.acquire`` does. Then the
    limit learns what the API says, as by ``ctx.limits.observe``: a request that the API throttles
    raises `RateLimited`, and the task ends with status ``limit``. Redirects count as requests.

    One client for all tasks is enough: the limit and its key are the running task's. It may
    be an `httpx.Client`, for plain handlers, or an `httpx.AsyncClient`.

    Args:
        limit: The limit's `name`.
        transport: What sends the requests, with its own settings for TLS, proxies and connections:
            a client that gets a transport ignores its own. By default, `httpx.HTTPTransport` or
            `httpx.AsyncHTTPTransport`.
        max_wait: Seconds that a request may wait for the limit; by default, the limit's `max_wait`.
        headers: The names of the API's own headers; see ``ctx.limits.observe``.

    Raises:
        ConfigurationError: The limit has no name, or a key of `headers` is unknown.

    >>> import httpx
    >>> from arbprov import ProviderApp
    >>> from arbprov.http import LimitedTransport
    >>> app = ProviderApp("shop")
    >>> sample = httpx.MockTransport(lambda request: httpx.Response(200, json={"price": 3.5}))
    >>> api = httpx.Client(base_url="http://shop.test", transport=LimitedTransport("shop", sample))
    >>> @app.action
    ... @app.rate_limit("100/minute", name="shop", manual=True)
    ... def price(item: str) -> dict:
    ...     return api.get(f"/prices/{item}").json()
    >>> client = app.test_client()
    >>> client.call("price", {"item": "tea"}).data
    {'price': 3.5}
    >>> client.limits.headroom("price")[0].remaining
    99
    """

    def __init__(
        self,
        limit: str,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
        *,
        max_wait: float | None = None,
        headers: HeaderNames | None = None,
    ) -> None:
        self._requests = LimitedRequests(limit, max_wait, headers)
        self._transport = transport
        # Two threads that send the first requests share what is made for them.
        self._making = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of an `httpx.Client`."""
        with self._making:
            if self._transport is None:
                self._transport = httpx.HTTPTransport()
        if not isinstance(self._transport, httpx.BaseTransport):
            raise TypeError(_MIXED.format("plain", self._transport))
        return self._requests.send(self._transport.handle_request, request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of an `httpx.AsyncClient`."""
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport()
        if not isinstance(self._transport, httpx.AsyncBaseTransport):
            raise TypeError(_MIXED.format("async", self._transport))
        return await self._requests.asend(self._transport.handle_async_request, request)

    def close(self) -> None:
        """Close the transport that sends the requests."""
        if isinstance(self._transport, httpx.BaseTransport):
            self._transport.close()

    async def aclose(self) -> None:
        """Close the transport that sends the requests."""
        if isinstance(self._transport, httpx.AsyncBaseTransport):
            await self._transport.aclose()


_MIXED = (
    "a LimitedTransport belongs to one client, and this one has to send {} requests by {!r}; make "
    "another one for the other client"
)
