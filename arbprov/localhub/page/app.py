"""The page's ASGI application: its routes, its errors, and what guards it."""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable, Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from arbprov._utils import escape_line
from arbprov.errors import HubError
from arbprov.localhub.api.app import EncodedPaths, LogFailures
from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.security import Origins
from arbprov.localhub.page.action_pages import ActionPages
from arbprov.localhub.page.events import PageEvents
from arbprov.localhub.page.guard import SIGN_IN, SIGN_OUT, STATIC, PageGuard
from arbprov.localhub.page.hub import PageHub, go_to
from arbprov.localhub.page.limit_pages import LimitPages
from arbprov.localhub.page.pause_forms import PauseForms
from arbprov.localhub.page.provider_pages import ProviderPages
from arbprov.localhub.page.rendering import Renderer, StaticFiles
from arbprov.localhub.page.sessions import Sessions
from arbprov.localhub.page.sign_in import SignIn
from arbprov.localhub.page.statistics import Statistics
from arbprov.localhub.page.task_list import TaskListPages
from arbprov.localhub.page.task_pages import TaskPages

__all__ = ["make_page"]

_MAX_DETAIL = 1_000
_Endpoint = Callable[[Request], Awaitable[Response]]


def make_page(api: ApiHub, allowed_hosts: Iterable[str] = ()) -> ASGIApp:
    """Return the application of a hub's page.

    Args:
        api: The hub as the API sees it.
        allowed_hosts: Names that requests may use for this machine besides ``localhost`` and its
            addresses.
    """
    static = StaticFiles()
    hub = PageHub(api, Sessions(), Renderer(static))

    def refuse(problem: ApiProblem, is_fragment: bool) -> Response:
        values = {
            "title": http.HTTPStatus(problem.status).phrase,
            "detail": escape_line(problem.detail, _MAX_DETAIL),
        }
        template = "notice" if is_fragment else "refusal"
        return HTMLResponse(hub.render.text(template, **values), problem.status)

    def answer(request: Request, problem: ApiProblem) -> Response:
        return refuse(problem, "hx-request" in request.headers)

    async def answer_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiProblem)
        return answer(request, error)

    async def answer_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        details = {404: "There is nothing at this address.", 405: "This address has other methods."}
        detail = details.get(error.status_code, error.detail)
        return answer(request, ApiProblem(error.status_code, detail))

    async def answer_hub_error(request: Request, error: Exception) -> Response:
        return answer(request, ApiProblem(503, f"The hub can't do this now: {error}"))

    async def answer_failure(request: Request, _: Exception) -> Response:
        return answer(request, ApiProblem(500, "The hub failed; its log says how."))

    app = Starlette(
        routes=[
            Route(path, endpoint, methods=[method])
            for method, path, endpoint in _routes(hub, static)
        ],
        exception_handlers={
            ApiProblem: answer_refusal,
            HTTPException: answer_http_error,
            HubError: answer_hub_error,
            ClientDisconnect: _answer_nobody,
            Exception: answer_failure,
        },
    )
    app.router.redirect_slashes = False
    return PageGuard(
        EncodedPaths(LogFailures(app)),
        api.tokens.find_role,
        hub.sessions,
        Origins(allowed_hosts),
        refuse,
    )


def _routes(hub: PageHub, static: StaticFiles) -> list[tuple[str, str, _Endpoint]]:
    statistics = Statistics(hub.store, hub.now)
    tasks, task, actions = (
        TaskListPages(hub, statistics),
        TaskPages(hub),
        ActionPages(hub, statistics),
    )
    sign_in, pauses = SignIn(hub), PauseForms(hub)
    return [
        ("GET", "/", _show_tasks),
        ("GET", STATIC + "{name}", static.show),
        ("GET", SIGN_IN, sign_in.show),
        ("POST", SIGN_IN, sign_in.sign_in),
        ("POST", SIGN_OUT, sign_in.sign_out),
        ("GET", "/events", PageEvents(hub).stream),
        ("GET", "/tasks", tasks.show),
        ("GET", "/matching/{verb}", tasks.ask),
        ("POST", "/matching/{verb}", tasks.change),
        ("GET", "/tasks/{id}", task.show),
        ("GET", "/tasks/{id}/download", task.download),
        ("POST", "/tasks/{id}/retry", task.retry),
        ("POST", "/tasks/{id}/cancel", task.cancel),
        ("POST", "/tasks/{id}/again", task.run_again),
        ("GET", "/actions", actions.list),
        ("GET", "/actions/{name}", actions.show),
        ("POST", "/actions/{name}", actions.run),
        ("POST", "/actions/{name}/mode", actions.switch),
        ("GET", "/actions/{name}/outcome", actions.outcome),
        ("GET", "/limits", LimitPages(hub).show),
        ("GET", "/providers", ProviderPages(hub).show),
        ("POST", "/pauses", pauses.pause),
        ("POST", "/pauses/end", pauses.resume),
    ]


async def _show_tasks(_: Request) -> Response:
    return go_to("/tasks")


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=400)
