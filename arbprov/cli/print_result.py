"""Printing how one task ended, and ending with it."""

from __future__ import annotations

from typing import Any

import click

from arbprov._utils import escape_line
from arbprov.cli.options import as_json

__all__ = ["end", "json_option"]

json_option = click.option(
    "--json", "whole", is_flag=True, help="Print the whole envelope, as the hub gets it."
)


def end(envelope: dict[str, Any], whole: bool) -> None:
    """Print an envelope, or the response in it, and exit with 1 if it is a failure."""
    status, message = envelope["status"], envelope["message"]
    click.echo(as_json(envelope if whole else envelope["data"]["response"]))
    if not whole and status != "success":
        click.echo(f"{status}: {escape_line(message, 10_000)}", err=True)
    if status in ("error", "limit"):
        click.get_current_context().exit(1)
