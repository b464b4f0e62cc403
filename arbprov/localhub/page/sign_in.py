"""Signing in with a token, and out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.api.security import read_headers
from arbprov.localhub.page.guard import SIGN_IN, cookie_name, find_cookie
from arbprov.localhub.page.hub import PageHub, go_to
from arbprov.localhub.page.requests import field, find_filters, read_form, safe_target

__all__ = ["SignIn"]

_HOME = "/tasks"
_MAX_FORM = 2**14


class SignIn:
    """The form for the token.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: PageHub) -> None:
        self._hub = hub

    async def show(self, request: Request) -> Response:
        """Show the form."""
        target = field(find_filters(request.url.query), "next")
        return self._page(request, safe_target(target, _HOME), "")

    async def sign_in(self, request: Request) -> Response:
        """Give the browser a cookie if the token is right."""
        form = await read_form(request, _MAX_FORM)
        target = safe_target(field(form, "next"), _HOME)
        token = field(form, "token").strip()
        if not token or await self._hub.api.tokens.find_role(token) is None:
            problem = (
                "This token is not known, or is a provider's. Use the hub's own token, or one "
                "with the role admin or reader."
            )
            return self._page(request, target, problem, 403)
        response = go_to(target)
        response.set_cookie(
            cookie_name(read_headers(request.scope)),
            self._hub.sessions.begin(token),
            httponly=True,
            samesite="strict",
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the browser."""
        headers = read_headers(request.scope)
        if cookie := find_cookie(headers):
            self._hub.sessions.end(cookie)
        response = go_to(SIGN_IN)
        response.delete_cookie(cookie_name(headers), httponly=True, samesite="strict")
        return response

    def _page(self, request: Request, target: str, problem: str, status: int = 200) -> Response:
        return self._hub.render.page(
            request, "sign_in", status=status, target=target, problem=problem
        )
