"""Asking every validator of an attrs class, since attrs itself stops at the first to object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs
from cattrs import Converter

from arbprov.errors import Problem
from arbprov.payload.common import hook_of, origin
from arbprov.payload.validation import ValidationFailure, field_path

__all__ = ["objections_to"]


def objections_to(target: Any, fields: dict[str, Any], converter: Converter) -> list[Problem]:
    """Return what the validators of a class say of the fields that fit their types.

    Args:
        target: The class; others than attrs' have no validators.
        fields: What it was to be made from.
        converter: Structures the fields.
    """
    if not attrs.has(target):
        return []
    # Not made by __init__, which would validate: a validator may look at the other fields.
    instance = object.__new__(origin(target))
    complete = _fill(instance, fields, converter)
    return list(_objections(instance, fields, complete))


def _fill(instance: Any, fields: dict[str, Any], converter: Converter) -> bool:
    """Set the fields that fit and those with defaults; return whether that is all of them."""
    for attribute in attrs.fields(type(instance)):
        with contextlib.suppress(Exception):
            value = _value(attribute, instance, fields, converter)
            object.__setattr__(instance, attribute.name, value)
    return all(hasattr(instance, one.name) for one in attrs.fields(type(instance)))


def _value(attribute: Any, instance: Any, fields: dict[str, Any], converter: Converter) -> Any:
    if attribute.name in fields:
        value = hook_of(attribute.type, converter)(fields[attribute.name], attribute.type)
    else:
        value = _default(attribute, instance)
    convert = attribute.converter
    if convert is None:
        return value
    takes_three = isinstance(convert, attrs.Converter)
    return convert(value, instance, attribute) if takes_three else convert(value)


def _default(attribute: Any, instance: Any) -> Any:
    default = attribute.default
    if default is attrs.NOTHING:
        raise LookupError(attribute.name)
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory(instance) if default.takes_self else default.factory()
    return default


def _objections(instance: Any, fields: dict[str, Any], complete: bool) -> Iterator[Problem]:
    for attribute in attrs.fields(type(instance)):
        if not attribute.validator or not hasattr(instance, attribute.name):
            continue
        try:
            attribute.validator(instance, attribute, getattr(instance, attribute.name))
        except Exception as error:
            # It may have looked at a field that did not fit, and that one has its own problem.
            if complete or not isinstance(error, AttributeError):
                yield from ValidationFailure.of(error).below(field_path(attribute.name))
