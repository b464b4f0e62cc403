"""``arbprov limits``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import click

from arbprov.app import ProviderApp
from arbprov.cli.loading import app_argument
from arbprov.cli.options import json_option
from arbprov.cli.output import echo, format_seconds, join_names, print_json, print_table
from arbprov.limits import LimitState

__all__ = ["limits"]

# The long columns come last, so that a narrow terminal wraps only them.
_HEADER = ("ACTION", "LIMIT", "LEFT", "WAIT", "SCOPE", "KEY")


def _parse_keys(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """Return the values of ``--key``, by path; a value is a number, a text or ``@FILE``."""
    values: dict[str, Any] = {}
    for option in given:
        path, equals, text = option.partition("=")
        if not equals:
            message = f"{option!r} is not PATH=VALUE, such as account.id=42"
            raise click.BadParameter(message, ctx, param)
        try:
            text = Path(text[1:]).read_text("utf-8").strip() if text.startswith("@") else text
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise click.BadParameter(f"can't read {text[1:]}: {reason}", ctx, param) from None
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[path] = value if isinstance(value, (str, int, float)) else text
    return values


@click.command()
@app_argument
@click.option("--action", metavar="NAME", help="Only the limits of this action.")
@click.option(
    "--key",
    "keys",
    metavar="PATH=VALUE",
    multiple=True,
    callback=_parse_keys,
    help="Show what this key has left, e.g. account.id=42; repeat it for several keys. A number "
    "that is text needs quotes: '\"42\"'. With @FILE, a secret stays out of the shell's history.",
)
@json_option("Print JSON.")
def limits(app: ProviderApp, action: str | None, keys: dict[str, Any], as_json: bool) -> None:
    """List a provider's limits, and how much of each is left.

    In a store that processes share, that is what all of them have left. Limits in memory are
    counted by each process for itself, so here they are unused.
    """
    actions = [registered.name for registered in app.actions()]
    if action is not None:
        if action not in actions:
            known = join_names(actions) if actions else "none"
            message = f"there is no action {action!r}; there is {known}"
            raise click.BadParameter(message, param_hint="'--action'")
        actions = [action]
    found = [(name, state) for name in actions for state in app.limits.states(name, keys)]
    states = [state for _, state in found]
    known_keys = {path for state in states for path in _key_paths(state)}
    for path in keys:
        if path not in known_keys:
            known = join_names(sorted(known_keys)) if known_keys else "none"
            message = f"no limit has the key {path!r}; the limits have {known}"
            raise click.BadParameter(message, param_hint="'--key'")
    rows = [
        {
            "action": name,
            **attrs.asdict(state, filter=attrs.filters.exclude("headroom")),
            "remaining": state.headroom and state.headroom.remaining,
            "wait_time": state.headroom and state.headroom.wait_time,
        }
        for name, state in found
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        echo("there are no limits", err=True)
        return
    print_table(_HEADER, map(_format_row, rows))
    unknown = [state for state in states if state.headroom is None]
    without_key = {state.key for state in unknown if not keys.keys() >= _key_paths(state)}
    if without_key:
        names = join_names(sorted(without_key))
        echo(f"to see what is left per {names}, use --key", err=True)
    if by_call := {state.limit for state in unknown if state.key not in without_key}:
        names = join_names(sorted(by_call))
        echo(f"what is left of {names} depends on the call, such as its cost", err=True)


def _key_paths(state: LimitState) -> set[str]:
    return set(state.key.split(" and ")) if state.key else set()


def _format_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["action"],
        " ".join([row["limit"], *(f"({mark})" for mark in ("shadow", "manual") if row[mark])]),
        "-" if row["remaining"] is None else str(row["remaining"]),
        format_seconds(row["wait_time"]) if row["wait_time"] else "",
        row["scope"],
        row["key"] or "-",
    )
