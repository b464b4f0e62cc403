"""``arbprov call``."""

from __future__ import annotations

import json
from typing import Any

import click

from arbprov._utils import is_positive_number
from arbprov.cli.hub import ADDRESS, token_option
from arbprov.cli.options import account_option, payload_argument
from arbprov.cli.print_result import end, json_option
from arbprov.errors import ProviderError

__all__ = ["call"]


def _above_zero(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not is_positive_number(value):
        raise click.BadParameter(f"{value:g} is no number above 0", ctx, param)
    return value


@click.command()
@click.argument("action")
@payload_argument
@account_option
@click.option("--provider", default="", help="Who is to run it; anybody, if not given.")
@click.option(
    "--timeout", default=10.0, show_default=True, callback=_above_zero, help="Seconds to wait."
)
@click.option(
    "--hub-url",
    envvar="HUB_GRPC_URL",
    metavar="HOST:PORT",
    default=ADDRESS,
    show_default=True,
    show_envvar=True,
    help="Where the bundled hub listens.",
)
@token_option
@json_option
def call(
    action: str,
    payload: dict[str, Any],
    account: dict[str, Any],
    provider: str,
    timeout: float,
    hub_url: str,
    token: str,
    whole: bool,
) -> None:
    """Have a provider run ACTION, through the bundled hub, and print what it returned.

    PAYLOAD is a JSON object, @FILE with one, or - for stdin. Exits with 1 if the task ends as an
    error or over a limit.
    """
    from arbprov.localhub import LocalHubClient

    client = LocalHubClient(hub_url, token)
    try:
        result = client.call(action, payload, account=account, provider=provider, timeout=timeout)
    except TimeoutError as error:
        raise ProviderError(str(error)) from None
    end(json.loads(result.result), whole)
