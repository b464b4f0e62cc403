"""JSON objects to attrs classes, dataclasses, TypedDicts and NamedTuples.

cattrs generates the code that structures the fields; its errors become problems with paths.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
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
from arbprov.payload.constraints import check_default
from arbprov.payload.containers import is_mapping
from arbprov.payload.models import (
    is_foreign_model,
    is_msgspec_struct,
    is_pydantic_model,
    model_json_fields,
)
from arbprov.payload.schema import is_schema
from arbprov.payload.structuring import StructureHook, find_hook, is_union, origin_class
from arbprov.payload.validation import (
    MISSING,
    Problems,
    ValidationFailure,
    add_unknown_fields,
    expect_object,
    field_path,
)

__all__ = [
    "accepts_object",
    "field_names",
    "has_fields",
    "has_property",
    "held_fields",
    "init_vars",
    "is_class",
    "is_namedtuple",
    "is_typeddict",
    "json_fields",
    "make_class_hook",
    "make_namedtuple_hook",
    "make_typeddict_hook",
    "typeddict_fields",
]

# A JSON object.
Fields = dict[str, Any]


def is_class(target: Any) -> bool:
    """Tell whether `target` is an attrs class or a dataclass."""
    return attrs.has(target) or dataclasses.is_dataclass(origin_class(target))


def is_typeddict(target: Any) -> bool:
    """Tell whether `target` is a TypedDict."""
    return typing_extensions.is_typeddict(origin_class(target))


def is_namedtuple(target: Any) -> bool:
    """Tell whether `target` is a NamedTuple."""
    return bool(cattrs.cols.is_namedtuple(origin_class(target)))


# The fields of a type.


def accepts_object(target: Any) -> bool:
    """Tell whether a JSON object could become `target`."""
    if is_union(target):
        return any(map(accepts_object, typing.get_args(target)))
    return target in (Any, object) or is_mapping(target) or has_fields(target)


def field_names(target: Any) -> list[str] | None:
    """Return the names of the fields of a type; None if it takes any, or is not an object."""
    if not has_fields(target):
        return None
    if is_schema(target):
        return list(target.fields)
    if is_msgspec_struct(target):
        return list(target.__struct_fields__)
    if is_pydantic_model(target):
        return list(target.__pydantic_fields__)
    if is_class(target):
        return list(_class_fields(origin_class(target)))
    return list(typing_extensions.get_type_hints(origin_class(target)))


def _class_fields(cls: Any) -> dict[str, Any]:
    """Return the fields of an attrs class or a dataclass; other classes have none."""
    if not is_class(cls):
        return {}
    fields = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
    return {field.name: field for field in fields}


def json_fields(target: Any) -> dict[str, Any]:
    """Return the types of the fields that a payload may have for a type, by their names in JSON."""
    if not has_fields(target):
        return {}
    if is_schema(target):
        return dict(target.fields)
    if is_foreign_model(target):
        return model_json_fields(target)
    cls = origin_class(target)
    hints = typing_extensions.get_type_hints(cls, include_extras=True)
    names = [*(field_names(target) or ()), *init_vars(cls)]
    # Set by the class itself.
    computed = {name for name, field in _class_fields(cls).items() if not field.init}
    arguments = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(target), strict=False))
    fields = {name: hints.get(name, Any) for name in names if name not in computed}
    for name, hint in fields.items() if arguments else ():
        if isinstance(hint, typing.TypeVar):
            fields[name] = arguments.get(hint, hint)
        elif typing.get_origin(hint) and (variables := getattr(hint, "__parameters__", ())):
            fields[name] = hint[tuple(arguments.get(v, Any) for v in variables)]
    return fields


def init_vars(cls: Any) -> dict[str, Any]:
    """Return the InitVar fields of a dataclass: arguments of its constructor only."""
    fields = getattr(cls, "__dataclass_fields__", {})
    kind = dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
    return {name: field for name, field in fields.items() if field._field_type is kind}


def held_fields(value: Any, wanted: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return the values of a structured object by the names of its fields, not by their aliases.

    Args:
        value: An instance of a class, or a mapping.
        wanted: Names whose values are returned even if they are only properties of the class.
    """
    if isinstance(value, Mapping):
        return value
    kind = type(value)
    names = [*(field_names(kind) or ()), *(name for name in wanted if has_property(kind, name))]
    # The unknown fields that a pydantic model keeps with extra="allow".
    extra = getattr(value, "__pydantic_extra__", None) or {}
    return {**extra, **{name: getattr(value, name) for name in names if hasattr(value, name)}}


def has_property(target: Any, name: str) -> bool:
    """Tell whether a class computes an attribute of its instances."""
    attribute = inspect.getattr_static(origin_class(target), name, None)
    return isinstance(attribute, (property, functools.cached_property))


def has_fields(target: Any) -> bool:
    """Tell whether `target` is a class of objects with fields."""
    return any(check(target) for check in _FIELD_CHECKS)


_FIELD_CHECKS = (is_schema, is_class, is_typeddict, is_namedtuple, is_foreign_model)


# Structure hooks.


def make_class_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of an attrs class or a dataclass."""
    # cattrs resolves an annotation that is a string, but not a string inside an annotation.
    cls = origin_class(target)
    for field in _class_fields(cls).values():
        check_default(field.default)
    if attrs.has(cls):
        attrs.resolve_types(cls)
    else:
        hints = typing_extensions.get_type_hints(cls, include_extras=True)
        if init_vars(cls):
            return _make_init_var_hook(cls, hints, converter)
        for field in dataclasses.fields(cls):
            field.type = hints[field.name]
    return _make_hook(make_dict_structure_fn(target, converter), target, converter)


def _make_init_var_hook(cls: Any, hints: Mapping[str, Any], converter: Converter) -> StructureHook:
    """Return the structure hook of a dataclass with InitVar fields: cattrs leaves them out."""
    fields = [field for field in dataclasses.fields(cls) if field.init]
    only_init = init_vars(cls)
    types = {}
    for field in (*fields, *only_init.values()):
        hint = hints[field.name]
        if field.name in only_init:
            hint = Any if hint is dataclasses.InitVar else hint.type
        default = (field.default, field.default_factory)
        required = default == (dataclasses.MISSING, dataclasses.MISSING)
        types[field.name] = hint if required else NotRequired[hint]
    make_type: Any = TypedDict
    arguments = make_type(cls.__name__, types)
    hook = make_typeddict_hook(arguments, converter)

    def structure(value: Any, _: Any) -> Any:
        # A TypedDict keeps unknown fields, but the constructor takes none.
        structured = hook(value, arguments)
        return cls(**{name: structured[name] for name in types.keys() & structured.keys()})

    return structure


def make_typeddict_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a TypedDict."""
    build = make_typeddict_structure_fn(_resolve_typeddict(target), converter)
    return _make_hook(build, target, converter)


def make_namedtuple_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a NamedTuple, whose JSON form is an object."""
    validation, forbid_extra = converter.detailed_validation, converter.forbid_extra_keys
    build = namedtuple_dict_structure_factory(target, converter, validation, forbid_extra)
    return _make_hook(build, target, converter)


def _resolve_typeddict(target: Any) -> Any:
    """Return a TypedDict that knows its optional fields though its annotations are strings.

    Python does not see NotRequired in a string, and takes the field for a required field.
    """
    if typing.get_origin(target):
        return target
    fields = {
        name: hint if required else NotRequired[hint]
        for name, (hint, required) in typeddict_fields(target).items()
    }
    return TypedDict(target.__name__, fields)  # type: ignore[operator]


def typeddict_fields(target: Any) -> dict[str, tuple[Any, bool]]:
    """Return the type of each field of a TypedDict, and whether it must be there."""
    cls = origin_class(target)
    fields = {}
    for name, annotation in typing_extensions.get_type_hints(cls, include_extras=True).items():
        required, hint = name in cls.__required_keys__, annotation
        while (qualifier := origin_class(hint)) in (Required, NotRequired, ReadOnly):
            required = {Required: True, NotRequired: False}.get(qualifier, required)
            hint = typing.get_args(hint)[0]
        fields[name] = (hint, required)
    return fields


def _make_hook(
    build: Callable[[Fields, Any], Any], target: Any, converter: Converter
) -> StructureHook:
    known = list(json_fields(target)) if converter.forbid_extra_keys else []

    def structure(value: Any, _: Any) -> Any:
        fields = value if type(value) is dict else expect_object(value)
        try:
            return build(fields, target)
        except ClassValidationError as error:
            problems = _find_problems(error, fields, target, known, converter)
        raise ValidationFailure(problems.listed, problems.count)

    return structure


def _find_problems(
    error: ClassValidationError, fields: Fields, target: Any, known: list[str], converter: Converter
) -> Problems:
    field_errors, class_errors = error.group_exceptions()
    # A field that does not fit is not structured again: nested objects would double the time.
    fitting = fields.keys() - {note.name for _, note in field_errors}
    invalid = (
        _run_validators(target, {name: fields[name] for name in fitting}, fields, converter)
        if attrs.has(target)
        else []
    )
    problems = Problems()
    for problem in invalid:
        problems.append(problem)
    for cause, note in field_errors:
        if isinstance(cause, KeyError) and note.name not in fields:
            problems.append(Problem(field_path(note.name), MISSING))
        else:
            problems.add(cause, field_path(note.name))
    for cause in class_errors:
        if isinstance(cause, ForbiddenExtraKeysError):
            add_unknown_fields(problems, cause.extra_fields, known)
        elif not invalid:
            problems.add(cause)
    return problems


# Validators of attrs classes.


def _run_validators(
    target: Any, fitting: Fields, fields: Fields, converter: Converter
) -> list[Problem]:
    """Return the problems that validators find in the fields that fit their types.

    attrs itself stops at the first validator that raises.
    """
    attributes = attrs.fields(origin_class(target))
    if not any(attribute.validator for attribute in attributes):
        return []
    # Not made by __init__, which validates; a validator may read the other fields.
    instance = object.__new__(origin_class(target))
    for attribute in attributes:
        if attribute.name in fields and attribute.name not in fitting:
            continue
        with contextlib.suppress(Exception):
            value = _attribute_value(attribute, instance, fitting, converter)
            object.__setattr__(instance, attribute.name, value)
    valid = [attribute for attribute in attributes if hasattr(instance, attribute.name)]
    problems: list[Problem] = []
    for attribute in valid:
        try:
            if attribute.validator:
                attribute.validator(instance, attribute, getattr(instance, attribute.name))
        except Exception as error:
            # It may have read a field that did not fit, which has a problem of its own.
            if len(valid) == len(attributes) or not isinstance(error, AttributeError):
                problems += ValidationFailure.from_error(error).prefixed(field_path(attribute.name))
    return problems


def _attribute_value(attribute: Any, instance: Any, fields: Fields, converter: Converter) -> Any:
    """Return the value that __init__ would set: structured or the default, and converted.

    Raises:
        Exception: The field does not fit, or is missing.
    """
    default = attribute.default
    if attribute.name in fields:
        value = find_hook(attribute.type, converter)(fields[attribute.name], attribute.type)
    elif default is attrs.NOTHING:
        raise LookupError(attribute.name)
    elif isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        value = default.factory(instance) if default.takes_self else default.factory()
    else:
        value = default
    convert = attribute.converter
    if convert is None:
        return value
    takes_three = isinstance(convert, attrs.Converter)
    return convert(value, instance, attribute) if takes_three else convert(value)
