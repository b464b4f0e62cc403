"""``arbprov tokens``: tokens of the bundled hub for providers and people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import click

from arbprov.cli.hub_client import client_options
from arbprov.cli.options import json_option
from arbprov.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from arbprov.localhub import Client

__all__ = ["tokens"]

_COLUMNS = ("name", "role", "provider", "created_at")


@click.group()
def tokens() -> None:
    """List, add and remove tokens of the bundled hub, besides its own.

    The hub's own token allows everything. A provider that has a token of its own can't work with
    the hub's own token any more.

    The hub and this command need the extra [hub]: pip install 'arbprov[hub]'
    """


@tokens.command("list")
@client_options
@json_option("Print JSON.")
def list_tokens(client: Client, as_json: bool) -> None:
    """List the tokens that were made; the hub has only their hashes."""
    rows = [
        {
            "name": token.name,
            "role": token.role.value,
            "provider": token.provider,
            "created_at": token.created_at.isoformat(timespec="seconds"),
        }
        for token in client.tokens()
    ]
    if as_json:
        print_json(rows)
    elif rows:
        header = ("NAME", "ROLE", "PROVIDER", "MADE AT")
        print_table(header, [[row[column] for column in _COLUMNS] for row in rows])
    else:
        echo("there are no tokens besides the hub's own", err=True)


@tokens.command()
@click.argument("name")
@click.option("--provider", metavar="PROVIDER", help="A token for this provider.")
@click.option(
    "--role",
    type=click.Choice(["admin", "reader"]),
    help="A token for people: to change everything, or only to read.",
)
@client_options
@json_option("Print the token with its name and role as JSON.")
def add(client: Client, name: str, provider: str | None, role: str | None, as_json: bool) -> None:
    """Make a token and print it, only this once.

    NAME is for `arbprov tokens list` and `remove`.
    """
    if (provider is None) == (role is None):
        raise click.UsageError("give --provider or --role, and not both")
    made = client.make_token(name, role or "provider", provider or "")
    if as_json:
        echo(json.dumps(attrs.asdict(made)))
        return
    echo(made.token)
    setting = "PROVIDER_AUTH_TOKEN" if provider else "ARBPROV_HUB_TOKEN"
    echo(f"Keep it as {setting} or in the file {setting}_FILE: it is not shown again.", err=True)


@tokens.command()
@click.argument("name")
@client_options
def remove(client: Client, name: str) -> None:
    """Remove a token; the hub refuses it from now on."""
    client.remove_token(name)
    echo(f"removed {name}", err=True)
