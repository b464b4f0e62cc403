"""``arbprov hub``."""

from __future__ import annotations

import json

import click

from arbprov.cli.options import ADDRESS, json_option, token_option
from arbprov.cli.output import echo
from arbprov.cli.signals import catch_interruption

__all__ = ["hub"]


@click.command()
@click.option(
    "--address", metavar="HOST:PORT", default=ADDRESS, show_default=True, help="Where to listen."
)
@token_option
@json_option("Print the address and the token as JSON.")
def hub(address: str, token: str, as_json: bool) -> None:
    """Run the bundled hub until Ctrl-C.

    It listens on this machine only and keeps its tasks in memory. `arbprov call` sends it tasks.
    """
    # gRPC is slow to import, and most commands need none.
    from arbprov.localhub import LocalHub

    with catch_interruption() as interruption, LocalHub(address, token=token) as running:
        if as_json:
            echo(json.dumps({"address": running.address, "token": running.token}))
        else:
            echo(f"The hub listens on {running.address}; Ctrl-C ends it.", err=True)
        interruption.wait()
