"""The client of the bundled hub's HTTP API, as commands get it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from arbprov.cli.hub_http import INSTALL_HINT
from arbprov.cli.hub_tokens import HubToken, explaining_refusal, hub_token_options, read_hub_token
from arbprov.cli.options import ADDRESS, HTTP_ADDRESS
from arbprov.errors import ConfigurationError, HubConnectionError
from arbprov.wire.proxies import is_local_host

__all__ = ["client_options"]


def client_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the hub is; the command gets its client as `client`."""

    @click.option(
        "--hub-http-url",
        envvar="ARBPROV_HUB_HTTP",
        metavar="URL",
        default=f"http://{HTTP_ADDRESS}",
        show_default=True,
        show_envvar=True,
        help="The address of the hub's HTTP API.",
    )
    @hub_token_options
    @functools.wraps(function)
    def command(*arguments: Any, hub_http_url: str, token: HubToken, **options: Any) -> Any:
        if importlib.util.find_spec("httpx") is None:
            raise ConfigurationError(f"this command needs the extra [hub]: {INSTALL_HINT}")
        from arbprov.localhub import Client
        from arbprov.localhub.clients.settings import find_base_url

        token = read_hub_token(token)
        # Checked by the name that a command has for it.
        source = click.get_current_context().get_parameter_source("hub_http_url")
        is_variable = source is ParameterSource.ENVIRONMENT
        origin = "ARBPROV_HUB_HTTP" if is_variable else "--hub-http-url"
        url = find_base_url(hub_http_url, origin=origin)
        with (
            _explaining_silence(url),
            explaining_refusal(token),
            Client(url, token.value) as client,
        ):
            return function(*arguments, client=client, **options)

    return command


@contextlib.contextmanager
def _explaining_silence(url: str) -> Iterator[None]:
    """Add to the error of a hub that can't be reached whether it may run here without HTTP.

    Args:
        url: The address at which it can't be reached.
    """
    try:
        yield
    except HubConnectionError as error:
        if not is_local_host(urlsplit(url).hostname or ""):
            raise
        host, _, port = ADDRESS.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            raise error from None
        raise HubConnectionError(
            f"{error} A hub may listen on {ADDRESS} without HTTP: install the extra on its side, "
            f"{INSTALL_HINT}, and start it without --http none"
        ) from None
