"""``arbprov hub``."""

from __future__ import annotations

import json

import click

from arbprov.cli.signals import interruption

__all__ = ["ADDRESS", "address_option", "hub", "token_option"]

ADDRESS = "127.0.0.1:50051"
TOKEN = "local-token"  # noqa: S105 - of a hub on loopback, that every command knows

address_option = click.option(
    "--address", metavar="HOST:PORT", default=ADDRESS, show_default=True, help="Where to listen."
)


def _not_blank(ctx: click.Context, param: click.Parameter, token: str) -> str:
    # No provider would take it for its own.
    if not token.strip():
        raise click.BadParameter("a blank text is no token", ctx, param)
    return token


token_option = click.option(
    "--token",
    callback=_not_blank,
    envvar="PROVIDER_AUTH_TOKEN",
    metavar="TOKEN",
    default=TOKEN,
    show_default=True,
    show_envvar=True,
    help="What providers have to show.",
)


@click.command()
@address_option
@token_option
@click.option("--json", "as_json", is_flag=True, help="Print address and token, as JSON.")
def hub(address: str, token: str, as_json: bool) -> None:
    """Run the bundled hub, on this machine only and in memory, until Ctrl-C.

    Put tasks into it with `arbprov call`.
    """
    # gRPC is slow to import, and most commands need none.
    from arbprov.localhub import LocalHub

    with interruption() as interrupted, LocalHub(address, token=token) as running:
        if as_json:
            click.echo(json.dumps({"address": running.address, "token": running.token}))
        else:
            click.echo(f"The hub listens on {running.address}; Ctrl-C ends it.", err=True)
        interrupted.wait()
