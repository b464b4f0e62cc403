"""Why and where a task failed, and which fields of its payload nothing reads."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Callable, Sequence

import arbprov
from arbprov._utils import (
    describe_handler,
    format_count,
    format_user_traceback,
    suggest_name,
    unwrap_function,
)
from arbprov.cli.output import split_problems, summarize
from arbprov.dispatcher import Call
from arbprov.errors import ActionNotFoundError, InvalidPayloadError
from arbprov.payload.ignored import IgnoredField
from arbprov.task import TaskResult

__all__ = ["describe_ignored", "describe_reason", "find_place"]

_MAX_PROBLEMS = 10
_FRAME = re.compile(r'^[\s|]*File "([^"]+)", line (\d+)', re.MULTILINE)
# Files that are not the author's, by a part of their paths.
_FOREIGN_PARTS = ("<", f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_FOREIGN_FOLDERS = (
    f"{os.path.dirname(arbprov.__file__)}{os.sep}",
    f"{sysconfig.get_path('stdlib')}{os.sep}",
)


def find_place(call: Call) -> str:
    """Return ``FILE:LINE`` of the author's code where a failed call ended; empty if none ran."""
    error, action = call.error, call.route.action
    if action is None or isinstance(error, InvalidPayloadError):
        return ""
    places = [] if error is None else _FRAME.findall(format_user_traceback(error))
    for path, line in reversed(places):
        is_foreign = path.startswith(_FOREIGN_FOLDERS) or any(p in path for p in _FOREIGN_PARTS)
        if not is_foreign:
            return f"{_shorten_path(path)}:{line}"
    # A timeout, or a result that the author's code made an error.
    code = getattr(unwrap_function(action.handler), "__code__", None)
    if code is None:
        return describe_handler(action.handler)
    return f"{_shorten_path(code.co_filename)}:{code.co_firstlineno}"


def describe_reason(call: Call, result: TaskResult) -> list[str]:
    """Return lines that say why a call did not succeed; a line below another is indented."""
    heading, *problems = split_problems(result.message, result.data)
    if problems:
        lines = [f"{heading}:"]
        lines += (f"  {problem}" for problem in problems[:_MAX_PROBLEMS])
        if len(problems) > _MAX_PROBLEMS:
            lines.append(f"  and {len(problems) - _MAX_PROBLEMS} more")
        return lines
    reason = summarize(result.status.value, result.message, result.data)
    error = call.error
    kind = result.data.get("type") if isinstance(result.data, dict) else None
    # Some messages begin with the error's type already, such as that of a KeyError.
    if error is not None and isinstance(kind, str) and not result.message.startswith(kind):
        reason = f"{kind}: {reason}"
    if isinstance(error, ActionNotFoundError):
        names = error.available_actions
        reason += suggest_name(error.action, names) or (
            f"; there is {', '.join(map(repr, names)) or 'none'}"
        )
    return [reason]


def describe_ignored(ignored: Sequence[IgnoredField], redact: Callable[[str], str]) -> list[str]:
    """Return lines that name the first fields of a payload that nothing reads.

    Args:
        ignored: The fields.
        redact: Removes the call's secrets from a text.
    """
    lines = [
        f"ignored field {redact(field.path)}{field.suggestion}" for field in ignored[:_MAX_PROBLEMS]
    ]
    if len(ignored) > _MAX_PROBLEMS:
        lines.append(f"and {format_count(len(ignored) - _MAX_PROBLEMS, 'more ignored field')}")
    return lines


def _shorten_path(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative
