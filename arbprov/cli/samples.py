"""Sample payloads and accounts that fit an action, found by asking its own validation."""

from __future__ import annotations

import ast
import copy
import json
import re
import shlex
from typing import Any

import attrs

from arbprov.dispatcher import Dispatcher, Route
from arbprov.errors import InvalidPayloadError, Problem
from arbprov.limits import RateLimit
from arbprov.task import Task

__all__ = ["Sample", "find_sample"]

_MAX_ROUNDS = 40
_STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)')
_LITERAL = re.compile(r"""expected (?:one of )?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+)""")
_EXAMPLE = re.compile(r"such as '([^']*)'")
_ARRAY = re.compile(r"expected an array of (\d+) items")
# By what a problem's message says.
_VALUES: dict[str, Any] = {
    "expected a number of seconds": 30,
    "expected an integer": 1,
    "expected a number": 1.5,
    "expected a boolean": True,
    "expected an array": [{}],
    "expected an object": {},
    "expected null": None,
    "expected base64": "aGVsbG8=",
    "expected a UUID": "12345678-1234-5678-1234-567812345678",
    "expected a decimal": "12.50",
}
# For a problem whose message names no type, such as the message of an author's own validator.
_GUESSES = [1, 10, 100, "a", "sample-text-of-some-length", "a@example.com", "https://example.com"]


@attrs.frozen
class Sample:
    """A payload and an account that an action accepts."""

    payload: dict[str, Any]
    account: dict[str, Any]

    def format_call(self, action: str, options: str, width: int) -> list[str]:
        r"""Return a shell command that calls an action with this sample, as lines.

        Args:
            action: Name of the action.
            options: More options of `arbprov call`, quoted for a shell; may be empty.
            width: Columns of a line; a longer field makes a longer line.

        >>> Sample({"city": "Paris"}, {}).format_call("forecast", "", 80)
        ['  arbprov call forecast \'{"city": "Paris"}\'']
        """
        for indent in (None, 2):
            payload, account = (
                shlex.quote(json.dumps(part, ensure_ascii=False, indent=indent)) if part else ""
                for part in (self.payload, self.account)
            )
            parts = [f"arbprov call {shlex.quote(action)}", payload]
            parts += [f"--account {account}" if account else "", options]
            line = "  " + " ".join(filter(None, parts))
            if len(line) <= width:
                return [line]
            lines = ("  " + " \\\n    ".join(filter(None, parts))).split("\n")
            if max(map(len, lines)) <= width:
                return lines
        return lines


def find_sample(dispatcher: Dispatcher, route: Route, limits: list[RateLimit]) -> Sample | None:
    """Return a payload and an account that an action accepts; None if none was found.

    Only required fields and the fields that the limits' keys name are filled.

    Args:
        dispatcher: Validates payloads.
        route: The action's route.
        limits: The action's limits.
    """
    assert route.action is not None  # only unknown actions have none
    payload: dict[str, Any] = {}
    roots = {"payload": payload, "account": {}}
    for limit in limits:
        keys = limit.key if isinstance(limit.key, tuple) else (limit.key,)
        for path in keys:
            if isinstance(path, str):
                _set(roots, path, f"sample-{path.rpartition('.')[2]}")
    attempts: dict[str, int] = {}
    for _ in range(_MAX_ROUNDS):
        account = json.dumps(roots["account"]).encode()
        task = Task("sample", route.action.name, json.dumps(payload).encode(), account)
        error = dispatcher.prepare(task).error
        if error is None:
            return Sample(payload, roots["account"])
        if not isinstance(error, InvalidPayloadError):
            return None
        for problem in error.problems:
            in_root = problem.path.split(".")[0].split("[")[0] in roots
            path = problem.path if in_root else f"payload.{problem.path}"
            attempts[path] = attempts.get(path, 0) + 1
            _set(roots, path, _choose(problem, attempts[path]))
    return None


def _choose(problem: Problem, attempt: int) -> Any:
    """Return a value for the place of a problem, after some attempts there."""
    message = problem.message
    if attempt < 4:
        if match := _ARRAY.match(message):
            return [{} for _ in range(int(match[1]))]
        if match := _LITERAL.match(message):
            return ast.literal_eval(match[1])
        if match := _EXAMPLE.search(message):
            return match[1]
        for words, value in _VALUES.items():
            if message.startswith(words):
                return copy.deepcopy(value)
        if attempt == 1:
            return (re.findall(r"[^\W\d]\w*", problem.path) or ["text"])[-1]
    return _GUESSES[attempt % len(_GUESSES)]


def _set(roots: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a path; leave a value whose place the objects before it do not have."""
    steps = [
        int(index) if index else json.loads(f'"{quoted}"') if quoted else name
        for quoted, index, name in _STEP.findall(path)
    ]
    parent: Any = roots
    for step in steps[:-1]:
        if isinstance(step, str) and isinstance(parent, dict):
            parent = parent.setdefault(step, {})
        elif isinstance(step, int) and isinstance(parent, list) and step < len(parent):
            parent = parent[step]
        else:
            return
    if isinstance(parent, dict) or (isinstance(parent, list) and steps[-1] in range(len(parent))):
        parent[steps[-1]] = value
