"""What the transports of httpx and httpx2 have in common: each request within a manual limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import attrs

from arbprov.errors import ConfigurationError, RateLimited
from arbprov.limits import CallLimits, current_limits
from arbprov.limits.headers import HeaderNames, ResponseWithStatusCode, check_header_names

__all__ = ["LimitedRequests"]


class _Response(ResponseWithStatusCode, Protocol):
    """A response of httpx or httpx2, whose connection has to be given back."""

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT", bound=_Response)


@attrs.frozen
class LimitedRequests:
    """Sends requests within a manual limit of the task that runs.

    Args:
        limit: The limit's `name`.
        max_wait: Seconds that a request may wait; None for what the limit says.
        headers: The names of the API's own headers; see `CallLimits.observe`.

    Raises:
        ConfigurationError: The limit has no name, or a key of `headers` is unknown.
    """

    limit: str
    max_wait: float | None
    headers: HeaderNames | None

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.limit, str) or not self.limit:
            raise ConfigurationError(
                f"LimitedTransport({self.limit!r}): give it the name of a limit, such as 'vendor'"
            )
        try:
            check_header_names(self.headers)
        except ValueError as error:
            raise ConfigurationError(f"LimitedTransport({self.limit!r}): {error}") from None

    def send(self, send: Callable[[RequestT], ResponseT], request: RequestT) -> ResponseT:
        """Charge the limit, send a request, and tell the limit about the response.

        Args:
            send: Sends the request.
            request: The request.

        Raises:
            RateLimited: The limit does not admit the request, or the API has throttled it.
            RuntimeError: No task with manual limits runs here; or an event loop does.
            ValueError: The task's action has no manual limit of the name.
        """
        limits = self._find_limits()
        limits.acquire(self.limit, max_wait=self.max_wait)
        response = send(request)
        try:
            limits.observe(response, limit=self.limit, headers=self.headers)
        except RateLimited:
            response.close()
            raise
        return response

    async def asend(
        self, send: Callable[[RequestT], Awaitable[ResponseT]], request: RequestT
    ) -> ResponseT:
        """Do as `send` does, on an event loop."""
        limits = self._find_limits()
        await limits.aacquire(self.limit, max_wait=self.max_wait)
        response = await send(request)
        try:
            limits.observe(response, limit=self.limit, headers=self.headers)
        except RateLimited:
            await response.aclose()
            raise
        return response

    def _find_limits(self) -> CallLimits:
        limits = current_limits.get()
        if limits is None:
            raise RuntimeError(
                f"LimitedTransport({self.limit!r}): no task whose action has a manual limit runs "
                f'here; declare @app.rate_limit(..., name="{self.limit}", manual=True) on the '
                f"action, start a handler's own threads with contextvars.copy_context().run, and "
                f"use another client for requests outside of tasks"
            )
        return limits
