"""The ASGI application: its routes, its errors, and what guards it."""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from arbprov.errors import HubError
from arbprov.localhub.api.answers import answer, answer_problem
from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.openapi import describe
from arbprov.localhub.api.operations import HEALTH, OPENAPI, Endpoint, list_operations
from arbprov.localhub.api.parsing import reject_parameters
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.security import Guard

__all__ = ["EncodedPaths", "LogFailures", "make_app"]

logger = logging.getLogger("arbprov")


def make_app(hub: ApiHub, allowed_hosts: Iterable[str] = ()) -> ASGIApp:
    """Return the application of a hub's API.

    Args:
        hub: The hub.
        allowed_hosts: Names that requests may use for this machine besides ``localhost`` and its
            addresses.
    """
    operations = list_operations(hub)
    # Few ask for it, and it takes as long as the rest of the start.
    document = functools.cache(lambda: describe(operations))

    async def show_document(_: Request) -> Response:
        return answer(document())

    endpoints: defaultdict[str, dict[str, Endpoint]] = defaultdict(dict)
    endpoints[OPENAPI]["GET"] = _without_query(show_document)
    for operation in operations:
        has_query = operation.query is not None
        endpoint = operation.endpoint if has_query else _without_query(operation.endpoint)
        endpoints[operation.path][operation.method] = endpoint
    app = Starlette(
        routes=[_make_route(path, by_method) for path, by_method in endpoints.items()],
        exception_handlers={
            ApiProblem: _answer_refusal,
            HTTPException: _answer_http_error,
            HubError: _answer_hub_error,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_failure,
        },
    )
    app.router.redirect_slashes = False
    return Guard(
        EncodedPaths(LogFailures(app)), hub.tokens.find_role, allowed_hosts, (HEALTH, OPENAPI)
    )


def _make_route(path: str, by_method: dict[str, Endpoint]) -> Route:
    """Return the route of a path, so that a refused method is told all that are allowed."""

    async def call(request: Request) -> Response:
        return await by_method["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, call, methods=[*by_method])


def _without_query(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that refuses parameters, instead of ignoring them."""

    async def call(request: Request) -> Response:
        reject_parameters(request)
        return await endpoint(request)

    return call


# Errors.


async def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    return answer_problem(error)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {404: "there is nothing at this path", 405: "this path has other methods"}
    detail = details.get(error.status_code, error.detail)
    return answer_problem(ApiProblem(error.status_code, detail, (), error.headers))


async def _answer_hub_error(_: Request, error: Exception) -> Response:
    return answer_problem(ApiProblem(503, f"the hub can't do this now: {error}"))


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _answer_failure(_: Request, __: Exception) -> Response:
    return answer_problem(ApiProblem(500, "the hub failed; its log says how"))


class LogFailures:
    """Logs an error that nothing foresaw; Starlette has answered it then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self._app(scope, receive, send)
        except Exception:
            logger.exception("the hub's HTTP API failed: %s %s", scope["method"], scope["path"])


class EncodedPaths:
    """Has routes match paths as they were sent: a task's id may have a slash in it, as ``%2F``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app({**scope, "path": scope["raw_path"].decode("ascii")}, receive, send)
