"""JSON values to scalars, enums and literals: a strict check each, and nothing is cast."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import enum
import re
import typing
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from cattrs import Converter

from arbprov.payload.structuring import StructureHook, origin_class
from arbprov.payload.validation import ValidationFailure, json_kind

__all__ = [
    "IDENTITY_TYPES",
    "SCALARS",
    "enum_choices",
    "is_enum",
    "is_literal",
    "literal_choices",
    "make_enum_hook",
    "make_literal_hook",
    "make_scalar_hook",
]

# Returns the scalar that a JSON value stands for, or raises ValidationFailure.
Check = Callable[[Any], Any]
CheckT = TypeVar("CheckT", bound=Check)
# Pairs of a JSON value and the member that it stands for.
Choices = list[tuple[Any, Any]]

# Types whose JSON values need no conversion.
IDENTITY_TYPES = (str, int, bool)


# Enums and literals.


def is_enum(target: Any) -> bool:
    """Tell whether `target` is an enum."""
    return isinstance(target, type) and issubclass(target, enum.Enum)


def is_literal(target: Any) -> bool:
    """Tell whether `target` is a Literal."""
    return origin_class(target) is typing.Literal


def make_enum_hook(target: Any, _: Converter) -> StructureHook:
    """Return the structure hook of an enum."""
    choices = enum_choices(target)
    return lambda value, _: _find_choice(value, choices)


def make_literal_hook(target: Any, _: Converter) -> StructureHook:
    """Return the structure hook of a Literal."""
    choices = literal_choices(target)
    return lambda value, _: _find_choice(value, choices)


def literal_choices(target: Any) -> Choices:
    """Return each choice of a Literal, with its JSON value first."""
    members = typing.get_args(target)
    return [(m.value if isinstance(m, enum.Enum) else m, m) for m in members]


def enum_choices(target: type[enum.Enum]) -> Choices:
    """Return each member of an enum, with its JSON value first."""
    return [(member.value, member) for member in target]


def _find_choice(value: Any, choices: Choices) -> Any:
    for json_value, member in choices:
        # 1 == True == 1.0, but JSON tells them apart.
        if json_value == value and type(json_value) is type(value):
            return member
    known = ", ".join(repr(json_value) for json_value, _ in choices)
    raise ValidationFailure(f"expected one of {known}" if len(choices) > 1 else f"expected {known}")


# Scalars.


def _exactly(kind: type, expected: str) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValidationFailure(f"expected {expected}, got {json_kind(value)}")
        return value

    return check


SCALARS: dict[type, Check] = {
    str: _exactly(str, "a string"),
    int: _exactly(int, "an integer"),
    bool: _exactly(bool, "a boolean"),
    type(None): _exactly(type(None), "null"),
}


def _register(kind: type) -> Callable[[CheckT], CheckT]:
    def register(check: CheckT) -> CheckT:
        SCALARS[kind] = check
        return check

    return register


@_register(float)
def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValidationFailure(f"expected a number, got {json_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValidationFailure("expected a number that a double can hold") from None


@_register(bytes)
def _bytes(value: Any) -> bytes:
    text = _expect_text(value, "base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationFailure("expected base64") from None


@_register(dt.timedelta)
def _timedelta(value: Any) -> dt.timedelta:
    if type(value) not in (int, float):
        raise ValidationFailure(f"expected a number of seconds, got {json_kind(value)}")
    try:
        return dt.timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise ValidationFailure("expected a number of seconds that a timedelta can hold") from None


# Python also accepts " 1_000 ", digits of any script and hyphens in any place, which are typos.
_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}(?:\1[0-9a-f]{4}){2}\1[0-9a-f]{12}", re.IGNORECASE)


@_register(Decimal)
def _decimal(value: Any) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        raise ValidationFailure(
            "expected a decimal written as a string, got a number with a fraction"
        )
    if not _DECIMAL.fullmatch(text := _expect_text(value, "a decimal")):
        raise ValidationFailure("expected a decimal such as '12.50'")
    return Decimal(text)


@_register(uuid.UUID)
def _uuid(value: Any) -> uuid.UUID:
    if not _UUID.fullmatch(text := _expect_text(value, "a UUID")):
        raise ValidationFailure("expected a UUID")
    return uuid.UUID(text)


def _expect_text(value: Any, expected: str) -> str:
    if type(value) is not str:
        raise ValidationFailure(f"expected {expected} as a string, got {json_kind(value)}")
    return value


# Dates and times.

# `fromisoformat` accepts more on Python 3.11 ("20260320", "2026-W12-5"), and less on 3.10 (no "Z",
# no fraction of one digit). These patterns make every Python accept the same.
_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d(?::\d\d(?:\.(?P<fraction>\d{1,9}))?)?(?P<zone>Z|[+-]\d\d:\d\d)?"
_ISO_DATE = re.compile(_DATE, re.ASCII)
_ISO_TIME = re.compile(_TIME, re.ASCII)
_ISO_DATETIME = re.compile(rf"{_DATE}(?:[T ]{_TIME})?", re.ASCII)


def _iso_check(kind: Any, pattern: re.Pattern[str], example: str) -> Check:
    name = f"an ISO 8601 {kind.__name__}"

    def check(value: Any) -> Any:
        text = _expect_text(value, name)
        match = pattern.fullmatch(text)
        if match and match.lastindex is not None:
            # As every supported Python accepts it.
            groups = match.groupdict()
            if fraction := groups.get("fraction"):
                text = text.replace(f".{fraction}", f".{fraction[:6]:0<6}")
            if groups.get("zone") == "Z":
                text = text[:-1] + "+00:00"
        try:
            if match:
                return kind.fromisoformat(text)
        except ValueError:
            pass
        raise ValidationFailure(f"expected {name} such as '{example}'")

    return check


SCALARS |= {
    dt.datetime: _iso_check(dt.datetime, _ISO_DATETIME, "2026-03-20T10:30:00+01:00"),
    dt.date: _iso_check(dt.date, _ISO_DATE, "2026-03-20"),
    dt.time: _iso_check(dt.time, _ISO_TIME, "10:30:00"),
}


# The hook.


def _from_iso(target: Any, value: Any) -> Any:
    return target.fromisoformat(value.isoformat())


# How a value of a scalar type becomes a value of a class derived from it; else by a call.
_DERIVE: dict[type | None, Callable[[Any, Any], Any]] = {
    dt.date: _from_iso,
    dt.datetime: _from_iso,
    dt.time: _from_iso,
    dt.timedelta: lambda target, value: target(value.days, value.seconds, value.microseconds),
    uuid.UUID: lambda target, value: target(int=value.int),
}


def make_scalar_hook(base: type | None, check: Check) -> StructureHook:
    """Return the structure hook of a scalar type and of the classes derived from it.

    Args:
        base: The scalar type; None stands for its own type.
        check: Checks and converts a JSON value.
    """
    identity = base if base in IDENTITY_TYPES else None
    derive = _DERIVE.get(base, lambda target, value: target(value))

    def structure(value: Any, target: Any) -> Any:
        # cattrs finds a subclass by its base, so `class Colour(str, Enum)` comes here too.
        if target is base:
            return value if type(value) is identity else check(value)
        if issubclass(target, enum.Enum):
            return _find_choice(value, enum_choices(target))
        return derive(target, check(value))

    return structure
