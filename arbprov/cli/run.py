"""``arbprov run``."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from arbprov.app import ProviderApp
from arbprov.cli.targets import app_argument
from arbprov.tokens import TokenFile

__all__ = ["run"]


@click.command()
@app_argument
@click.option("--hub-url", metavar="HOST:PORT", help="The hub, before all other settings.")
@click.option(
    "--auth-token-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the hub's token, before all other settings.",
)
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
def run(app: ProviderApp, hub_url: str | None, auth_token_file: Path | None, quiet: bool) -> None:
    """Work for the hub until SIGTERM or Ctrl-C; a second one exits at once.

    MODULE is imported as Python would, or the path of a .py file; APP is the name of the
    ProviderApp in it, and may be left out if there is one only, or one called app.
    """
    if quiet:
        logging.getLogger("arbprov").setLevel(logging.WARNING)
    # As a file rather than a text, so that a rotated token is found.
    token = TokenFile("--auth-token-file", str(auth_token_file)) if auth_token_file else None
    app.run(hub_url=hub_url, auth_token=token)
