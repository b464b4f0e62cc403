"""``python -m benchmarks``."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import click

from benchmarks import hubs
from benchmarks.figures import Table
from benchmarks.plotting import plot
from benchmarks.printing import as_json, as_text
from benchmarks.rows import ROWS
from benchmarks.running import Options, measure_row

__all__ = ["main"]


@click.command()
@click.argument("names", metavar="[ROW]...", nargs=-1, type=click.Choice(list(ROWS)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--tasks", type=click.IntRange(1), help="Tasks, instead of each row's own number.")
@click.option(
    "--idle", type=click.FloatRange(0), help="Seconds idle at least, instead of each row's own."
)
@click.option("--hub", type=click.Choice(["best", "bundled"]), default="best", show_default=True)
@click.option("--json", "json_file", type=click.File("w"), help="Write the figures to a file.")
@click.option("--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--list", "only_list", is_flag=True, help="List the rows.")
def main(
    names: tuple[str, ...],
    rounds: int,
    tasks: int | None,
    idle: float | None,
    hub: str,
    json_file: TextIO | None,
    plot_file: Path | None,
    only_list: bool,
) -> None:
    """Measure the named rows, or all rows."""
    if only_list:
        for row in ROWS.values():
            click.echo(f"{row.name:<18}{row.title}")
        return
    kind, why = (hubs.bundled_hub(), "") if hub == "bundled" else hubs.choose()
    machine = describe_machine(kind, why, rounds)
    click.echo(", ".join(f"{name}: {value}" for name, value in machine.items() if value))
    tables = measure_and_print(names or tuple(ROWS), Options(kind, rounds, tasks, idle))
    if json_file:
        json.dump(as_json(tables, machine), json_file, indent=1)
    if plot_file:
        plot(tables, plot_file)


def measure_and_print(names: tuple[str, ...], options: Options) -> list[Table]:
    """Measure rows, and print each as soon as it is measured."""
    tables = []
    for name in names:
        tables.append(measure_row(ROWS[name], options))
        click.echo(f"\n{as_text(tables[-1])}")
    return tables


def describe_machine(kind: hubs.HubKind, why: str, rounds: int) -> dict[str, Any]:
    """Return the machine, the versions and the hub of a run."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "arbprov": version("arbprov"),
        "grpcio": version("grpcio"),
        "hub": kind.name,
        "why not hub.cc": why,
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
