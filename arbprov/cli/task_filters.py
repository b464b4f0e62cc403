"""Options that choose tasks at the hub."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

__all__ = ["STATES", "filter_options"]

# As in `arbprov.localhub.tasks.State`, which is slow to import.
STATES = ("waiting", "running", "done", "failed", "cancelled", "dead")


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a filter; the command gets the given options as `where`."""

    @click.option("--action", metavar="NAME", help="Tasks of this action.")
    @click.option(
        "--account", metavar="KEY", help="Tasks of the account with this key; `show` prints it."
    )
    @click.option(
        "--provider", metavar="NAME", help="Tasks that this provider must run, or ran last."
    )
    @click.option(
        "--state",
        type=click.Choice(STATES),
        multiple=True,
        help="Tasks in this state; may be repeated.",
    )
    @click.option("--error-type", metavar="NAME", help="Tasks with this type of error.")
    @click.option(
        "--text", metavar="TEXT", help="Tasks with this text in the id, message or payload."
    )
    @click.option(
        "--where",
        "fields",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_split_fields,
        help="Tasks with this value at the top of the payload; may be repeated.",
    )
    @functools.wraps(function)
    def command(
        *arguments: Any,
        action: str | None,
        account: str | None,
        provider: str | None,
        state: tuple[str, ...],
        error_type: str | None,
        text: str | None,
        fields: dict[str, str],
        **options: Any,
    ) -> Any:
        where = {
            "action": action,
            "account": account,
            "provider": provider,
            "state": [*state] or None,
            "error_type": error_type,
            "text": text,
            "payload": fields or None,
        }
        # Not without empty texts: the variable of a script that is not set would choose all tasks.
        given = {name: value for name, value in where.items() if value is not None}
        return function(*arguments, where=given, **options)

    return command


def _split_fields(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    fields = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not name or not separator:
            raise click.BadParameter("write it like city=Paris", ctx, param)
        if name in fields:
            raise click.BadParameter(f"{name} is there twice; no task has two values", ctx, param)
        fields[name] = text
    return fields
