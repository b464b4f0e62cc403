"""``arbprov outbox``."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbprov.cli.options import json_option
from arbprov.cli.output import print_json, print_table
from arbprov.cli.supervisor.spools import find_spools

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
@json_option("Print JSON, with the results that the hub refused.")
@click.option(
    "--drop",
    "ids",
    multiple=True,
    metavar="ID",
    help="Remove the dead result of this task; may be repeated.",
)
def outbox(path: Path | None, as_json: bool, ids: tuple[str, ...]) -> None:
    """List the tasks in the spool at PATH, or at ARBPROV_SPOOL.

    Its provider may be running. The spools of `arbprov run --workers` beside it, PATH.1 and so on,
    are included.

    A task is "started" while it runs, "pending" while its result waits for the hub, and "dead" if
    the hub refused its result for good.
    """
    from arbprov.outbox.sqlite import drop_dead_letters, read_spool

    if path is None:
        raise click.UsageError("PATH is missing; give the spool's path, or set ARBPROV_SPOOL")
    path = path.expanduser().absolute()
    spools = find_spools(path) or [path]
    if ids:
        click.echo(f"{sum(drop_dead_letters(spool, ids) for spool in spools)} dropped", err=True)
        return
    entries = [entry for spool in spools for entry in read_spool(spool)]
    rows = [_describe(entry) for entry in sorted(entries, key=lambda entry: entry.at)]
    if as_json:
        print_json(rows)
        return
    if rows:
        header = [column.upper() for column in _COLUMNS]
        cells = [[row[column] for column in _COLUMNS] for row in rows]
        print_table(header, [["" if cell is None else str(cell) for cell in row] for row in cells])
    counts = Counter(row["state"] for row in rows)
    click.echo(", ".join(f"{counts[state]} {state}" for state in _STATES), err=True)


def _describe(entry: SpoolEntry) -> dict[str, Any]:
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
