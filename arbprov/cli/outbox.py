"""``arbprov outbox``."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbprov._utils import format_count
from arbprov.cli.options import json_option
from arbprov.cli.output import echo, print_json, print_table
from arbprov.cli.supervisor.spools import find_spools

if TYPE_CHECKING:
    from arbprov.outbox.sqlite import SpoolEntry

__all__ = ["outbox"]

_STATES = ("started", "pending", "dead")
_COLUMNS = ("state", "id", "attempt", "action", "bytes", "at", "reason")


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
    help="Remove the dead results of this task, of all its attempts; may be repeated.",
)
@click.option(
    "--move-to",
    "target",
    nargs=2,
    metavar="PROVIDER HUB_URL",
    help="Have its tasks belong to another provider or hub, which then gets their results.",
)
def outbox(
    path: Path | None, as_json: bool, ids: tuple[str, ...], target: tuple[str, str] | None
) -> None:
    """List the tasks in the spool at PATH, or at ARBPROV_SPOOL.

    Its provider may be running. The spools of `arbprov run --workers` beside it, PATH.1 and so on,
    are included.

    A task is "started" while it runs, "pending" while its result waits for the hub, and "dead" if
    the hub refused its result for good.

    A spool belongs to one provider and one hub, by its URL as configured. A start with another
    provider or hub takes over a spool that has nothing undelivered, and is refused otherwise.
    --move-to moves a spool with all its tasks, while its provider does not run.
    """
    from arbprov.outbox import sqlite
    from arbprov.wire.url import parse_hub_url

    if path is None:
        raise click.UsageError("PATH is missing; give the spool's path, or set ARBPROV_SPOOL")
    path = path.expanduser().absolute()
    spools = find_spools(path) or [path]
    if ids:
        echo(f"{sum(sqlite.drop_dead_letters(spool, ids) for spool in spools)} dropped", err=True)
        return
    if target:
        owner = sqlite.SpoolOrigin(*target)
        try:
            parse_hub_url(owner.url)
        except ValueError as error:
            message = f"{owner.url!r} {error}"
            raise click.BadParameter(message, param_hint="'--move-to'") from None
        moved = sum(sqlite.move_spool(spool, owner) for spool in spools)
        echo(f"moved {format_count(moved, 'undelivered task')} to {owner}", err=True)
        return
    entries = [entry for spool in spools for entry in sqlite.read_spool(spool)]
    rows = [_describe(entry) for entry in sorted(entries, key=lambda entry: entry.at)]
    if as_json:
        print_json(rows)
        return
    if rows:
        # Most hubs do not number attempts.
        shown = [name for name in _COLUMNS if name != "attempt" or any(name in row for row in rows)]
        cells = [[row.get(column) for column in shown] for row in rows]
        print_table(
            [column.upper() for column in shown],
            [["" if cell is None else str(cell) for cell in row] for row in cells],
        )
    for origin in {origin: None for spool in spools if (origin := sqlite.read_origin(spool))}:
        echo(f"of {origin}:", err=True)
    counts = Counter(row["state"] for row in rows)
    echo(", ".join(f"{counts[state]} {state}" for state in _STATES), err=True)


def _describe(entry: SpoolEntry) -> dict[str, Any]:
    at = datetime.fromtimestamp(entry.at, timezone.utc).isoformat(timespec="seconds")
    row: dict[str, Any] = {
        "state": entry.state,
        "id": entry.id,
        "action": entry.action,
        "bytes": entry.size,
        "at": at,
        "reason": entry.reason,
    }
    if entry.attempt:
        row["attempt"] = entry.attempt
    if entry.message is None:
        return row
    from arbprov.wire.messages import decode_result  # brings protobuf

    try:
        refused = decode_result(entry.message)
    except Exception:  # a damaged result
        return row | {"result": None}
    return row | {"action": refused.action, "result": refused.envelope}
