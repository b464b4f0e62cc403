"""JSON as it travels: bytes to plain data, and what a handler returned to JSON text.

Both ways nothing is guessed: NaN, a number too large for a double, a key that is no string, a
cycle or an object that JSON has no form for is an error that says where.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from arbprov.errors import Problem
from arbprov.payload.json_backend import fastest_json
from arbprov.payload.serialize import form
from arbprov.payload.validation import (
    ValidationFailure,
    field_path,
    join_paths,
    json_kind,
    type_name,
)

# A payload or an account, as one writes it in Python.
Data = Mapping[str, Any] | bytes | None

# Deep enough for any honest document, and far from the interpreter's recursion limit.
MAX_DEPTH = 100

_json = fastest_json()


# From the wire.


def load_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that `raw` holds; nothing at all stands for ``{}``.

    Raises:
        Misfit: It is no UTF-8, no JSON, no object, deeper than `MAX_DEPTH`, or holds a number
            that no double can.
    """
    if not raw:
        return {}
    data = _parse(raw)
    if type(data) is not dict:
        raise ValidationFailure(f"expected a JSON object, got {json_kind(data)}")
    return data


def _parse(raw: bytes) -> Any:
    # Each level has two brackets, so fewer bytes or brackets than that need no second look.
    deep = len(raw) > 2 * MAX_DEPTH and raw.count(b"{") + raw.count(b"[") > MAX_DEPTH
    try:
        data = _json.parse(raw)
    except RecursionError:
        raise _too_deep() from None
    if deep and _is_deeper(data, MAX_DEPTH):
        raise _too_deep()
    return data


def _too_deep() -> ValidationFailure:
    return ValidationFailure(f"nested deeper than {MAX_DEPTH} levels")


def _is_deeper(data: Any, levels: int) -> bool:
    level = [data]
    for _ in range(levels):
        level = [child for node in level for child in _children(node)]
    return any(isinstance(node, (dict, list)) for node in level)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


# To the wire.


def dump(data: Any) -> str:
    """Return plain data, as `plain` makes it, as compact JSON text."""
    return _json.dump(data)


def encode(data: Data) -> bytes:
    """Return what a task carries: bytes as they are, a mapping as JSON, nothing as ``{}``."""
    return data if isinstance(data, bytes) else dump(plain({} if data is None else data)).encode()


def plain(value: Any) -> Any:
    """Return what a handler returned as data that JSON can carry: dicts, lists and scalars.

    Raises:
        Misfit: JSON has no form for parts of it; each is named by its path.
    """
    try:
        return _PLAIN.get(type(value), _plain_form)(value, MAX_DEPTH)
    except RecursionError:
        path = _path_of_cycle(value)
    if path is None:
        raise _too_deep()
    raise ValidationFailure([Problem(path, "contains itself")])


def _path_of_cycle(value: Any) -> str | None:
    try:
        return _cycle(value, "", (), {})
    except RecursionError:  # far deeper than any cycle that somebody meant
        return None


def _plain_form(value: Any, levels: int) -> Any:
    value = form(value)
    return _PLAIN.get(type(value), _plain_form)(value, levels)


def _itself(value: Any, _: int) -> Any:
    return value


def _plain_string(value: str, _: int = 0) -> str:
    # A lone surrogate is no character, and UTF-8 has no bytes for it.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValidationFailure("a string with a lone surrogate is no Unicode text") from None
    return value


def _plain_integer(value: int, _: int) -> int:
    # Python itself neither writes nor reads more than 4,300 digits.
    if value.bit_length() > 14_000:
        raise ValidationFailure("an integer of more than 4,200 digits is too long")
    return value


def _plain_float(value: float, _: int) -> float:
    if not math.isfinite(value):
        raise ValidationFailure(f"{value} is no JSON number")
    return value


# Most of what is returned is texts, so these two look for one before they look up what to do.


def _plain_object(value: dict[Any, Any], levels: int) -> dict[str, Any]:
    if levels == 0:
        raise RecursionError
    data, problems = {}, []
    for key, item in value.items():
        try:
            kind = type(item)
            if kind is str and item.isascii():
                carried = item
            else:
                carried = _PLAIN.get(kind, _plain_form)(item, levels - 1)
            data[key if type(key) is str and key.isascii() else _key(key)] = carried
        except ValidationFailure as misfit:
            problems += misfit.below(field_path(_name(key)))
    if problems:
        raise ValidationFailure(problems)
    if len(data) < len(value):
        raise ValidationFailure("two of its keys are the same text")
    return data


def _plain_array(value: Any, levels: int) -> list[Any]:
    if levels == 0:
        raise RecursionError
    data, problems = [], []
    for index, item in enumerate(value):
        try:
            kind = type(item)
            if kind is str and item.isascii():
                data.append(item)
            else:
                data.append(_PLAIN.get(kind, _plain_form)(item, levels - 1))
        except ValidationFailure as misfit:
            problems += misfit.below(f"[{index}]")
    if problems:
        raise ValidationFailure(problems)
    return data


_PLAIN: dict[type, Callable[[Any, int], Any]] = {
    type(None): _itself,
    bool: _itself,
    str: _plain_string,
    int: _plain_integer,
    float: _plain_float,
    dict: _plain_object,
    list: _plain_array,
    tuple: _plain_array,
}


# Their form is a string, so they can be keys, as they can in a payload.
_KEY_TYPES = (uuid.UUID, Decimal, dt.date, dt.time)


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, _KEY_TYPES):
        key = form(key)
    if not isinstance(key, str):
        raise ValidationFailure(f"the key {_name(key)} is no string")
    return _plain_string(str(key))


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key
    try:
        return repr(key)
    except Exception:  # its own, or of an integer that is too long
        return type_name(type(key))


def _cycle(value: Any, path: str, above: tuple[Any, ...], seen: dict[int, Any]) -> str | None:
    """Return the path at which `value` meets itself again, None if it never does."""
    if any(value is ancestor for ancestor in above):
        return path
    if id(value) in seen:
        return None
    seen[id(value)] = value
    for step, child in _steps(value):
        found = _cycle(child, join_paths(path, step), (*above, value), seen)
        if found is not None:
            return found
    return None


def _steps(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, (dict, list)):
        value = _form_or_nothing(value)
    if isinstance(value, dict):
        return [(field_path(_name(key)), child) for key, child in value.items()]
    if isinstance(value, list):
        return [(f"[{index}]", child) for index, child in enumerate(value)]
    return []


def _form_or_nothing(value: Any) -> Any:
    try:
        return form(value)
    except ValidationFailure:
        return None
