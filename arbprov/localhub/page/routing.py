"""Tells requests for the API from requests for the page."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from arbprov.localhub.api.operations import HEALTH, OPENAPI

__all__ = ["ApiOrPage"]


class ApiOrPage:
    """The API and the page at the same address.

    Args:
        api: The API.
        page: The page.
    """

    def __init__(self, api: ASGIApp, page: ASGIApp) -> None:
        self._api = api
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        path = scope["path"]
        is_api = path in (HEALTH, OPENAPI, "/api") or path.startswith("/api/")
        await (self._api if is_api else self._page)(scope, receive, send)
