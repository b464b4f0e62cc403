"""Who may see and use the page: checked before anything of a request is read but its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arbprov.errors import HubError
from arbprov.localhub.api.parsing import check_declared_size
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.security import Headers, Origins, one_header, read_headers
from arbprov.localhub.page.sessions import Sessions
from arbprov.localhub.tokens import Role

__all__ = ["SIGN_IN", "SIGN_OUT", "STATIC", "PageGuard", "cookie_name", "find_cookie"]

SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"
STATIC = "/static/"
_SAFE = frozenset({"GET", "HEAD"})
# No script, style or request but this hub's own; nothing is inline, and no other page frames it.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
# What a link elsewhere shows: the browser sends the cookie only with requests of this page's own.
_CONTINUE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>arbprov hub</title>'
    '<meta http-equiv="refresh" content="0"><p><a href="">Open the hub</a></p></html>'
)


class PageGuard:
    """Refuses requests of other origins, of nobody, and of readers who would change tasks.

    A person signs in with a form, and has a cookie then; a program sends the token as for the API.

    Args:
        app: Gets the requests that may go on; the role is in their state.
        find_role: Returns the role of a token.
        sessions: The browsers that are signed in.
        origins: Tells requests of this origin from others.
        refuse: Returns the page of a refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        find_role: Callable[[str], Awaitable[Role | None]],
        sessions: Sessions,
        origins: Origins,
        refuse: Callable[[ApiProblem, bool], Response],
    ) -> None:
        self._app = app
        self._find_role = find_role
        self._sessions = sessions
        self._origins = origins
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        is_fragment = False
        try:
            headers = read_headers(scope)
            is_fragment = one_header(headers, "hx-request") is not None
            role, response = await self._admit(scope, headers)
        except HubError as error:
            problem = ApiProblem(503, f"the hub's store can't be used now: {error}")
            response = self._refuse(problem, is_fragment)
        except ApiProblem as problem:
            response = self._refuse(problem, is_fragment)
        if response is not None:
            await response(scope, receive, send_protected)
        else:
            scope = {**scope, "state": {**scope.get("state", {}), "role": role}}
            await self._app(scope, receive, send_protected)

    async def _admit(self, scope: Scope, headers: Headers) -> tuple[Role | None, Response | None]:
        """Return the role of who asks, and an answer if the request must not go on."""
        if _is_followed_link(scope, headers):
            self._origins.check_host(headers)
            # The form needs no cookie, and one more step would lose what is behind the #.
            if scope["path"] == SIGN_IN:
                return None, None
            return None, Response(_CONTINUE, media_type="text/html")
        self._origins.check(headers)
        check_declared_size(one_header(headers, "content-length"))
        changes = scope["method"] not in _SAFE
        token = _find_bearer(headers)
        if token is None and changes and not _names_origin(headers):
            raise ApiProblem(403, "the browser does not say which page sent this form")
        if scope["path"] == SIGN_IN or scope["path"].startswith(STATIC):
            return None, None
        if token is None and (cookie := find_cookie(headers)):
            token = self._sessions.find(cookie)
        role = None if token is None else await self._find_role(token)
        if role is None:
            return None, _ask_to_sign_in(scope, headers)
        if changes and role is not Role.ADMIN and scope["path"] != SIGN_OUT:
            raise ApiProblem(
                403, "your token may only read; sign in with a token of the role admin"
            )
        return role, None


def _is_followed_link(scope: Scope, headers: Headers) -> bool:
    """Tell whether a person has followed a link of another site to this page."""
    return (
        scope["method"] == "GET"
        and one_header(headers, "sec-fetch-site") in ("cross-site", "same-site")
        and one_header(headers, "sec-fetch-mode") == "navigate"
        and one_header(headers, "sec-fetch-dest") == "document"
    )


def _names_origin(headers: Headers) -> bool:
    return any(one_header(headers, name) for name in ("origin", "sec-fetch-site"))


def _find_bearer(headers: Headers) -> str | None:
    scheme, _, token = (one_header(headers, "authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _ask_to_sign_in(scope: Scope, headers: Headers) -> Response:
    target = scope["raw_path"].decode("ascii")
    if query := scope["query_string"].decode("latin-1"):
        target += f"?{query}"
    address = f"{SIGN_IN}?next={quote(target, safe='')}"
    if one_header(headers, "hx-request") is not None:
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    if scope["method"] not in _SAFE:
        address = SIGN_IN
    elif one_header(headers, "sec-fetch-dest") not in (None, "document"):
        return Response(status_code=401)
    return RedirectResponse(address, 303)


def cookie_name(headers: Headers) -> str:
    """Return the name of the cookie: hubs on other ports of this machine have names of their own.

    >>> cookie_name({"host": ["127.0.0.1:50080"]})
    'arbprov-hub-50080'
    """
    port = (one_header(headers, "host") or "").rpartition(":")[2]
    return f"arbprov-hub-{port}" if port.isdecimal() and port.isascii() else "arbprov-hub"


def find_cookie(headers: Headers) -> str | None:
    """Return the text of the browser that asks; None if it sends none."""
    wanted = cookie_name(headers)
    for header in headers.get("cookie", ()):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == wanted:
                return value
    return None
