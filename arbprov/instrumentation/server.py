"""The HTTP server of the pages that watch a provider, on threads of its own."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from typing_extensions import Self

from arbprov.errors import ConfigurationError

__all__ = ["TEXT", "MonitoringServer", "Page"]

logger = logging.getLogger("arbprov")

TEXT = "text/plain; charset=utf-8"

# Requests that are answered at once; the others are cut off.
_MAX_THREADS = 16
# Seconds that a client may be silent.
_TIMEOUT = 5.0

# Seconds to wait after a connection that can't be accepted.
_PAUSE = 0.1

# Returns the status, the type and the content of a response.
Page = Callable[[], tuple[int, str, bytes]]


class MonitoringServer:
    """Listens from when it is made; `start` has it answer, and `close` ends it.

    Args:
        address: ``HOST:PORT``; an IPv6 address is in brackets, and port 0 is any free port.

    Raises:
        ConfigurationError: It can't listen there.

    >>> with MonitoringServer("127.0.0.1:0") as server:
    ...     server.start({"/livez": lambda: (200, TEXT, b"ok")})
    ...     server.address.startswith("127.0.0.1:")
    True
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            family, _, _, _, target = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM
            )[0]
            self._listener = socket.create_server(target[:2], family=family, backlog=64)
        except OSError as error:
            reason = str(error.strerror).partition(" (")[0]  # it repeats the address
            raise ConfigurationError(
                f"ARBPROV_MONITORING (monitoring=) {address!r}: can't listen there, "
                f"{reason}; is another provider running there? Set another port, "
                f"or 127.0.0.1 or 0.0.0.0 as the host"
            ) from error
        self._listener.setblocking(False)
        bound_host, bound_port = self._listener.getsockname()[:2]
        self.address = (
            f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
        )
        self._wake: socket.socket | None = None
        self._free = threading.BoundedSemaphore(_MAX_THREADS)

    def start(self, pages: Mapping[str, Page]) -> None:
        """Answer requests from now on.

        Args:
            pages: The pages by path; they are called on threads.
        """
        handler = type("Handler", (_Handler,), {"pages": pages})
        self._wake, woken = socket.socketpair()
        selector = selectors.DefaultSelector()
        selector.register(woken, selectors.EVENT_READ)
        selector.register(self._listener, selectors.EVENT_READ)
        threading.Thread(
            target=self._serve,
            args=(handler, selector, woken),
            name="arbprov-monitoring",
            daemon=True,
        ).start()

    def close(self) -> None:
        """Answer nothing any more, without waiting for the requests that run."""
        if self._wake is not None:
            self._wake.close()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _serve(
        self, handler: type[_Handler], selector: selectors.BaseSelector, woken: socket.socket
    ) -> None:
        with woken, selector:
            while all(key.fileobj is not woken for key, _ in selector.select()):
                try:
                    self._answer(handler, *self._listener.accept())
                except OSError:
                    # The client is gone, too many files are open, or the server is closed.
                    time.sleep(_PAUSE)

    def _answer(self, handler: type[_Handler], client: socket.socket, address: Any) -> None:
        if not self._free.acquire(blocking=False):
            client.close()
            return

        def answer() -> None:
            with client:
                try:
                    client.settimeout(_TIMEOUT)
                    handler(client, address, None)  # type: ignore[arg-type]
                except OSError:
                    pass  # the client is gone
                finally:
                    self._free.release()

        threading.Thread(target=answer, name="arbprov-monitoring", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; each server has a subclass with its pages."""

    pages: Mapping[str, Page] = {}
    server_version = "arbprov"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        page = self.pages.get(path)
        if page is None:
            known = " ".join(self.pages)
            self._send(
                404, TEXT, f"there is no {path}; there is {known}\n".encode(errors="replace")
            )
            return
        try:
            answer = page()
        except Exception as error:
            logger.exception("the page %s could not be made", path)
            answer = (
                500,
                TEXT,
                f"the page could not be made: {type(error).__qualname__}\n".encode(),
            )
        self._send(*answer)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: probes come each second."""
