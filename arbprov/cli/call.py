"""``arbprov call``."""

from __future__ import annotations

import json
from typing import Any

import click

from arbprov._utils import is_positive_number
from arbprov.cli.options import (
    ADDRESS,
    check,
    json_option,
    payload_argument,
    task_account_option,
    token_option,
)
from arbprov.cli.output import print_result
from arbprov.errors import ProviderError

__all__ = ["call"]


@click.command()
@click.argument("action")
@payload_argument
@task_account_option
@click.option(
    "--provider", metavar="NAME", default="", help="The provider to run it; any, if left out."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=10.0,
    show_default=True,
    callback=check(is_positive_number, "must be greater than 0"),
    help="How long to wait for the result.",
)
@click.option(
    "--hub-url",
    envvar="HUB_GRPC_URL",
    metavar="HOST:PORT",
    default=ADDRESS,
    show_default=True,
    show_envvar=True,
    help="The bundled hub's address.",
)
@token_option
@json_option("Print the whole envelope, as the hub gets it.")
def call(
    action: str,
    payload: dict[str, Any],
    account: dict[str, Any],
    provider: str,
    timeout: float,
    hub_url: str,
    token: str,
    as_json: bool,
) -> None:
    """Run ACTION through the bundled hub and print its result.

    PAYLOAD is a JSON object, @FILE with a JSON object in it, or - for stdin. The exit code is 1 if
    the task ends with an error or is over a limit.
    """
    from arbprov.localhub import LocalHubClient

    client = LocalHubClient(hub_url, token)
    try:
        result = client.call(action, payload, account=account, provider=provider, timeout=timeout)
    except TimeoutError as error:
        raise ProviderError(
            f"{error} The task stays at the hub: it is queued until a provider takes it, and then "
            f"it runs, but its result is not printed here"
        ) from None
    print_result(json.loads(result.result), as_json=as_json)
