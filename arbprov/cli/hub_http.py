"""Whether and where the bundled hub serves HTTP: its page and its API."""

from __future__ import annotations

import importlib.util

import click

from arbprov.cli.options import HTTP_ADDRESS
from arbprov.errors import ConfigurationError

__all__ = ["INSTALL_HINT", "find_http_address", "has_http_extra", "http_option"]

INSTALL_HINT = "pip install 'arbprov[hub]'"

http_option = click.option(
    "--http",
    metavar="HOST:PORT",
    help=f"Where to serve the page and the HTTP API; none turns it off.  [default: {HTTP_ADDRESS}]",
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
