"""`ApiServer`: serves the API and the page over HTTP, in the event loop of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from arbprov.errors import ConfigurationError
from arbprov.localhub.api.extra import check_installed
from arbprov.localhub.queue import TaskQueue
from arbprov.localhub.reports import Reports
from arbprov.localhub.tokens import Tokens

if TYPE_CHECKING:
    import uvicorn

    from arbprov.localhub.api.hub import ApiHub

__all__ = ["ApiServer"]

logger = logging.getLogger("arbprov")

_BACKLOG = 512
_MAX_CONNECTIONS = 1_000
# Seconds that requests have at a stop.
_GRACE = 5


class ApiServer:
    """Serves a hub's HTTP API and its page in the event loop that runs when it is started.

    Args:
        queue: The hub's tasks.
        tokens: The hub's tokens.
        address: ``HOST:PORT``; an IPv6 address is in brackets, and port 0 is any free port.
        allowed_hosts: Names that requests may use for this machine, besides ``localhost`` and its
            addresses. Without them, the address must be on loopback.
        reports: The providers' reports; None without reports.

    Raises:
        ConfigurationError: The address or a name is not valid, or the extra `hub` is not installed.
    """

    def __init__(
        self,
        queue: TaskQueue,
        tokens: Tokens,
        address: str,
        *,
        allowed_hosts: Sequence[str] = (),
        reports: Reports | None = None,
    ) -> None:
        check_installed("the hub's HTTP API", "jinja2", "starlette", "uvicorn")
        self._queue = queue
        self._tokens = tokens
        self._reports = Reports() if reports is None else reports
        self._address = address
        self._allowed_hosts = [_check_name(name) for name in allowed_hosts]
        self._host, self._port = _split(address)
        if not (allowed_hosts or _is_loopback(self._host)):
            raise ConfigurationError(
                f"the hub's HTTP API can't listen on {address!r}: it has no encryption, and is for "
                f"this machine only; use an address such as 127.0.0.1:50080, or say by which "
                f"names other machines reach it (--allow-host)"
            )
        self._hub: ApiHub
        self._server: uvicorn.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Listen, and return the address with the real port.

        Raises:
            ConfigurationError: It can't listen there.
        """
        from arbprov.localhub.api.app import make_app
        from arbprov.localhub.api.hub import ApiHub
        from arbprov.localhub.api.uvicorn_server import make_server
        from arbprov.localhub.page.app import make_page
        from arbprov.localhub.page.routing import ApiOrPage

        listener = self._listen()
        self._hub = ApiHub(self._queue, self._tokens, self._reports)
        hosts = [*self._allowed_hosts, *self._own_names()]
        app = ApiOrPage(make_app(self._hub, hosts), make_page(self._hub, hosts))
        self._server = make_server(app, _MAX_CONNECTIONS, _GRACE)
        self._tasks = [
            asyncio.ensure_future(self._serve(listener)),
            asyncio.ensure_future(self._hub.count_ends()),
        ]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{listener.getsockname()[1]}"

    async def stop(self) -> None:
        """End the streams of events and the waits, let other requests finish, and close."""
        if self._server is None:
            return
        self._hub.stopping.set()
        self._server.should_exit = True
        serving, counting = self._tasks
        await serving
        counting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await counting

    async def _serve(self, listener: socket.socket) -> None:
        assert self._server is not None
        with _quiet_logs():
            await self._server.serve(sockets=[listener])

    def _listen(self) -> socket.socket:
        try:
            family, _, _, _, target = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM
            )[0]
            bound = socket.create_server(target[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            # Without the address, which Python adds in brackets.
            reason = str(error.strerror).partition(" (")[0]
            raise ConfigurationError(
                f"the hub's HTTP API can't listen on {self._address}: {reason}; choose another "
                f"address, such as 127.0.0.1:0 for any free port"
            ) from error
        # asyncio sends small packets at once only where a socket says that its protocol is TCP.
        protocol = socket.IPPROTO_TCP
        listener = socket.socket(family, socket.SOCK_STREAM, protocol, fileno=bound.detach())
        listener.setblocking(False)
        return listener

    def _own_names(self) -> list[str]:
        # That of "every address" is a name for no machine.
        if self._host in ("0.0.0.0", "::"):  # noqa: S104 - compared, and not bound
            return []
        return [f"[{self._host}]" if ":" in self._host else self._host]


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    # The system would use the lowest 16 bits of a larger number.
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise ConfigurationError(
            f"the hub's HTTP API can't listen on {address!r}: write HOST:PORT, such as "
            f"127.0.0.1:50080, or port 0 for any free port"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_name(name: str) -> str:
    from arbprov.localhub.api.security import host_name

    if not name or host_name(name) != name.lower() or set(name) & set("/@ "):
        raise ConfigurationError(
            f"{name!r} is not the name of a host; write a name such as hub.example, without a "
            f"scheme and a port"
        )
    return name


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


# Logs.

_UVICORN_LOGGERS = ("uvicorn.error", "uvicorn.access", "uvicorn.asgi")


class _OfThread(logging.Filter):
    """Drops the records of a thread; errors go to arbprov's log."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        if record.levelno >= logging.ERROR:
            logger.error("the hub's HTTP API: %s", record.getMessage(), exc_info=record.exc_info)
        return False


@contextlib.contextmanager
def _quiet_logs(names: Iterable[str] = _UVICORN_LOGGERS) -> Iterator[None]:
    """Keep what uvicorn logs in this thread from a user's terminal, and all else as it is."""
    own = _OfThread(threading.get_ident())
    loggers = [logging.getLogger(name) for name in names]
    for one in loggers:
        one.addFilter(own)
    try:
        yield
    finally:
        for one in loggers:
            one.removeFilter(own)
