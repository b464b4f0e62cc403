"""uvicorn, so that it leaves the process alone: its signals, its loggers, its event loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

__all__ = ["make_server"]


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Leave the loggers of the process as they are."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program whose hub this is."""
        yield


def make_server(app: ASGIApp, max_connections: int, grace: int) -> uvicorn.Server:
    """Return a server for an application.

    Args:
        app: The application.
        max_connections: Connections that are served at the same time.
        grace: Seconds that requests have at a stop.
    """
    config = _Config(
        app,
        # Strict about headers, and the same everywhere.
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=grace,
    )
    return _Server(config)
