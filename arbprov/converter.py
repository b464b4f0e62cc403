"""JSON data to typed values, strictly: one cattrs converter that casts nothing in silence.

Every problem of a value is collected, each with the path of what is wrong. No message holds
a piece of the value itself, since the value may be an account's secret.
"""

from __future__ import annotations

import base64
import binascii
import collections
import collections.abc
import datetime as dt
import enum
import inspect
import math
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import attrs
import typing_extensions
from cattrs import Converter
from cattrs.cols import is_namedtuple, namedtuple_dict_structure_factory
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn
from cattrs.gen.typeddicts import make_dict_structure_fn as make_typeddict_structure_fn
from typing_extensions import NotRequired, ReadOnly, Required, TypedDict

from arbprov.errors import Problem
from arbprov.foreign_models import (
    is_msgspec_struct,
    is_pydantic_model,
    msgspec_hook,
    pydantic_hook,
)
from arbprov.problems import (
    MISSING,
    Misfit,
    expect_object,
    field_path,
    json_kind,
    type_name,
    unknown_field,
)
from arbprov.schemas import is_schema, schema_factory

Hook = Callable[[Any, Any], Any]
Factory = Callable[[Any, Converter], Hook]


class UnfillableTypeError(TypeError):
    """No JSON value could become this type."""

    def __init__(self, target: Any, reason: str = "") -> None:
        super().__init__(f"no JSON value can become {type_name(target)}{reason}")


# Scalars: one small check each.


def _exactly(kind: type, expected: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise Misfit(f"expected {expected}, got {json_kind(value)}")
        return value

    return check


_string = _exactly(str, "a string")
_null = _exactly(type(None), "null")


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise Misfit(f"expected a number, got {json_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise Misfit("expected a number that a double can hold") from None
    if not math.isfinite(number):
        raise Misfit("expected a finite number")
    return number


def _bytes(value: Any) -> bytes:
    text = _text(value, "base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Misfit("expected base64") from None


def _decimal(value: Any) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        raise Misfit("expected a decimal written as a string, got a number with a fraction")
    text = _text(value, "a decimal")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Misfit("expected a decimal such as '12.50'") from None
    if not number.is_finite():
        raise Misfit("expected a finite decimal")
    return number


def _uuid(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(_text(value, "a UUID"))
    except ValueError:
        raise Misfit("expected a UUID") from None


def _timedelta(value: Any) -> dt.timedelta:
    if type(value) not in (int, float):
        raise Misfit(f"expected a number of seconds, got {json_kind(value)}")
    try:
        return dt.timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise Misfit("expected a number of seconds that a timedelta can hold") from None


def _text(value: Any, expected: str) -> str:
    if type(value) is not str:
        raise Misfit(f"expected {expected} as a string, got {json_kind(value)}")
    return value


# `fromisoformat` takes more on Python 3.11 than on 3.10 ("20260320", "2026-W12-5"), and less
# on 3.10 (no "Z", no fraction of one digit): these make every Python take the same.
_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d(?::\d\d(?:\.(?P<fraction>\d{1,9}))?)?(?P<zone>Z|[+-]\d\d:\d\d)?"
_ISO_DATE = re.compile(_DATE, re.ASCII)
_ISO_TIME = re.compile(_TIME, re.ASCII)
_ISO_DATETIME = re.compile(rf"{_DATE}(?:[T ]{_TIME})?", re.ASCII)


def _iso(
    pattern: re.Pattern[str], parse: Callable[[str], Any], example: str
) -> Callable[[Any], Any]:
    name = f"an ISO 8601 {parse.__self__.__name__}"  # type: ignore[attr-defined]

    def check(value: Any) -> Any:
        match = pattern.fullmatch(_text(value, name))
        try:
            if match:
                return parse(_for_every_python(match))
        except ValueError:
            pass
        raise Misfit(f"expected {name} such as '{example}'")

    return check


def _for_every_python(match: re.Match[str]) -> str:
    text = match.string
    groups = match.groupdict()
    if fraction := groups.get("fraction"):
        text = text.replace(f".{fraction}", f".{fraction[:6]:0<6}")
    return text[:-1] + "+00:00" if groups.get("zone") == "Z" else text


_SCALARS: dict[type, Callable[[Any], Any]] = {
    str: _string,
    int: _exactly(int, "an integer"),
    bool: _exactly(bool, "a boolean"),
    float: _float,
    bytes: _bytes,
    type(None): _null,
    dt.datetime: _iso(_ISO_DATETIME, dt.datetime.fromisoformat, "2026-03-20T10:30:00+01:00"),
    dt.date: _iso(_ISO_DATE, dt.date.fromisoformat, "2026-03-20"),
    dt.time: _iso(_ISO_TIME, dt.time.fromisoformat, "10:30:00"),
    dt.timedelta: _timedelta,
    uuid.UUID: _uuid,
    Decimal: _decimal,
}


def _scalar_hook(base: type | None, check: Callable[[Any], Any]) -> Hook:
    def structure(value: Any, target: Any) -> Any:
        # cattrs finds a subclass by its base, so `class Colour(str, Enum)` comes here too.
        if target is base:
            return check(value)
        if issubclass(target, enum.Enum):
            return _pick(value, _enum_choices(target))
        return target(check(value))

    return structure


# Choices: enums and literals.

Choices = list[tuple[Any, Any]]


def _enum_choices(target: type[enum.Enum]) -> Choices:
    return [(member.value, member) for member in target]


def _literal_choices(target: Any) -> Choices:
    members = typing.get_args(target)
    return [(m.value if isinstance(m, enum.Enum) else m, m) for m in members]


def _pick(value: Any, choices: Choices) -> Any:
    for written, member in choices:
        # 1 == True == 1.0, and none of them stands for another here.
        if written == value and type(written) is type(value):
            return member
    known = ", ".join(repr(written) for written, _ in choices)
    raise Misfit(f"expected one of {known}" if len(choices) > 1 else f"expected {known}")


# Arrays and objects.


def _expect_array(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Misfit(f"expected an array, got {json_kind(value)}")
    return value


def _array_factory(build: Callable[[list[Any]], Any]) -> Factory:
    def factory(target: Any, converter: Converter) -> Hook:
        element = next(iter(typing.get_args(target)), Any)
        hook = converter.get_structure_hook(element)

        def structure(value: Any, _: Any) -> Any:
            items = _expect_array(value)
            return _collect(build, _each(items, [hook] * len(items), [element] * len(items)))

        return structure

    return factory


def _collect(build: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return build(items)
    except TypeError:
        raise Misfit("expected items that a set can hold, got objects or arrays") from None


def _each(items: list[Any], hooks: list[Hook], targets: list[Any]) -> list[Any]:
    structured: list[Any] = []
    problems: list[Problem] = []
    for index, item in enumerate(items):
        try:
            structured.append(hooks[index](item, targets[index]))
        except Exception as error:
            problems += Misfit.of(error).below(f"[{index}]")
    if problems:
        raise Misfit(problems)
    return structured


def _tuple_factory(target: Any, converter: Converter) -> Hook:
    targets = [t for t in typing.get_args(target) or (Any, ...) if t != ()]
    if targets[1:] == [Ellipsis]:
        return _array_factory(tuple)(list[targets[0]], converter)  # type: ignore[valid-type]
    hooks = [converter.get_structure_hook(t) for t in targets]

    def structure(value: Any, _: Any) -> Any:
        if len(_expect_array(value)) != len(hooks):
            raise Misfit(f"expected an array of {len(hooks)} items, got {len(value)}")
        return tuple(_each(value, hooks, targets))

    return structure


def _mapping_factory(target: Any, converter: Converter) -> Hook:
    key_type, item_type = typing.get_args(target) or (Any, Any)
    if not _can_be_key(key_type):
        raise UnfillableTypeError(target, ", since the keys of a JSON object are strings")
    key_hook = converter.get_structure_hook(key_type)
    item_hook = converter.get_structure_hook(item_type)

    def structure(value: Any, _: Any) -> Any:
        structured, problems = {}, []
        for key, item in expect_object(value).items():
            try:
                structured[key_hook(key, key_type)] = item_hook(item, item_type)
            except Exception as error:
                problems += Misfit.of(error).below(field_path(key))
        if problems:
            raise Misfit(problems)
        return structured

    return structure


def _can_be_key(target: Any) -> bool:
    if target is Any:
        return True
    if typing.get_origin(target) is typing.Literal:
        return all(type(written) is str for written, _ in _literal_choices(target))
    if isinstance(target, type) and issubclass(target, enum.Enum):
        return all(type(member.value) is str for member in target)
    return isinstance(target, type) and issubclass(target, _KEY_TYPES)


_KEY_TYPES = (str, uuid.UUID, Decimal, dt.date, dt.time)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ARRAYS: dict[Any, Factory] = {
    list: _array_factory(list),
    set: _array_factory(set),
    frozenset: _array_factory(frozenset),
    collections.deque: _array_factory(collections.deque),
    collections.abc.Sequence: _array_factory(list),
    collections.abc.MutableSequence: _array_factory(list),
    collections.abc.Collection: _array_factory(list),
    collections.abc.Iterable: _array_factory(list),
    collections.abc.Set: _array_factory(frozenset),
    collections.abc.MutableSet: _array_factory(set),
    tuple: _tuple_factory,
}


def _origin(target: Any) -> Any:
    return typing.get_origin(target) or target


def _is_array(target: Any) -> bool:
    return _origin(target) in _ARRAYS


def _array_hook(target: Any, converter: Converter) -> Hook:
    return _ARRAYS[_origin(target)](target, converter)


def _is_mapping(target: Any) -> bool:
    return _origin(target) in _OBJECTS


# Classes: cattrs generates the code, and its errors become problems with paths.


def _class_factory(generate: Callable[[Any, Converter], Any]) -> Factory:
    def factory(target: Any, converter: Converter) -> Hook:
        fill = generate(target, converter)

        def structure(value: Any, _: Any) -> Any:
            fields = expect_object(value)
            try:
                return fill(fields, target)
            except ClassValidationError as error:
                raise Misfit(list(_class_problems(error, fields, target, converter))) from None

        return structure

    return factory


def _class_problems(
    error: ClassValidationError, fields: dict[str, Any], target: Any, converter: Converter
) -> Iterator[Problem]:
    of_fields, of_the_whole = error.group_exceptions()
    for cause, note in of_fields:
        if isinstance(cause, KeyError) and note.name not in fields:
            yield Problem(field_path(note.name), MISSING)
        else:
            yield from Misfit.of(cause).below(field_path(note.name))
    for cause in of_the_whole:
        if isinstance(cause, ForbiddenExtraKeysError):
            yield from map(unknown_field, sorted(cause.extra_fields))
        else:
            yield from _validator_problems(cause, fields, target, converter)


def _validator_problems(
    cause: Exception, fields: dict[str, Any], target: Any, converter: Converter
) -> list[Problem]:
    """Ask every validator of an attrs class, since attrs itself stops at the first to object."""
    problems: list[Problem] = []
    for attribute, instance in _validated(fields, target, converter):
        try:
            attribute.validator(instance, attribute, getattr(instance, attribute.name))
        except Exception as error:
            problems += Misfit.of(error).below(field_path(attribute.name))
    return problems or Misfit.of(cause).problems


def _validated(
    fields: dict[str, Any], target: Any, converter: Converter
) -> Iterator[tuple[Any, Any]]:
    if not attrs.has(target) or typing.get_origin(target):
        return
    # Not made by __init__, which would validate: a validator may look at the other fields.
    instance = target.__new__(target)
    for attribute in attrs.fields(target):
        if attribute.name in fields:
            value = converter.structure(fields[attribute.name], attribute.type)
            object.__setattr__(instance, attribute.name, value)
    for attribute in attrs.fields(target):
        if attribute.validator and attribute.name in fields:
            yield attribute, instance


def _fill_namedtuple(target: Any, converter: Converter) -> Any:
    validation, forbid_extra = converter.detailed_validation, converter.forbid_extra_keys
    return namedtuple_dict_structure_factory(target, converter, validation, forbid_extra)


def _fill_typeddict(target: Any, converter: Converter) -> Any:
    return make_typeddict_structure_fn(_with_known_optionals(target), converter)


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


def _has_fields(target: Any) -> bool:
    return attrs.has(target) or (isinstance(_origin(target), type) and _is_dataclass(target))


def _is_dataclass(target: Any) -> bool:
    return hasattr(_origin(target), "__dataclass_fields__")


def field_names(target: Any) -> list[str]:
    """Return the names of the fields that a schema or a class takes from a payload."""
    if is_schema(target):
        return list(target.fields)
    if is_msgspec_struct(target):
        return list(target.__struct_fields__)
    return list(typing_extensions.get_type_hints(_origin(target)))


# Unions and Annotated.


def _union_factory(target: Any, converter: Converter) -> Hook:
    members = typing.get_args(target)
    if len(members) == 2 and type(None) in members:
        return _optional_hook(members[members[0] is type(None)], converter)
    hooks = [(member, converter.get_structure_hook(member)) for member in members]
    takes_int = int in members

    def structure(value: Any, _: Any) -> Any:
        if takes_int and type(value) is int:
            return value
        return _best_fit(value, hooks)

    return structure


def _optional_hook(inner: Any, converter: Converter) -> Hook:
    hook = converter.get_structure_hook(inner)
    return lambda value, _: None if value is None else hook(value, inner)


def _best_fit(value: Any, hooks: list[tuple[Any, Hook]]) -> Any:
    """Return what `value` becomes in the member that knows most of its fields, the first wins."""
    fits, misfits = [], []
    for member, hook in hooks:
        try:
            fits.append((_known_fields(member, value), hook(value, member)))
        except Exception as error:
            misfits.append(Misfit.of(error))
    if not fits:
        raise _closest(value, misfits, hooks)
    return max(fits, key=lambda fit: fit[0])[1]


def _known_fields(member: Any, value: Any) -> int:
    if not isinstance(value, dict) or not isinstance(_origin(member), type):
        return 0
    return len(value.keys() & set(field_names(member)))


def _closest(value: Any, misfits: list[Misfit], hooks: list[tuple[Any, Hook]]) -> Misfit:
    inside = [misfit for misfit in misfits if any(p.path for p in misfit.problems)]
    if inside:
        return min(inside, key=lambda misfit: len(misfit.problems))
    names = ", ".join("null" if m is type(None) else type_name(m) for m, _ in hooks)
    return Misfit(f"expected one of {names}, got {json_kind(value)}")


def _annotated_factory(target: Any, converter: Converter) -> Hook:
    inner, *metadata = typing.get_args(target)
    hook = converter.get_structure_hook(inner)
    validators = [_validator(one) for one in metadata if callable(one)]

    def structure(value: Any, _: Any) -> Any:
        structured = hook(value, inner)
        if problems := list(_objections(validators, structured)):
            raise Misfit(problems)
        return structured

    return structure if validators else lambda value, _: hook(value, inner)


def _objections(validators: list[Callable[[Any], Any]], value: Any) -> Iterator[Problem]:
    for validate in validators:
        try:
            validate(value)
        except Exception as error:
            yield from Misfit.of(error).problems


def _validator(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what checks a value: a function of it, or a validator in the form of attrs'."""
    if len(inspect.signature(function).parameters) == 3:
        # attrs' validators name the attribute in what they say.
        attribute = types.SimpleNamespace(name="value")
        return lambda value: function(None, attribute, value)
    return function


# The converter.


def _refuse(target: Any) -> Hook:
    raise UnfillableTypeError(target)


def _is_union(target: Any) -> bool:
    return _origin(target) in (typing.Union, types.UnionType)


def _is_enum(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, enum.Enum)


def _enum_factory(target: Any, _: Converter) -> Hook:
    choices = _enum_choices(target)
    return lambda value, _: _pick(value, choices)


def _literal_factory(target: Any, _: Converter) -> Hook:
    choices = _literal_choices(target)
    return lambda value, _: _pick(value, choices)


# Asked from the last to the first.
_FACTORIES: list[tuple[Callable[[Any], bool], Factory]] = [
    (_has_fields, _class_factory(make_dict_structure_fn)),
    (lambda t: typing_extensions.is_typeddict(_origin(t)), _class_factory(_fill_typeddict)),
    (lambda t: is_namedtuple(_origin(t)), _class_factory(_fill_namedtuple)),
    (_is_array, _array_hook),
    (_is_mapping, _mapping_factory),
    (_is_enum, _enum_factory),
    (lambda t: typing.get_origin(t) is typing.Literal, _literal_factory),
    (_is_union, _union_factory),
    (lambda t: typing.get_origin(t) is Annotated, _annotated_factory),
    (is_schema, schema_factory),
    (is_pydantic_model, lambda model, _: pydantic_hook(model)),
    (is_msgspec_struct, lambda struct, _: msgspec_hook(struct)),
]


def make_converter(*, forbid_extra: bool = False) -> Converter:
    """Return a strict converter.

    Args:
        forbid_extra: Whether a field that a class does not have is a problem.
    """
    converter = Converter(forbid_extra_keys=forbid_extra, structure_fallback_factory=_refuse)
    for kind, check in _SCALARS.items():
        converter.register_structure_hook(kind, _scalar_hook(kind, check))
    converter.register_structure_hook_func(lambda t: t in (Any, object), lambda value, _: value)
    converter.register_structure_hook_func(lambda t: t is None, _scalar_hook(None, _null))
    for predicate, factory in _FACTORIES:
        converter.register_structure_hook_factory(predicate)(factory)
    return converter
