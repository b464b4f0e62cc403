"""``arbprov limits``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from arbprov.app import ProviderApp
from arbprov.cli.loading import app_argument
from arbprov.cli.options import as_json, names, seconds
from arbprov.limits import LimitState

__all__ = ["limits"]

_HEAD = ("ACTION", "LIMIT", "SCOPE", "KEY", "LEFT", "WAIT")


def _values(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    values = {}
    for one in given:
        path, equals, value = one.partition("=")
        if not equals:
            raise click.BadParameter(f"{one!r} is no PATH=VALUE, such as account.id=42", ctx, param)
        try:
            values[path] = _typed(value)
        except OSError as error:
            raise click.BadParameter(
                f"{value[1:]} can't be read: {error.strerror}", ctx, param
            ) from None
    return values


def _typed(text: str) -> Any:
    """Return the number or the text that was typed, or that is in the file."""
    if text.startswith("@"):
        text = Path(text[1:]).read_text().strip()
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (str, int, float)) else text


@click.command()
@app_argument
@click.option("--action", metavar="NAME", help="Only the limits of this action.")
@click.option(
    "--key",
    "keys",
    metavar="PATH=VALUE",
    multiple=True,
    callback=_values,
    help="Whose headroom to show, as in account.id=42; the text 42 is '\"42\"', and with @FILE a "
    "secret stays out of the shell's history. May be repeated.",
)
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def limits(app: ProviderApp, action: str | None, keys: dict[str, Any], machine: bool) -> None:
    """List a provider's limits, and what is left of them.

    What is left is what this process knows: with a store that processes share, it is what all of
    them have left; otherwise nothing was used yet.
    """
    overview = app.limits
    found = [(name, one) for name in _actions(app, action) for one in overview.states(name, keys)]
    _check_keys(keys, [state for _, state in found])
    if machine:
        click.echo(as_json([_described(name, state) for name, state in found]))
        return
    for line in _aligned([_HEAD, *(_row(name, state) for name, state in found)]):
        click.echo(line)
    if missing := sorted({one.key for _, one in found if one.key and one.headroom is None}):
        click.echo(f"for what is left by {names(missing)}, say whose, with --key", err=True)


def _actions(app: ProviderApp, only: str | None) -> list[str]:
    known = [action.name for action in app.actions()]
    if only is None:
        return known
    if only not in known:
        there = names(known) if known else "none"
        raise click.BadParameter(f"there is no action {only!r}; there is {there}")
    return [only]


def _check_keys(keys: Iterable[str], states: Iterable[LimitState]) -> None:
    known = {path for state in states if state.key for path in state.key.split(" and ")}
    for path in keys:
        if path not in known:
            there = names(sorted(known)) if known else "nothing"
            raise click.BadParameter(f"no limit is counted by {path!r}, but by {there}")


def _described(action: str, state: LimitState) -> dict[str, Any]:
    left = state.headroom
    return {
        "action": action,
        **attrs.asdict(state, filter=attrs.filters.exclude("headroom")),
        "remaining": None if left is None else left.remaining,
        "wait_time": None if left is None else left.wait_time,
    }


def _row(action: str, state: LimitState) -> tuple[str, ...]:
    left = state.headroom
    remaining = "-" if left is None or left.remaining is None else str(left.remaining)
    wait = seconds(left.wait_time) if left is not None and left.wait_time else ""
    text = f"{state.limit} (shadow)" if state.shadow else state.limit
    return action, text, state.scope, state.key or "-", remaining, wait


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
