"""Who may call: checked before anything of a request is read but its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arbprov.errors import HubError
from arbprov.localhub.api.answers import answer_problem
from arbprov.localhub.api.parsing import check_declared_size
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.tokens import Role

__all__ = ["Guard", "Headers", "Origins", "host_name", "one_header", "read_headers"]

Headers = Mapping[str, Sequence[str]]

#: The names of this machine, as a browser on it may send them.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# What a reader's token allows.
_SAFE = frozenset({"GET", "HEAD"})
# A browser sends these for requests of a page of this origin, or of a person.
_OWN_SITE = frozenset({"same-origin", "none"})
# No other origin may read, frame or guess what is answered here.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Origins:
    """Knows the names of this machine, and refuses requests of pages of other origins.

    Args:
        allowed_hosts: Names that the Host header may have besides this machine's names.
    """

    def __init__(self, allowed_hosts: Iterable[str] = ()) -> None:
        self._hosts = LOOPBACK | {name.lower() for name in allowed_hosts}

    def check(self, headers: Headers) -> None:
        """Check the headers Host, Origin and Sec-Fetch-Site of a request.

        Raises:
            ApiProblem: The request is for another machine, or of a page of another origin.
        """
        self.check_host(headers)
        if (site := one_header(headers, "sec-fetch-site")) is not None and site not in _OWN_SITE:
            raise ApiProblem(403, "a page of another site may not use this API")

    def check_host(self, headers: Headers) -> None:
        """Check the headers Host and Origin of a request, which may come from a link elsewhere.

        Raises:
            ApiProblem: The request is for another machine, or of a page of another origin.
        """
        host = one_header(headers, "host")
        if host is None or host_name(host) not in self._hosts:
            raise ApiProblem(
                403,
                "the Host header names another machine than this one; use 127.0.0.1 or localhost, "
                "or have the hub allow this name (--allow-host)",
            )
        origin = one_header(headers, "origin")
        if origin is not None and origin.lower() not in {
            f"{scheme}://{host.lower()}" for scheme in ("http", "https")
        }:
            raise ApiProblem(403, "a page of another origin may not use this API")


class Guard:
    """Refuses requests of other origins, without a token, and of readers who would change tasks.

    Args:
        app: Gets the requests that may go on; the role is in their state.
        find_role: Returns the role of a token.
        allowed_hosts: Names that the Host header may have besides this machine's names.
        open_paths: Paths that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        find_role: Callable[[str], Awaitable[Role | None]],
        allowed_hosts: Iterable[str] = (),
        open_paths: Collection[str] = (),
    ) -> None:
        self._app = app
        self._find_role = find_role
        self._origins = Origins(allowed_hosts)
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            headers = read_headers(scope)
            self._origins.check(headers)
            role = None
            if scope["path"] not in self._open_paths:
                role = await self._authenticate(headers)
                if role is not Role.ADMIN and scope["method"] not in _SAFE:
                    raise ApiProblem(
                        403, "this token may only read; use a token with the role admin"
                    )
            check_declared_size(one_header(headers, "content-length"))
        except HubError as error:
            problem = ApiProblem(503, f"the hub's store can't be used now: {error}")
            await answer_problem(problem)(scope, receive, send_protected)
        except ApiProblem as problem:
            await answer_problem(problem)(scope, receive, send_protected)
        else:
            scope = {**scope, "state": {**scope.get("state", {}), "role": role}}
            await self._app(scope, receive, send_protected)

    async def _authenticate(self, headers: Headers) -> Role:
        scheme, _, token = (one_header(headers, "authorization") or "").partition(" ")
        challenge = {"WWW-Authenticate": 'Bearer realm="arbprov hub"'}
        if scheme.lower() != "bearer" or not token.strip():
            raise ApiProblem(
                401, "send the hub's token in the header Authorization: Bearer TOKEN", (), challenge
            )
        role = await self._find_role(token.strip())
        if role is None:
            raise ApiProblem(
                401,
                "the token is not known, or is a provider's; use the hub's own token, or one with "
                "the role admin or reader",
                (),
                challenge,
            )
        return role


def host_name(host: str) -> str:
    """Return the name in a Host header, in small letters and without the port.

    >>> host_name("LOCALHOST:50080"), host_name("[::1]:50080"), host_name("hub")
    ('localhost', '[::1]', 'hub')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() and port.isascii() else host.lower()


def read_headers(scope: Scope) -> dict[str, list[str]]:
    """Return the values of each header, by its name in small letters."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(_decode(value))
    return headers


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def one_header(headers: Headers, name: str) -> str | None:
    """Return a header's value, and None without it; two of them would be read differently."""
    values = headers.get(name, [])
    if len(values) > 1:
        raise ApiProblem(400, f"the header {name} is there twice")
    return values[0] if values else None
