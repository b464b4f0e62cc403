"""JSON objects to classes: cattrs generates the code, and its errors become problems with paths."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import attrs
import cattrs.cols
import typing_extensions
from cattrs import Converter
from cattrs.cols import namedtuple_dict_structure_factory
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn
from cattrs.gen.typeddicts import make_dict_structure_fn as make_typeddict_structure_fn
from typing_extensions import NotRequired, ReadOnly, Required, TypedDict

from arbprov.errors import Problem
from arbprov.payload.common import Hook, origin
from arbprov.payload.validation import (
    MISSING,
    ValidationFailure,
    expect_object,
    field_path,
    unknown_field,
)
from arbprov.payload.validators import objections_to

Fields = dict[str, Any]


def is_class(target: Any) -> bool:
    """Tell whether `target` is a class of attrs' or a dataclass."""
    return attrs.has(target) or dataclasses.is_dataclass(origin(target))


def is_typeddict(target: Any) -> bool:
    """Tell whether `target` is a TypedDict."""
    return typing_extensions.is_typeddict(origin(target))


def is_namedtuple(target: Any) -> bool:
    """Tell whether `target` is a NamedTuple."""
    return bool(cattrs.cols.is_namedtuple(origin(target)))


def class_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of a class of attrs' or a dataclass."""
    _resolve_types(origin(target))
    return _hook(make_dict_structure_fn(target, converter), target, converter)


def typeddict_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of a TypedDict."""
    fill = make_typeddict_structure_fn(_with_known_optionals(target), converter)
    return _hook(fill, target, converter)


def namedtuple_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of a NamedTuple, which is written as an object."""
    validation, forbid_extra = converter.detailed_validation, converter.forbid_extra_keys
    fill = namedtuple_dict_structure_factory(target, converter, validation, forbid_extra)
    return _hook(fill, target, converter)


def _resolve_types(cls: Any) -> None:
    """Have names in quotes stand for their types, which cattrs does for whole annotations only."""
    if attrs.has(cls):
        attrs.resolve_types(cls)
        return
    hints = typing_extensions.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        field.type = hints[field.name]


def _with_known_optionals(target: Any) -> Any:
    """Return a TypedDict that knows its optional fields, though its annotations are strings.

    Python can't see the NotRequired in a string, and takes such a field for a required one.
    """
    if typing.get_origin(target):
        return target
    hints = typing_extensions.get_type_hints(target, include_extras=True)
    fields = {name: _qualified(target, name, hint) for name, hint in hints.items()}
    return TypedDict(target.__name__, fields)  # type: ignore[operator]


def _qualified(target: Any, name: str, hint: Any) -> Any:
    required = name in target.__required_keys__
    while typing.get_origin(hint) in (Required, NotRequired, ReadOnly):
        required = {Required: True, NotRequired: False}.get(typing.get_origin(hint), required)
        hint = typing.get_args(hint)[0]
    return hint if required else NotRequired[hint]


def _hook(fill: Callable[[Fields, Any], Any], target: Any, converter: Converter) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        fields = value if type(value) is dict else expect_object(value)
        try:
            return fill(fields, target)
        except ClassValidationError as error:
            raise ValidationFailure(_problems(error, fields, target, converter)) from None

    return structure


def _problems(
    error: ClassValidationError, fields: Fields, target: Any, converter: Converter
) -> list[Problem]:
    of_fields, of_the_whole = error.group_exceptions()
    found: list[Problem] = []
    for cause, note in of_fields:
        if isinstance(cause, KeyError) and note.name not in fields:
            found.append(Problem(field_path(note.name), MISSING))
        else:
            found += ValidationFailure.of(cause).below(field_path(note.name))
    objections = objections_to(target, fields, converter)
    for cause in of_the_whole:
        if isinstance(cause, ForbiddenExtraKeysError):
            found += map(unknown_field, sorted(cause.extra_fields))
        elif not objections:
            found += ValidationFailure.of(cause).problems
    return objections + found
