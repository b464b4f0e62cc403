"""Arguments and options that several commands share."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from arbprov.payload.json import parse_object
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure

__all__ = [
    "ADDRESS",
    "HTTP_ADDRESS",
    "CommandT",
    "account_option",
    "check",
    "json_option",
    "parse_sendable_object",
    "payload_argument",
    "task_account_option",
]

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

# Where the bundled hub listens: for gRPC, and for HTTP.
ADDRESS = "127.0.0.1:50051"
HTTP_ADDRESS = "127.0.0.1:50080"


def parse_sendable_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object that will be sent to a provider.

    Raises:
        ValidationFailure: It is not a JSON object, or it holds text that is not Unicode.

    >>> parse_sendable_object(b'{"city": "Paris"}')
    {'city': 'Paris'}
    """
    sendable: dict[str, Any] = to_builtins(parse_object(raw))
    return sendable


def _read_object(ctx: click.Context, param: click.Parameter, value: str) -> dict[str, Any]:
    """Return a JSON object given as text, as ``@FILE``, or as ``-`` for stdin."""
    try:
        if value == "-":
            raw = sys.stdin.buffer.read()
        elif value.startswith("@"):
            raw = Path(value[1:]).read_bytes()
        else:
            return parse_sendable_object(value.encode(errors="surrogateescape"))
        # Some editors begin a UTF-8 file with a byte order mark.
        return parse_sendable_object(raw.removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        message = f"can't read {value[1:]}: {error.strerror}"
    except ValidationFailure as failure:
        message = f'{failure.problems[0]}; write it like \'{{"city": "Paris"}}\' or as @FILE'
    raise click.BadParameter(message, ctx, param)


def check(
    is_valid: Callable[[Any], object], problem: str
) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that refuses values of an option.

    Args:
        is_valid: Returns whether a value is valid.
        problem: The error message for other values, as in ``"must not be blank"``.
    """

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if not is_valid(value):
            raise click.BadParameter(problem, ctx, param)
        return value

    return callback


payload_argument = click.argument(
    "payload", metavar="[PAYLOAD]", default="{}", callback=_read_object
)


def account_option(help: str) -> Callable[[CommandT], CommandT]:
    """Return the option ``--account``: a JSON object, ``@FILE``, or ``-`` for stdin."""
    return click.option("--account", metavar="JSON", default="{}", callback=_read_object, help=help)


task_account_option = account_option(
    "The task's account, given like PAYLOAD; @FILE keeps it out of the shell's history."
)


def json_option(help: str) -> Callable[[CommandT], CommandT]:
    """Return the option ``--json``, whose parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help)
