"""Unions, and types with validators."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from cattrs import Converter

from arbprov.errors import Problem
from arbprov.payload.common import Hook, hook_of
from arbprov.payload.objects import field_names
from arbprov.payload.validation import ValidationFailure, json_kind, type_name


def union_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of a union; the member that knows most of an object's fields gets it."""
    members = typing.get_args(target)
    if len(members) == 2 and type(None) in members:
        return _optional_hook(members[members[0] is type(None)], converter)
    hooks = [(member, hook_of(member, converter)) for member in members]
    takes_int = int in members

    def structure(value: Any, _: Any) -> Any:
        if takes_int and type(value) is int:
            return value
        return _best_fit(value, hooks)

    return structure


def _optional_hook(inner: Any, converter: Converter) -> Hook:
    hook = hook_of(inner, converter)
    return lambda value, _: None if value is None else hook(value, inner)


def _best_fit(value: Any, hooks: list[tuple[Any, Hook]]) -> Any:
    """Return what `value` becomes in the member that knows most of its fields, the first wins."""
    fits, misfits = [], []
    for member, hook in hooks:
        try:
            fits.append((_known_fields(member, value), hook(value, member)))
        except Exception as error:
            misfits.append(ValidationFailure.of(error))
    if not fits:
        raise _closest(value, misfits, hooks)
    return max(fits, key=lambda fit: fit[0])[1]


def _known_fields(member: Any, value: Any) -> int:
    return len(value.keys() & (field_names(member) or ())) if isinstance(value, dict) else 0


def _closest(
    value: Any, misfits: list[ValidationFailure], hooks: list[tuple[Any, Hook]]
) -> ValidationFailure:
    inside = [misfit for misfit in misfits if any(p.path for p in misfit.problems)]
    if inside:
        return min(inside, key=lambda misfit: len(misfit.problems))
    names = ", ".join("null" if m is type(None) else type_name(m) for m, _ in hooks)
    return ValidationFailure(f"expected one of {names}, got {json_kind(value)}")


def annotated_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of an Annotated type; what is callable in it validates."""
    inner, *metadata = typing.get_args(target)
    hook = hook_of(inner, converter)
    validators = [_validator(one) for one in metadata if callable(one)]

    def structure(value: Any, _: Any) -> Any:
        structured = hook(value, inner)
        if problems := list(_objections(validators, structured)):
            raise ValidationFailure(problems)
        return structured

    return structure if validators else lambda value, _: hook(value, inner)


def _objections(validators: list[Callable[[Any], Any]], value: Any) -> Iterator[Problem]:
    for validate in validators:
        try:
            validate(value)
        except Exception as error:
            yield from ValidationFailure.of(error).problems


def _validator(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what checks a value: a function of it, or a validator in the form of attrs'."""
    if len(inspect.signature(function).parameters) == 3:
        # attrs' validators name the attribute in what they say.
        attribute = types.SimpleNamespace(name="value")
        return lambda value: function(None, attribute, value)
    return function


def is_annotated(target: Any) -> bool:
    """Tell whether `target` is an Annotated type."""
    return typing.get_origin(target) is Annotated
