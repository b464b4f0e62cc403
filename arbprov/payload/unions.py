"""JSON values to unions, and to Annotated types with their validators."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

from cattrs import Converter

from arbprov.errors import Problem
from arbprov.payload.classes import field_names
from arbprov.payload.structuring import StructureHook, find_hook
from arbprov.payload.validation import ValidationFailure, json_kind, type_name

__all__ = ["is_annotated", "make_annotated_hook", "make_union_hook"]


def make_union_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a union.

    An object becomes the member that knows most of its fields, any other value the first member
    that fits. An integer stays an integer if the union has `int`.
    """
    members = typing.get_args(target)
    if len(members) == 2 and type(None) in members:
        inner = members[members[0] is type(None)]
        inner_hook = find_hook(inner, converter)
        return lambda value, _: None if value is None else inner_hook(value, inner)
    hooks = [(m, find_hook(m, converter), {*(field_names(m) or ())}) for m in members]
    has_int = int in members

    def structure(value: Any, _: Any) -> Any:
        if has_int and type(value) is int:
            return value
        fits, failures = [], []
        for member, hook, names in hooks:
            known = len(value.keys() & names) if isinstance(value, dict) else 0
            try:
                fits.append((known, hook(value, member)))
            except Exception as error:
                failures.append(ValidationFailure.from_error(error))
        if not fits:
            raise _closest_failure(value, failures, members)
        return max(fits, key=lambda fit: fit[0])[1]

    return structure


def _closest_failure(
    value: Any, failures: list[ValidationFailure], members: tuple[Any, ...]
) -> ValidationFailure:
    """Return the failure with the fewest problems inside `value`, else a failure of all of it."""
    inside = [failure for failure in failures if any(p.path for p in failure.problems)]
    if inside:
        return min(inside, key=lambda failure: len(failure.problems))
    names = ", ".join("null" if m is type(None) else type_name(m) for m in members)
    return ValidationFailure(f"expected one of {names}, got {json_kind(value)}")


def is_annotated(target: Any) -> bool:
    """Tell whether `target` is an Annotated type."""
    return typing.get_origin(target) is Annotated


def make_annotated_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of an Annotated type; each callable in it is a validator."""
    inner, *metadata = typing.get_args(target)
    hook = find_hook(inner, converter)
    validators = [_bind_attribute(item) for item in metadata if callable(item)]

    def structure(value: Any, _: Any) -> Any:
        structured = hook(value, inner)
        problems: list[Problem] = []
        for validate in validators:
            try:
                validate(structured)
            except Exception as error:
                problems += ValidationFailure.from_error(error).problems
        if problems:
            raise ValidationFailure(problems)
        return structured

    return structure if validators else lambda value, _: hook(value, inner)


def _bind_attribute(validator: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a validator as a function of the value alone; an attrs validator takes three."""
    if len(inspect.signature(validator).parameters) != 3:
        return validator
    # attrs' validators name the attribute in their messages.
    attribute = types.SimpleNamespace(name="value")
    return lambda value: validator(None, attribute, value)
