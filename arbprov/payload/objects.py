"""What can be told of a type that is filled from an object, without filling it."""

from __future__ import annotations

import typing
from typing import Any

import typing_extensions

from arbprov.payload.classes import is_class, is_namedtuple, is_typeddict
from arbprov.payload.common import is_union, origin
from arbprov.payload.containers import is_mapping
from arbprov.payload.models import is_foreign_model, is_msgspec_struct
from arbprov.payload.schema import is_schema

__all__ = ["field_names", "takes_object"]

_WITH_FIELDS = (is_schema, is_class, is_typeddict, is_namedtuple, is_foreign_model)


def takes_object(target: Any) -> bool:
    """Tell whether an object could become `target`."""
    if is_union(target):
        return any(map(takes_object, typing.get_args(target)))
    return target in (Any, object) or is_mapping(target) or _has_fields(target)


def field_names(target: Any) -> list[str] | None:
    """Return the names of the fields that a type takes from an object, None if it takes any."""
    if not _has_fields(target):
        return None
    if is_schema(target):
        return list(target.fields)
    if is_msgspec_struct(target):
        return list(target.__struct_fields__)
    return list(typing_extensions.get_type_hints(origin(target)))


def _has_fields(target: Any) -> bool:
    return any(check(target) for check in _WITH_FIELDS)
