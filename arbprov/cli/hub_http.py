"""Whether and where the bundled hub serves HTTP."""

from __future__ import annotations

import importlib.util
import socket
from typing import TYPE_CHECKING

import click

from arbprov.cli.options import HTTP_ADDRESS
from arbprov.cli.output import echo
from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub

__all__ = [
    "INSTALL_HINT",
    "choose_dev_address",
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
        lines.append(f"It has no HTTP and no `arbprov tasks` without {INSTALL_HINT}")
    return lines


def choose_dev_address() -> str | None:
    """Return where the hub of `arbprov dev` serves HTTP; None if it can't, which is said then."""
    address = find_http_address(None)
    if address is None or _is_free(address):
        return address
    echo(f"The hub has no HTTP, since another program listens on {address}.", err=True)
    return None


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
