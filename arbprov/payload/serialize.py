"""What JSON shows of a value that is no JSON itself: of objects, dates, bytes and their like."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import enum
import functools
import operator
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import attrs

from arbprov.errors import Problem
from arbprov.payload.models import is_foreign_model, model_data
from arbprov.payload.validation import ValidationFailure, field_path, type_name

__all__ = ["form"]


def form(value: Any) -> Any:
    """Return `value` one step closer to JSON.

    Raises:
        Misfit: JSON has no form for it.
    """
    kind: Any = type(value)
    return _former(kind)(value)


@functools.lru_cache(maxsize=1_000)
def _former(kind: type) -> Callable[[Any], Any]:
    # An enum first: the form of a `str` that is an enum too is its value.
    if issubclass(kind, enum.Enum):
        return operator.attrgetter("value")
    former = _form.dispatch(kind)
    return _former_of_object(kind) if former is _form.dispatch(object) else former


def _former_of_object(kind: type) -> Callable[[Any], Any]:
    if attrs.has(kind):
        return _former_of_fields([field.name for field in attrs.fields(kind)])
    if dataclasses.is_dataclass(kind):
        return _former_of_fields([field.name for field in dataclasses.fields(kind)])
    return model_data if is_foreign_model(kind) else _form


def _former_of_fields(names: list[str]) -> Callable[[Any], Any]:
    def fields(value: Any) -> dict[str, Any]:
        try:
            return {name: getattr(value, name) for name in names}
        except AttributeError:
            unset = [name for name in names if not hasattr(value, name)]
            raise ValidationFailure(
                [Problem(field_path(name), "has no value") for name in unset]
            ) from None

    return fields


@functools.singledispatch
def _form(value: Any) -> Any:
    raise ValidationFailure(f"JSON has no form for {type_name(type(value))}")


@_form.register
def _(value: str) -> Any:
    return str(value)


@_form.register
def _(value: int) -> Any:
    return int(value)


@_form.register
def _(value: float) -> Any:
    return float(value)


@_form.register
def _(value: bytes) -> Any:
    return base64.b64encode(value).decode()


@_form.register(dt.date)
@_form.register(dt.time)
def _(value: Any) -> Any:
    return value.isoformat()


@_form.register
def _(value: dt.timedelta) -> Any:
    return value.total_seconds()


@_form.register
def _(value: uuid.UUID) -> Any:
    return str(value)


@_form.register
def _(value: Decimal) -> Any:
    if not value.is_finite():
        raise ValidationFailure(f"{value} is no JSON number")
    return str(value)


@_form.register
def _(value: Mapping) -> Any:  # type: ignore[type-arg]
    return dict(value)


@_form.register(list)
@_form.register(tuple)
@_form.register(collections.deque)
def _(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else list(value)


@_form.register(set)
@_form.register(frozenset)
def _(value: Any) -> Any:
    raise ValidationFailure("a set has no order in JSON; return sorted(...) or list(...) of it")
