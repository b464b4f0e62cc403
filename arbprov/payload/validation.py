"""Collecting everything that is wrong with a value, each problem with its path."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from arbprov.errors import Problem

_JSON_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    type(None): "null",
}


def json_kind(value: Any) -> str:
    """Name what JSON calls a value, never the value itself: it may be a secret."""
    return _JSON_KINDS.get(type(value)) or type_name(type(value))


def type_name(target: Any) -> str:
    """Return a type as one would write it."""
    # On Python 3.10, `list[int]` is an instance of `type` too.
    plain = isinstance(target, type) and typing.get_origin(target) is None
    return target.__qualname__ if plain else str(target)


def field_path(name: str) -> str:
    """Return a field's step in a path: ``name``, or ``["odd name"]`` where that is clearer."""
    return name if name.isidentifier() else f'["{name}"]'


def join_paths(parent: str, child: str) -> str:
    """Return the path of `child` inside of `parent`."""
    if not parent or not child or child.startswith("["):
        return parent + child
    return f"{parent}.{child}"


class ValidationFailure(Exception):
    """A value does not fit: one message for the whole of it, or the problems inside of it."""

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems: list[Problem] = (
            [Problem("", problems)] if isinstance(problems, str) else list(problems)
        )

    @classmethod
    def of(cls, error: Exception) -> ValidationFailure:
        """Return `error` as a misfit; a validator's error keeps its own words."""
        if isinstance(error, cls):
            return error
        return cls(str(error.args[0]) if error.args else type(error).__name__)

    def below(self, step: str) -> list[Problem]:
        """Return the problems as they look from one level up."""
        return [Problem(join_paths(step, p.path), p.message) for p in self.problems]


MISSING = "required field is missing"


def expect_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object.

    Raises:
        Misfit: It is something else.
    """
    if not isinstance(value, dict):
        raise ValidationFailure(f"expected an object, got {json_kind(value)}")
    return value


def unknown_fields(value: Mapping[str, Any], known: Sequence[str]) -> list[Problem]:
    """Return a problem for each field of `value` that is not `known`."""
    return [unknown_field(name) for name in sorted(set(value) - set(known))]


def unknown_field(name: str) -> Problem:
    """Return the problem of a field that nobody asked for."""
    return Problem(field_path(name), "unknown field")
