"""Printing JSON, tables and results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from arbprov._utils import escape_line, read_number, suggest_name
from arbprov.cli.terminal import use_color
from arbprov.errors import Problem

__all__ = [
    "FAILED_STATUSES",
    "describe_failure",
    "echo",
    "echo_json",
    "find_problems",
    "format_duration",
    "format_seconds",
    "join_names",
    "print_json",
    "print_result",
    "print_table",
    "split_problems",
    "suggest_action",
    "summarize",
]

# The statuses of results for which a command's exit code is 1.
FAILED_STATUSES = ("error", "limit")
# Characters of a result's line.
_MAX_LINE = 10_000


def echo(text: str, *, err: bool = False) -> None:
    """Print text to stdout, or to stderr, in the stream's own encoding."""
    stream = sys.stderr if err else sys.stdout
    # click alone would write UTF-8 to a stream whose encoding is ASCII.
    click.echo(text, file=stream, err=err, color=use_color(stream))


def print_json(data: Any) -> None:
    """Print data as indented JSON."""
    echo_json(json.dumps(data, indent=2, ensure_ascii=False))


def echo_json(text: str) -> None:
    """Print JSON text; characters that stdout's encoding lacks are escaped as JSON does it."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
    echo(text)


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
        echo("  ".join(cells).rstrip())


def print_result(envelope: dict[str, Any], *, as_json: bool) -> None:
    """Print a task's result, and exit with code 1 if it is an error or over a limit.

    Args:
        envelope: The result as the hub gets it.
        as_json: Whether to print the whole envelope, not only the response in it.
    """
    status, message, data = envelope["status"], envelope["message"], envelope["data"]["response"]
    suggestion = suggest_action(envelope["data"].get("action", ""), data)
    if as_json:
        print_json(envelope)
    elif status == "success":
        print_json(data)
    else:
        if isinstance(data, dict) and data.get("error") == message:
            # Each text once: the message and the problems have lines of their own.
            details = {k: v for k, v in data.items() if k not in ("error", "problems")}
        else:
            details = data
        if details or status != "error":
            print_json(details)
        for line in describe_failure(status, message + suggestion, data):
            echo(line, err=True)
    if status in FAILED_STATUSES:
        click.get_current_context().exit(1)


def describe_failure(status: str, message: str, data: Any) -> list[str]:
    """Return the lines that say why a task did not succeed; each problem has a line.

    >>> problems = [{"path": "n", "message": "missing"}, {"path": "m", "message": "missing"}]
    >>> describe_failure("error", "n: missing; m: missing", {"problems": problems})
    ['error: 2 problems', '  n: missing', '  m: missing']
    """
    heading, *problems = split_problems(message, data)
    lines = (f"  {escape_line(problem, _MAX_LINE)}" for problem in problems)
    return [f"{status}: {escape_line(heading, _MAX_LINE)}", *lines]


def split_problems(message: str, data: Any) -> list[str]:
    """Return what a result's message says, and after it the problems that need lines of their own.

    >>> problems = [{"path": "n", "message": "missing"}, {"path": "m", "message": "missing"}]
    >>> split_problems("The action returned: n: missing; m: missing", {"problems": problems})
    ['The action returned: 2 problems', 'n: missing', 'm: missing']
    >>> split_problems("Nothing to book", {"problems": problems[:1]})
    ['Nothing to book', 'n: missing']
    """
    problems = find_problems(data)
    if not problems or problems[0] not in message:  # no problems, or a message of the author's
        return [message, *problems]
    if len(problems) == 1:
        return [message]
    start = message.partition(problems[0])[0]
    return [f"{start}{len(problems)} problems", *problems]


def suggest_action(action: str, data: Any) -> str:
    """Return the end of the message of a task whose action does not exist, if a name is near.

    >>> suggest_action("prize", {"error": "Action not found", "available_actions": ["price"]})
    "; did you mean 'price'?"
    """
    names = data.get("available_actions") if isinstance(data, dict) else None
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        return ""
    return suggest_name(action, names)


def find_problems(data: Any) -> list[str]:
    """Return the problems in the data of an error, each as ``path: message``."""
    problems = data.get("problems") if isinstance(data, dict) else None
    if not isinstance(problems, list):
        return []
    try:
        return [str(Problem(one["path"], one["message"])) for one in problems]
    except (LookupError, TypeError):  # an author's own data
        return []


def summarize(status: str, message: str, data: Any) -> str:
    """Return a task's result as a line.

    >>> summarize("limit", "Rate limit exceeded", {"limit": "2/minute", "wait_time": 59.97})
    'Rate limit exceeded: 2/minute, wait 60 s'
    """
    if status == "success":
        return escape_line(json.dumps(data, ensure_ascii=False), _MAX_LINE)
    wait = read_number(data.get("wait_time")) if isinstance(data, dict) else None
    if status == "limit" and wait is not None:
        limit = f"{data['limit']}, " if data.get("limit") else ""
        message = f"{message}: {limit}wait {format_seconds(wait)}"
    return escape_line(message, _MAX_LINE)


def join_names(names: Iterable[str]) -> str:
    """Return names as part of a sentence; there must be a name.

    >>> join_names(["a", "b", "c"])
    "'a', 'b' and 'c'"
    """
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def format_duration(seconds: float) -> str:
    """Return how long something took: in milliseconds below a second.

    >>> format_duration(0.000297), format_duration(0.2134), format_duration(12.345)
    ('0.3 ms', '213.4 ms', '12.3 s')
    """
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else format_seconds(seconds)


def format_seconds(seconds: float) -> str:
    """Return seconds with three digits, or as a whole number from 1000 on.

    >>> format_seconds(59.97), format_seconds(538912.25)
    ('60 s', '538912 s')
    """
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"
