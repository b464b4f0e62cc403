"""``arbprov outbox``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbprov.cli.options import as_json
from arbprov.cli.supervisor.spools import spools_at

if TYPE_CHECKING:
    from arbprov.outbox.sqlite import SpoolEntry

__all__ = ["outbox"]

_STATES = ("started", "pending", "dead")
_COLUMNS = ("state", "id", "action", "bytes", "at", "reason")


@click.command()
@click.argument(
    "path",
    required=False,
    envvar="ARBPROV_SPOOL",
    type=click.Path(path_type=Path),
    metavar="[PATH]",
)
@click.option("--json", "machine", is_flag=True, help="Print JSON, with the refused results.")
@click.option(
    "--drop", "ids", multiple=True, metavar="ID", help="Remove a dead result; may be repeated."
)
def outbox(path: Path | None, machine: bool, ids: tuple[str, ...]) -> None:
    """List what the spool at PATH, or at ARBPROV_SPOOL, holds; its provider may be running.

    The spools that `arbprov run --workers` has beside it, PATH.1 and so on, are listed with it.

    A task is "started" while it runs, "pending" while its result waits for the hub, and "dead" if
    the hub refuses its result for good.
    """
    from arbprov.outbox.sqlite import drop_dead_letters, read_spool

    if path is None:
        raise click.UsageError("which spool? Give its PATH, or set ARBPROV_SPOOL")
    path = path.expanduser().absolute()
    spools = spools_at(path) or [path]
    if ids:
        click.echo(f"{sum(drop_dead_letters(one, ids) for one in spools)} dropped", err=True)
        return
    entries = [entry for one in spools for entry in read_spool(one)]
    found = [_described(entry) for entry in sorted(entries, key=lambda entry: entry.at)]
    if machine:
        click.echo(as_json(found))
        return
    for row in _table(found):
        click.echo(row)
    states = Counter(row["state"] for row in found)
    click.echo(", ".join(f"{states[state]} {state}" for state in _STATES), err=True)


def _described(entry: SpoolEntry) -> dict[str, Any]:
    at = datetime.fromtimestamp(entry.at, timezone.utc).isoformat(timespec="seconds")
    row = {
        "state": entry.state,
        "id": entry.id,
        "action": entry.action,
        "bytes": entry.size,
        "at": at,
        "reason": entry.reason,
    }
    if entry.message is None:
        return row
    from arbprov.wire.messages import decode_result  # brings protobuf

    refused = decode_result(entry.message)
    return row | {"action": refused.action, "result": refused.envelope}


def _table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield rows of aligned columns, with their names above."""
    rows = [_COLUMNS, *([_cell(row[name]) for name in _COLUMNS] for row in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if found else ():
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cell(value: Any) -> str:
    """Return what may come from outside so that it can't break a table or a terminal."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
