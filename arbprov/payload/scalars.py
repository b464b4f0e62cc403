"""JSON values to scalars: one small check each, and nothing is cast."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import enum
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from arbprov.payload.choices import enum_choices, pick
from arbprov.payload.common import Hook
from arbprov.payload.validation import ValidationFailure, json_kind


def _exactly(kind: type, expected: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValidationFailure(f"expected {expected}, got {json_kind(value)}")
        return value

    return check


_string = _exactly(str, "a string")
_null = _exactly(type(None), "null")


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValidationFailure(f"expected a number, got {json_kind(value)}")
    try:
        # JSON knows no others than finite ones.
        return float(value)
    except OverflowError:
        raise ValidationFailure("expected a number that a double can hold") from None


def _bytes(value: Any) -> bytes:
    text = _text(value, "base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationFailure("expected base64") from None


# Python itself takes more than anybody writes: " 1_000 ", digits of any script, any hyphens.
_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}(?:\1[0-9a-f]{4}){2}\1[0-9a-f]{12}", re.IGNORECASE)


def _decimal(value: Any) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        raise ValidationFailure(
            "expected a decimal written as a string, got a number with a fraction"
        )
    if not _DECIMAL.fullmatch(text := _text(value, "a decimal")):
        raise ValidationFailure("expected a decimal such as '12.50'")
    return Decimal(text)


def _uuid(value: Any) -> uuid.UUID:
    if not _UUID.fullmatch(text := _text(value, "a UUID")):
        raise ValidationFailure("expected a UUID")
    return uuid.UUID(text)


def _timedelta(value: Any) -> dt.timedelta:
    if type(value) not in (int, float):
        raise ValidationFailure(f"expected a number of seconds, got {json_kind(value)}")
    try:
        return dt.timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise ValidationFailure("expected a number of seconds that a timedelta can hold") from None


def _text(value: Any, expected: str) -> str:
    if type(value) is not str:
        raise ValidationFailure(f"expected {expected} as a string, got {json_kind(value)}")
    return value


# `fromisoformat` takes more on Python 3.11 than on 3.10 ("20260320", "2026-W12-5"), and less
# on 3.10 (no "Z", no fraction of one digit): these make every Python take the same.
_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d(?::\d\d(?:\.(?P<fraction>\d{1,9}))?)?(?P<zone>Z|[+-]\d\d:\d\d)?"
_ISO_DATE = re.compile(_DATE, re.ASCII)
_ISO_TIME = re.compile(_TIME, re.ASCII)
_ISO_DATETIME = re.compile(rf"{_DATE}(?:[T ]{_TIME})?", re.ASCII)


def _iso(
    pattern: re.Pattern[str], parse: Callable[[str], Any], example: str
) -> Callable[[Any], Any]:
    name = f"an ISO 8601 {parse.__self__.__name__}"  # type: ignore[attr-defined]

    def check(value: Any) -> Any:
        match = pattern.fullmatch(_text(value, name))
        try:
            if match:
                return parse(_for_every_python(match))
        except ValueError:
            pass
        raise ValidationFailure(f"expected {name} such as '{example}'")

    return check


def _for_every_python(match: re.Match[str]) -> str:
    text = match.string
    if match.lastindex is None:
        return text
    groups = match.groupdict()
    if fraction := groups.get("fraction"):
        text = text.replace(f".{fraction}", f".{fraction[:6]:0<6}")
    return text[:-1] + "+00:00" if groups.get("zone") == "Z" else text


SCALARS: dict[type, Callable[[Any], Any]] = {
    str: _string,
    int: _exactly(int, "an integer"),
    bool: _exactly(bool, "a boolean"),
    float: _float,
    bytes: _bytes,
    type(None): _null,
    dt.datetime: _iso(_ISO_DATETIME, dt.datetime.fromisoformat, "2026-03-20T10:30:00+01:00"),
    dt.date: _iso(_ISO_DATE, dt.date.fromisoformat, "2026-03-20"),
    dt.time: _iso(_ISO_TIME, dt.time.fromisoformat, "10:30:00"),
    dt.timedelta: _timedelta,
    uuid.UUID: _uuid,
    Decimal: _decimal,
}


def _by_calling(target: Any, value: Any) -> Any:
    return target(value)


def _from_iso(target: Any, value: Any) -> Any:
    return target.fromisoformat(value.isoformat())


# How a class derived from a scalar type is made from a scalar.
_DERIVE: dict[type | None, Callable[[Any, Any], Any]] = {
    dt.date: _from_iso,
    dt.datetime: _from_iso,
    dt.time: _from_iso,
    dt.timedelta: lambda target, value: target(value.days, value.seconds, value.microseconds),
    uuid.UUID: lambda target, value: target(int=value.int),
}


# What a value of exactly this type becomes is known without a check: itself.
AS_THEY_ARE = (str, int, bool)


def scalar_hook(base: type | None, check: Callable[[Any], Any]) -> Hook:
    """Return the hook of a scalar type, and of the classes derived from it."""
    kind = base if base in AS_THEY_ARE else None

    def structure(value: Any, target: Any) -> Any:
        # cattrs finds a subclass by its base, so `class Colour(str, Enum)` comes here too.
        if target is base:
            return value if type(value) is kind else check(value)
        if issubclass(target, enum.Enum):
            return pick(value, enum_choices(target))
        return _DERIVE.get(base, _by_calling)(target, check(value))

    return structure
