"""Converts a handler's result to builtins, from which JSON text is written.

Nothing is guessed: NaN, a key that is not a string, a cycle or an object without a JSON form is an
error with its path.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import enum
import functools
import math
import operator
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import attrs

from arbprov._utils import MEBIBYTE
from arbprov.errors import Problem
from arbprov.payload import json
from arbprov.payload.json import MAX_DEPTH, too_deep
from arbprov.payload.models import encode_model, is_foreign_model
from arbprov.payload.validation import (
    OwnWords,
    Problems,
    ValidationFailure,
    field_path,
    join_paths,
    type_name,
)

__all__ = ["TaskData", "dumps", "encode_object", "encode_task_data", "to_builtins"]

# A payload or an account as it is passed in Python.
TaskData = Mapping[str, object] | bytes | None
# Converts a value; the second argument is the number of levels that it may have.
Conversion = Callable[[Any, int], Any]
ConversionT = TypeVar("ConversionT", bound=Conversion)


def encode_task_data(data: TaskData) -> bytes:
    """Return a payload or an account as a task carries it: bytes as they are, None as ``{}``.

    Raises:
        ValidationFailure: A part of it has no JSON form.
    """
    if isinstance(data, bytes):
        return data
    return dumps({} if data is None else data).encode()


def to_builtins(value: Any) -> Any:
    """Return a value as dicts with string keys, lists and JSON scalars, all of them copies.

    Raises:
        ValueError: A part of it has no JSON form; every such part is a problem.

    >>> from datetime import date
    >>> to_builtins({"when": date(2026, 3, 20), "tags": ("a", b"bytes")})
    {'when': '2026-03-20', 'tags': ['a', 'Ynl0ZXM=']}
    """
    try:
        return _CONVERSIONS.get(type(value), _convert_object)(value, MAX_DEPTH)
    except RecursionError:
        pass
    try:
        path = _find_cycle(value, "", (), {})
    except RecursionError:  # far deeper than any cycle in practice
        path = None
    raise (
        too_deep()
        if path is None
        else ValidationFailure([Problem(path, OwnWords("contains itself"))])
    )


# Characters of one text: orjson ends the process with a text of 2 GiB.
_MAX_TEXT = 256 * MEBIBYTE


def dumps(value: Any) -> str:
    """Return a value as compact JSON text, as a handler's result is written.

    Raises:
        ValueError: A part of it has no JSON form; every such part is a problem.

    >>> from datetime import date
    >>> dumps({"when": date(2026, 3, 20)})
    '{"when":"2026-03-20"}'
    """
    return json.dumps(to_builtins(value))


# Builtins.

_CONVERSIONS: dict[type, Conversion] = {
    type(None): lambda value, _: value,
    bool: lambda value, _: value,
}


def _register(*kinds: type) -> Callable[[ConversionT], ConversionT]:
    def register(convert: ConversionT) -> ConversionT:
        _CONVERSIONS.update(dict.fromkeys(kinds, convert))
        return convert

    return register


@_register(str)
def _convert_text(value: str, _: int = 0) -> str:
    if len(value) > _MAX_TEXT:
        raise ValidationFailure(
            f"a text of {len(value):,} characters is too long; at most {_MAX_TEXT:,} can be sent"
        )
    # UTF-8 has no bytes for a lone surrogate.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValidationFailure("a string with a lone surrogate is not Unicode text") from None
    return value


@_register(int)
def _convert_integer(value: int, _: int) -> int:
    # Python neither writes nor reads more than 4,300 digits.
    if value.bit_length() > 14_000:
        raise ValidationFailure("an integer of more than 4,200 digits is too long")
    return value


@_register(float)
def _convert_float(value: float, _: int) -> float:
    if not math.isfinite(value):
        raise ValidationFailure(f"{value} is not a JSON number")
    return value


# Most values are ASCII strings, so dicts and lists check for them before they look up a conversion.


@_register(dict)
def _convert_dict(value: dict[Any, Any], levels: int) -> dict[str, Any]:
    if levels == 0:
        raise RecursionError
    data: dict[str, Any] = {}
    problems: Problems | None = None
    for key, item in value.items():
        try:
            kind = type(item)
            if kind is str and item.isascii() and len(item) <= _MAX_TEXT:
                converted = item
            else:
                converted = _CONVERSIONS.get(kind, _convert_object)(item, levels - 1)
            is_plain = type(key) is str and key.isascii() and len(key) <= _MAX_TEXT
            data[key if is_plain else _convert_key(key)] = converted
        except ValidationFailure as failure:
            problems = problems or Problems()
            problems.add(failure, field_path(_describe_key(key)))
            if problems.is_full:
                break
    if problems is not None:
        problems.check()
    if len(data) < len(value):
        raise ValidationFailure("two of its keys are the same text")
    return data


@_register(list, tuple)
def _convert_list(value: Any, levels: int) -> list[Any]:
    if levels == 0:
        raise RecursionError
    data: list[Any] = []
    problems: Problems | None = None
    for index, item in enumerate(value):
        try:
            kind = type(item)
            if kind is str and item.isascii() and len(item) <= _MAX_TEXT:
                data.append(item)
            else:
                data.append(_CONVERSIONS.get(kind, _convert_object)(item, levels - 1))
        except ValidationFailure as failure:
            problems = problems or Problems()
            problems.add(failure, f"[{index}]")
            if problems.is_full:
                break
    if problems is not None:
        problems.check()
    return data


def _convert_object(value: Any, levels: int) -> Any:
    kind: Any = type(value)
    value = _find_encoder(kind)(value)
    return _CONVERSIONS.get(type(value), _convert_object)(value, levels)


# Types that may be keys, since they are encoded as strings; a payload may have such keys too.
_KEY_TYPES = (uuid.UUID, Decimal, dt.date, dt.time)


def _convert_key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, _KEY_TYPES):
        key = encode_object(key)
    if not isinstance(key, str):
        text = f"the key {_describe_key(key)} is not a string"
        raise ValidationFailure([Problem("", text)])
    return _convert_text(str(key))


def _describe_key(key: Any) -> str:
    if isinstance(key, str):
        return key if len(key) <= _MAX_TEXT else f"{key[:20]}..."
    try:
        return repr(key)
    except Exception:  # the key's own __repr__ failed, or it is an integer that is too long
        return type_name(type(key))


# Cycles.


def _find_cycle(
    value: Any, path: str, ancestors: tuple[Any, ...], seen: dict[int, Any]
) -> str | None:
    """Return the path at which a value contains itself, or None if it does not."""
    if any(value is ancestor for ancestor in ancestors):
        return path
    if id(value) in seen:
        return None
    seen[id(value)] = value
    data = value
    if not isinstance(value, (dict, list)):
        try:
            data = encode_object(value)
        except ValidationFailure:
            return None
    children: Iterable[tuple[str, Any]] = ()
    if isinstance(data, dict):
        children = ((field_path(_describe_key(key)), child) for key, child in data.items())
    elif isinstance(data, list):
        children = ((f"[{index}]", child) for index, child in enumerate(data))
    for step, child in children:
        found = _find_cycle(child, join_paths(path, step), (*ancestors, value), seen)
        if found is not None:
            return found
    return None


# Objects.


def encode_object(value: Any) -> Any:
    """Return the JSON form of an object; the values inside it are not encoded yet.

    Raises:
        ValidationFailure: It has no JSON form.
    """
    kind: Any = type(value)
    return _find_encoder(kind)(value)


@functools.lru_cache(maxsize=1_000)
def _find_encoder(kind: type) -> Callable[[Any], Any]:
    # An enum first: a `str` that is also an enum is encoded as its value.
    if issubclass(kind, enum.Enum):
        return operator.attrgetter("value")
    encode = _encode.dispatch(kind)
    if encode is not _encode.dispatch(object):
        return encode
    if attrs.has(kind):
        return _fields_encoder([field.name for field in attrs.fields(kind)])
    if dataclasses.is_dataclass(kind):
        return _fields_encoder([field.name for field in dataclasses.fields(kind)])
    return encode_model if is_foreign_model(kind) else _encode


def _fields_encoder(names: list[str]) -> Callable[[Any], Any]:
    def encode(value: Any) -> dict[str, Any]:
        try:
            return {name: getattr(value, name) for name in names}
        except AttributeError:
            unset = [name for name in names if not hasattr(value, name)]
            raise ValidationFailure(
                [Problem(field_path(name), OwnWords("has no value")) for name in unset]
            ) from None

    return encode


@functools.singledispatch
def _encode(value: Any) -> Any:
    advice = "; await it" if isinstance(value, Awaitable) else ""
    raise ValidationFailure(f"JSON has no form for {type_name(type(value))}{advice}")


@_encode.register
def _(value: str) -> Any:
    return str(value)


@_encode.register
def _(value: int) -> Any:
    return int(value)


@_encode.register
def _(value: float) -> Any:
    return float(value)


@_encode.register
def _(value: bytes) -> Any:
    return base64.b64encode(value).decode()


@_encode.register(dt.date)
@_encode.register(dt.time)
def _(value: Any) -> Any:
    return value.isoformat()


@_encode.register
def _(value: dt.timedelta) -> Any:
    return value.total_seconds()


@_encode.register
def _(value: uuid.UUID) -> Any:
    return str(value)


@_encode.register
def _(value: Decimal) -> Any:
    if not value.is_finite():
        raise ValidationFailure(f"{value} is not a JSON number")
    return str(value)


@_encode.register
def _(value: Mapping) -> Any:  # type: ignore[type-arg]
    return dict(value)


@_encode.register(list)
@_encode.register(tuple)
@_encode.register(collections.deque)
def _(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else list(value)


@_encode.register(set)
@_encode.register(frozenset)
def _(value: Any) -> Any:
    raise ValidationFailure("a set has no order in JSON; return sorted(...) or list(...) of it")
