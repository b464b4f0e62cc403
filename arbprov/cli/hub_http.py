"""Whether and where the bundled hub serves HTTP."""

from __future__ import annotations

import importlib.util
import socket
from typing import TYPE_CHECKING, Any

import click

from arbprov.cli.options import HTTP_ADDRESS
from arbprov.cli.output import echo
from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub

__all__ = [
    "INSTALL_HINT",
    "describe_addresses",
    "find_http_address",
    "has_http_extra",
    "http_option",
]

INSTALL_HINT = "pip install 'arbprov[hub]'"

http_option = click.option(
    "--http",
    metavar="HOST:PORT",
    help=f"Where to serve the HTTP API; none turns it off.  [default: {HTTP_ADDRESS}]",
)


def has_http_extra() -> bool:
    """Tell whether the packages of the extra ``[hub]`` are installed."""
    return all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn"))


def find_http_address(http: str | None) -> str | None:
    """Return where a hub serves HTTP; None if it does not.

    Args:
        http: The address, or ``none``; None for the default, which needs the extra.

    Raises:
        ConfigurationError: There is an address, but the extra is not installed.

    >>> find_http_address("none")
    """
    if http == "none":
        return None
    if has_http_extra():
        return http or HTTP_ADDRESS
    if http is not None:
        raise ConfigurationError(f"--http needs the extra [hub]: {INSTALL_HINT}")
    return None


def describe_addresses(hub: LocalHub) -> list[str]:
    """Return the lines that say where a running hub listens."""
    places = hub.address
    if hub.http_address:
        places += f" and http://{hub.http_address}"
    lines = [f"The hub listens on {places}; Ctrl-C ends it."]
    if not has_http_extra():
        lines.append(f"For `arbprov tasks` and the HTTP API: {INSTALL_HINT}")
    return lines


def start_dev_hub(**options: Any) -> LocalHub:
    """Start a hub that serves HTTP if it can, and say so if it can't since the port is taken.

    Args:
        options: The arguments of `LocalHub`.

    Raises:
        ConfigurationError: The hub can't listen at its address for gRPC.
    """
    from arbprov.localhub import LocalHub

    address = find_http_address(None)
    if address is None:
        return LocalHub(**options).start()
    try:
        return LocalHub(**options, http=address).start()
    except ConfigurationError:
        if _is_free(address):
            raise
    hub = LocalHub(**options).start()
    echo(f"Another program listens on {address}, so this hub has no HTTP.", err=True)
    return hub


def _is_free(address: str) -> bool:
    """Tell whether a server can listen on ``HOST:PORT`` now."""
    host, _, port = address.rpartition(":")
    with socket.socket() as server:
        # A port whose last connections have just ended is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, int(port)))
        except OSError:
            return False
    return True
