"""Printing JSON, tables and results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from arbprov._utils import escape_line

__all__ = [
    "format_seconds",
    "join_names",
    "print_json",
    "print_result",
    "print_table",
    "summarize",
]

# Characters of a result's line.
_MAX_LINE = 10_000


def print_json(data: Any) -> None:
    """Print data as indented JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    r"""Print rows in aligned columns; unprintable characters are escaped.

    >>> print_table(["ID", "REASON"], [["task-1", "not\nyours"], ["task-20", ""]])
    ID       REASON
    task-1   not\nyours
    task-20
    """
    table = [
        [cell if cell.isprintable() else repr(cell)[1:-1] for cell in row]
        for row in (header, *rows)
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_result(envelope: dict[str, Any], *, as_json: bool) -> None:
    """Print a task's result, and exit with code 1 if it is an error or over a limit.

    Args:
        envelope: The result as the hub gets it.
        as_json: Whether to print the whole envelope, not only the response in it.
    """
    status, message = envelope["status"], envelope["message"]
    print_json(envelope if as_json else envelope["data"]["response"])
    if not as_json and status != "success":
        click.echo(f"{status}: {escape_line(message, _MAX_LINE)}", err=True)
    if status in ("error", "limit"):
        click.get_current_context().exit(1)


def summarize(status: str, message: str, data: Any) -> str:
    """Return a task's result as a line.

    >>> summarize("limit", "Rate limit exceeded", {"limit": "2/minute", "wait_time": 59.97})
    'Rate limit exceeded: 2/minute, wait 60 s'
    """
    if status == "success":
        return escape_line(json.dumps(data, ensure_ascii=False), _MAX_LINE)
    if status == "limit" and isinstance(data, dict) and "wait_time" in data:
        limit = f"{data['limit']}, " if data.get("limit") else ""
        message = f"{message}: {limit}wait {format_seconds(data['wait_time'])}"
    return escape_line(message, _MAX_LINE)


def join_names(names: Iterable[str]) -> str:
    """Return names as part of a sentence; there must be a name.

    >>> join_names(["a", "b", "c"])
    "'a', 'b' and 'c'"
    """
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def format_seconds(seconds: float) -> str:
    """Return seconds with three digits, or as a whole number from 1000 on.

    >>> format_seconds(59.97), format_seconds(538912.25)
    ('60 s', '538912 s')
    """
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"
