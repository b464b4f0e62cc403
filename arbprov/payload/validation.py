"""Problems of a value, each with its path, collected so that all are reported at once."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from arbprov.errors import Problem

__all__ = [
    "MISSING",
    "ValidationFailure",
    "expect_object",
    "field_path",
    "join_paths",
    "json_kind",
    "type_name",
    "unknown_field",
    "unknown_fields",
]

MISSING = "required field is missing"
_JSON_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    type(None): "null",
}


class ValidationFailure(Exception):
    """A value does not fit.

    Args:
        problems: One message for the whole value, or the problems inside it.
    """

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems: list[Problem] = (
            [Problem("", problems)] if isinstance(problems, str) else list(problems)
        )

    @classmethod
    def from_error(cls, error: Exception) -> ValidationFailure:
        """Return `error` as a failure; the message is the error's first argument or its name."""
        if isinstance(error, cls):
            return error
        return cls(str(error.args[0]) if error.args else type(error).__name__)

    def prefixed(self, step: str) -> list[Problem]:
        """Return the problems with `step` in front of their paths."""
        return [Problem(join_paths(step, p.path), p.message) for p in self.problems]


def field_path(name: str) -> str:
    """Return the path of a field: ``name``, or ``["odd name"]`` unless it is an identifier."""
    return name if name.isidentifier() else f'["{name}"]'


def join_paths(parent: str, child: str) -> str:
    """Return the path of `child` inside `parent`.

    >>> join_paths("user.emails", "[2]")
    'user.emails[2]'
    """
    if not parent or not child or child.startswith("["):
        return parent + child
    return f"{parent}.{child}"


def json_kind(value: Any) -> str:
    """Name the JSON type of a value, never the value itself, which may be a secret."""
    return _JSON_KINDS.get(type(value)) or type_name(type(value))


def type_name(target: Any) -> str:
    """Return a type as it is written in an annotation."""
    # On Python 3.10, `list[int]` is an instance of `type` too.
    plain = isinstance(target, type) and typing.get_origin(target) is None
    return target.__qualname__ if plain else str(target)


def expect_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object.

    Raises:
        ValidationFailure: It is not an object.
    """
    if not isinstance(value, dict):
        raise ValidationFailure(f"expected an object, got {json_kind(value)}")
    return value


def unknown_fields(value: Mapping[str, Any], known: Sequence[str]) -> list[Problem]:
    """Return a problem for each field of `value` that is not `known`, by name."""
    return [unknown_field(name) for name in sorted(set(value) - set(known))]


def unknown_field(name: str) -> Problem:
    """Return the problem of a field that the type does not have."""
    return Problem(field_path(name), "unknown field")
