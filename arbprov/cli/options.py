"""Reading JSON that was typed, and writing what people read."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from arbprov._utils import escape_line
from arbprov.payload.json import parse_object
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure

__all__ = [
    "account_option",
    "as_json",
    "names",
    "payload_argument",
    "seconds",
    "sendable_object",
    "summary",
]

_LONGEST_LINE = 10_000


def json_object(ctx: click.Context, param: click.Parameter, value: str) -> dict[str, Any]:
    """Return the JSON object that was typed: as text, as ``@FILE``, or as ``-`` for stdin."""
    try:
        return sendable_object(_bytes(value))
    except OSError as error:
        message = f"{value[1:]} can't be read: {error.strerror}"
    except ValidationFailure as failure:
        message = f'{failure.problems[0]}; write it like \'{{"city": "Paris"}}\''
    raise click.BadParameter(message, ctx, param)


def sendable_object(raw: bytes) -> dict[str, Any]:
    """Return a JSON object that is to be sent: not all that can be read can be.

    Raises:
        ValidationFailure: It is not a JSON object, or holds text that is not Unicode.
    """
    sent: dict[str, Any] = to_builtins(parse_object(raw))
    return sent


payload_argument = click.argument(
    "payload", metavar="[PAYLOAD]", default="{}", callback=json_object
)
account_option = click.option(
    "--account",
    metavar="JSON",
    default="{}",
    callback=json_object,
    help="The account, like PAYLOAD; as @FILE it stays out of the shell's history.",
)


def _bytes(value: str) -> bytes:
    if value == "-":
        return _without_mark(sys.stdin.buffer.read())
    return _without_mark(Path(value[1:]).read_bytes()) if value.startswith("@") else value.encode()


def _without_mark(read: bytes) -> bytes:
    """Return a file's bytes without the mark that some editors begin UTF-8 with."""
    return read.removeprefix(codecs.BOM_UTF8)


def as_json(data: Any) -> str:
    """Return data as JSON that is good to read."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def names(found: Iterable[str]) -> str:
    """Return names as a sentence has them: ``'a', 'b' and 'c'``."""
    *first, last = map(repr, found)
    return f"{', '.join(first)} and {last}" if first else last


def seconds(number: float) -> str:
    """Return seconds with as many digits as a reader wants, and no exponent for days of them."""
    return f"{number:.3g} s" if number < 1000 else f"{number:.0f} s"


def summary(status: str, message: str, data: Any) -> str:
    """Return one line on how a task ended."""
    if status == "success":
        return escape_line(json.dumps(data, ensure_ascii=False), _LONGEST_LINE)
    if status == "limit" and isinstance(data, dict) and "wait_time" in data:
        limit = f"{data['limit']}, " if data.get("limit") else ""
        message = f"{message}: {limit}wait {seconds(data['wait_time'])}"
    return escape_line(message, _LONGEST_LINE)
