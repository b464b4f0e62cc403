"""JSON values to unions, and to Annotated types with their validators."""

from __future__ import annotations

import collections
import typing
from typing import Annotated, Any

from cattrs import Converter

from arbprov.errors import Problem
from arbprov.payload.classes import accepts_object, json_fields
from arbprov.payload.constraints import compile_metadata
from arbprov.payload.models import is_msgspec_struct
from arbprov.payload.scalars import is_literal, literal_choices
from arbprov.payload.structuring import StructureHook, find_hook, strip_annotation
from arbprov.payload.validation import (
    MISSING,
    OwnWords,
    UnknownField,
    ValidationFailure,
    field_path,
    json_kind,
    type_name,
)

__all__ = ["is_annotated", "make_annotated_hook", "make_union_hook"]


def make_union_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a union.

    An object becomes the member that knows most of its fields, any other value the first member
    that fits. An integer stays an integer if the union has `int`. If an object fits no member, the
    problems are those of the member that its tag names: a field that is a Literal in the members.
    """
    members = typing.get_args(target)
    if len(members) == 2 and type(None) in members:
        inner = members[members[0] is type(None)]
        inner_hook = find_hook(inner, converter)
        return lambda value, _: None if value is None else inner_hook(value, inner)
    fields = [json_fields(strip_annotation(member)) for member in members]
    hooks = [(m, find_hook(m, converter), {*f}) for m, f in zip(members, fields, strict=True)]
    tags = _find_tags(fields)
    required = _required_tag(members, tags)
    has_int = int in members

    def structure(value: Any, _: Any) -> Any:
        if has_int and type(value) is int:
            return value
        if required and isinstance(value, dict) and required not in value:
            raise ValidationFailure([Problem(field_path(required), MISSING)])
        fits, failures = [], []
        for member, hook, names in hooks:
            known = len(value.keys() & names) if isinstance(value, dict) else 0
            try:
                fits.append((known, hook(value, member)))
            except Exception as error:
                failures.append(ValidationFailure.from_error(error))
        if not fits:
            raise _tagged_failure(value, failures, tags) or _closest_failure(
                value, failures, members
            )
        return max(fits, key=lambda fit: fit[0])[1]

    return structure


# The JSON values that a tag may have, by the tag's name, for each member of a union.
Tags = list[dict[str, list[Any]]]


def _find_tags(fields: list[dict[str, Any]]) -> Tags:
    """Return the tags of each member: Literal fields by whose values the members differ."""
    literals = [
        {
            name: [json_value for json_value, _ in literal_choices(strip_annotation(kind))]
            for name, kind in member.items()
            if is_literal(strip_annotation(kind))
        }
        for member in fields
    ]
    choices = collections.defaultdict(list)
    for member in literals:
        for name, values in member.items():
            choices[name].append({(type(value), value) for value in values})
    tags = {
        name
        for name, sets in choices.items()
        if len(sets) > 1 and len(set.union(*sets)) == sum(map(len, sets))
    }
    return [{n: values for n, values in member.items() if n in tags} for member in literals]


def _required_tag(members: tuple[Any, ...], tags: Tags) -> str | None:
    """Return the tag that every object needs: msgspec structs have it in no field.

    As in msgspec, a struct alone does not need it.
    """
    structs = [(m, t) for m, t in zip(members, tags, strict=True) if accepts_object(m)]
    if not all(is_msgspec_struct(member) for member, _ in structs):
        return None
    names = {member.__struct_config__.tag_field for member, _ in structs}
    return names.pop() if len(structs) > 1 and len(names) == 1 else None


def _tagged_failure(
    value: Any, failures: list[ValidationFailure], tags: Tags
) -> ValidationFailure | None:
    """Return the failure of the member that an object's tag names, or that the tag is missing."""
    if not isinstance(value, dict):
        return None
    tagged = [(f, member) for f, member in zip(failures, tags, strict=True) if member]
    for name in dict.fromkeys(name for member in tags for name in member):
        missing = Problem(field_path(name), MISSING)
        if all(missing in failure.problems for failure, _ in tagged):
            return ValidationFailure([missing])
    # 1 == True == 1.0, but JSON tells them apart.
    named = [
        failure
        for failure, member in tagged
        if any(
            type(choice) is type(value.get(name)) and choice == value.get(name)
            for name, choices in member.items()
            for choice in choices
        )
    ]
    if named:
        return min(named, key=lambda failure: len(failure.problems))
    for name in next(filter(None, tags), ()):
        if name in value:
            choices = dict.fromkeys(repr(choice) for m in tags for choice in m.get(name, ()))
            message = OwnWords(f"expected one of {', '.join(choices)}")
            return ValidationFailure([Problem(field_path(name), message)])
    return None


def _closest_failure(
    value: Any, failures: list[ValidationFailure], members: tuple[Any, ...]
) -> ValidationFailure:
    """Return the failure with the fewest problems inside `value`, else a failure of all of it.

    Between equal numbers of problems, a failure that has only unknown fields is closer.
    """
    inside = [failure for failure in failures if any(p.path for p in failure.problems)]
    if inside:
        return min(
            inside,
            key=lambda failure: (
                len(failure.problems),
                not all(isinstance(p.message, UnknownField) for p in failure.problems),
            ),
        )
    names = ", ".join("null" if m is type(None) else type_name(m) for m in members)
    return ValidationFailure(f"expected one of {names}, got {json_kind(value)}")


def is_annotated(target: Any) -> bool:
    """Tell whether `target` is an Annotated type."""
    return typing.get_origin(target) is Annotated


def make_annotated_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of an Annotated type; see `compile_metadata`.

    Raises:
        UnsupportedTypeError: A part of its metadata would be ignored.
    """
    inner, *metadata = typing.get_args(target)
    hook = find_hook(inner, converter)
    checks = compile_metadata(target, inner, metadata)

    def structure(value: Any, _: Any) -> Any:
        structured = hook(value, inner)
        problems: list[Problem] = []
        for check in checks:
            try:
                structured = check(structured)
            except Exception as error:
                problems += ValidationFailure.from_error(error).problems
        if problems:
            raise ValidationFailure(problems)
        return structured

    return structure if checks else lambda value, _: hook(value, inner)
