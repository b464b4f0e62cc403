"""Enums and literals: one of a few values, written as they are."""

from __future__ import annotations

import enum
import typing
from typing import Any

from cattrs import Converter

from arbprov.payload.common import Hook, origin
from arbprov.payload.validation import ValidationFailure

Choices = list[tuple[Any, Any]]


def enum_choices(target: type[enum.Enum]) -> Choices:
    """Return what is written for each member of an enum."""
    return [(member.value, member) for member in target]


def literal_choices(target: Any) -> Choices:
    """Return what is written for each choice of a Literal."""
    members = typing.get_args(target)
    return [(m.value if isinstance(m, enum.Enum) else m, m) for m in members]


def pick(value: Any, choices: Choices) -> Any:
    """Return the choice that `value` is written for."""
    for written, member in choices:
        # 1 == True == 1.0, and none of them stands for another here.
        if written == value and type(written) is type(value):
            return member
    known = ", ".join(repr(written) for written, _ in choices)
    raise ValidationFailure(f"expected one of {known}" if len(choices) > 1 else f"expected {known}")


def is_enum(target: Any) -> bool:
    """Tell whether `target` is an enum."""
    return isinstance(target, type) and issubclass(target, enum.Enum)


def is_literal(target: Any) -> bool:
    """Tell whether `target` is a Literal."""
    return origin(target) is typing.Literal


def enum_factory(target: Any, _: Converter) -> Hook:
    """Return the hook of an enum."""
    choices = enum_choices(target)
    return lambda value, _: pick(value, choices)


def literal_factory(target: Any, _: Converter) -> Hook:
    """Return the hook of a Literal."""
    choices = literal_choices(target)
    return lambda value, _: pick(value, choices)
