"""Problems of a value, each with its path, collected so that all are reported at once."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from arbprov._utils import suggest_name
from arbprov.errors import Problem

__all__ = [
    "MAX_COUNTED",
    "MAX_PROBLEMS",
    "MISSING",
    "OwnWords",
    "Problems",
    "UnknownField",
    "ValidationFailure",
    "add_unknown_fields",
    "expect_object",
    "field_path",
    "join_paths",
    "json_kind",
    "suggest_names",
    "type_name",
    "unknown_field",
]

# Problems of a value that are listed; the rest is only counted.
MAX_PROBLEMS = 100
# After so many problems, the search ends, so that a wrong payload can't take seconds.
MAX_COUNTED = 10_000
# Only so many unknown fields get a near name, since finding it takes longest of all.
_MAX_SUGGESTIONS = 10


class OwnWords(str):
    """A message that arbprov itself has written, and that holds no value of a task."""

    __slots__ = ()


class UnknownField(OwnWords):
    """The message of an unknown field; it has the names that `suggest_names` compares."""

    __slots__ = ("known", "name")
    name: str
    known: Collection[str]

    def __new__(cls, name: str, known: Collection[str]) -> UnknownField:
        """Return the message of the field `name` of an object whose fields are `known`."""
        message = super().__new__(cls, "unknown field")
        message.name, message.known = name, known
        return message


MISSING = OwnWords("required field is missing")
_JSON_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    type(None): "null",
}


class ValidationFailure(ValueError):
    """A value does not fit.

    Args:
        problems: One message of arbprov for the whole value, or the problems inside it.
        count: How many problems there are, if more than are listed.
    """

    def __init__(self, problems: str | Sequence[Problem], count: int = 0) -> None:
        super().__init__(problems)
        self.problems: list[Problem] = (
            [Problem("", OwnWords(problems))] if isinstance(problems, str) else list(problems)
        )
        self.count = max(count, len(self.problems))

    def __str__(self) -> str:
        return "; ".join(map(str, self.problems))

    @classmethod
    def from_error(cls, error: Exception) -> ValidationFailure:
        """Return `error` as a failure; the message is the error's first argument or its name."""
        if isinstance(error, cls):
            return error
        text = str(error.args[0]) if error.args else type(error).__name__
        return cls([Problem("", text)])

    def prefixed(self, step: str) -> list[Problem]:
        """Return the problems with `step` in front of their paths."""
        return [Problem(join_paths(step, p.path), p.message) for p in self.problems]


class Problems:
    """Collects the problems of a value: the first are listed, and the rest is counted.

    >>> problems = Problems()
    >>> for index in range(250):
    ...     problems.add(ValueError("is odd"), f"[{index}]")
    >>> len(problems.listed), problems.count
    (100, 250)
    """

    __slots__ = ("count", "listed")

    def __init__(self) -> None:
        self.listed: list[Problem] = []
        self.count = 0

    def add(self, error: Exception, step: str = "") -> None:
        """Add the problems of an error, with `step` in front of their paths."""
        failure = ValidationFailure.from_error(error)
        self.count += failure.count
        free = MAX_PROBLEMS - len(self.listed)
        if free > 0:
            self.listed += failure.prefixed(step)[:free]

    def append(self, problem: Problem) -> None:
        """Add a problem."""
        self.count += 1
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append(problem)

    @property
    def is_full(self) -> bool:
        """Whether there are so many problems that no more should be looked for."""
        return self.count >= MAX_COUNTED

    def check(self) -> None:
        """Raise a ValidationFailure if there are problems."""
        if self.count:
            raise ValidationFailure(self.listed, self.count)


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


def add_unknown_fields(problems: Problems, names: Iterable[str], known: Collection[str]) -> None:
    """Add a problem for each unknown field, sorted by name.

    Args:
        problems: Gets the problems.
        names: The names of the unknown fields.
        known: The names of the fields that the object may have.
    """
    for name in sorted(names):
        problems.append(unknown_field(name, known))


def unknown_field(name: str, known: Collection[str], path: str = "") -> Problem:
    """Return the problem of a field that an object must not have.

    Args:
        name: The field's name.
        known: The names of the fields that the object may have.
        path: The field's path, if it is not just its name.
    """
    return Problem(path or field_path(name), UnknownField(name, known))


def suggest_names(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems with the near name, if there is one, in the message of unknown fields.

    >>> suggest_names([unknown_field("ctiy", ["city"])])
    [Problem(path='ctiy', message="unknown field; did you mean 'city'?")]
    """
    suggested = []
    left = _MAX_SUGGESTIONS
    for problem in problems:
        message = problem.message
        if isinstance(message, UnknownField) and left:
            left -= 1
            near = suggest_name(message.name, message.known)
            suggested.append(Problem(problem.path, OwnWords(message + near)))
        else:
            suggested.append(problem)
    return suggested
