"""JSON arrays and objects to containers of any kind."""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import enum
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from cattrs import Converter

from arbprov.errors import Problem
from arbprov.payload.choices import literal_choices
from arbprov.payload.common import Factory, Hook, UnfillableTypeError, hook_of, is_union, origin
from arbprov.payload.scalars import AS_THEY_ARE
from arbprov.payload.validation import ValidationFailure, expect_object, field_path, json_kind


def _expect_array(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValidationFailure(f"expected an array, got {json_kind(value)}")
    return value


def _array_factory(build: Callable[[list[Any]], Any]) -> Factory:
    def factory(target: Any, converter: Converter) -> Hook:
        element = next(iter(typing.get_args(target)), Any)
        hook = hook_of(element, converter)
        fitting = {element} if element in AS_THEY_ARE else set()

        def structure(value: Any, _: Any) -> Any:
            if fitting and type(value) is list and {*map(type, value)} <= fitting:
                return build(value)
            items = _each(_expect_array(value), hook, element)
            return items if build is list else _collect(build, items)

        return structure

    return factory


def _collect(build: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return build(items)
    except TypeError:
        raise ValidationFailure(
            "expected items that a set can hold, got objects or arrays"
        ) from None


def _each(items: Iterable[Any], hook: Hook, target: Any) -> list[Any]:
    structured: list[Any] = []
    problems: list[Problem] = []
    for index, item in enumerate(items):
        try:
            structured.append(hook(item, target))
        except Exception as error:
            problems += ValidationFailure.of(error).below(f"[{index}]")
    if problems:
        raise ValidationFailure(problems)
    return structured


def _tuple_factory(target: Any, converter: Converter) -> Hook:
    bare = typing.get_origin(target) is None
    # Python 3.10 has the empty tuple's type as `tuple[()]` with an argument of its own.
    targets = [Any, ...] if bare else [t for t in typing.get_args(target) if t != ()]
    if targets[1:] == [Ellipsis]:
        return _array_factory(tuple)(types.GenericAlias(list, (targets[0],)), converter)
    hooks = [hook_of(t, converter) for t in targets]

    def structure(value: Any, _: Any) -> Any:
        if len(_expect_array(value)) != len(hooks):
            raise ValidationFailure(f"expected an array of {len(hooks)} items, got {len(value)}")
        return tuple(_each(zip(value, hooks, targets, strict=True), _by_its_own, None))

    return structure


def _by_its_own(item: tuple[Any, Hook, Any], _: Any) -> Any:
    value, hook, target = item
    return hook(value, target)


def mapping_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of what is filled from an object, whatever its keys."""
    key_type, item_type = _arguments(target)
    if not _can_be_key(key_type):
        raise UnfillableTypeError(target, ", since the keys of a JSON object are strings")
    key_hook = hook_of(key_type, converter)
    item_hook = hook_of(item_type, converter)
    build = _OBJECTS[origin(target)]

    def structure(value: Any, _: Any) -> Any:
        structured, problems = {}, []
        for key, item in expect_object(value).items():
            try:
                structured[key_hook(key, key_type)] = item_hook(item, item_type)
            except Exception as error:
                problems += ValidationFailure.of(error).below(field_path(key))
        if problems:
            raise ValidationFailure(problems)
        return build(structured, item_type)

    return structure


def _arguments(target: Any) -> tuple[Any, Any]:
    arguments = typing.get_args(target) or (Any, Any)
    counts = origin(target) is collections.Counter
    return (arguments[0], int) if counts else (arguments[0], arguments[1])


def _can_be_key(target: Any) -> bool:
    if target is Any:
        return True
    if typing.get_origin(target) is typing.Literal:
        return all(type(written) is str for written, _ in literal_choices(target))
    if isinstance(target, type) and issubclass(target, enum.Enum):
        return all(type(member.value) is str for member in target)
    return isinstance(target, type) and issubclass(target, _KEY_TYPES)


def _default(kind: Any) -> Any:
    cls = origin(kind)
    return cls if isinstance(cls, type) and not is_union(kind) else None


_KEY_TYPES = (str, uuid.UUID, Decimal, dt.date, dt.time)
# From the items, and the type of an item.
_OBJECTS: dict[Any, Callable[[dict[Any, Any], Any], Any]] = {
    dict: lambda items, _: items,
    collections.abc.Mapping: lambda items, _: items,
    collections.abc.MutableMapping: lambda items, _: items,
    collections.OrderedDict: lambda items, _: collections.OrderedDict(items),
    collections.Counter: lambda items, _: collections.Counter(items),
    collections.defaultdict: lambda items, kind: collections.defaultdict(_default(kind), items),
}
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


def is_array(target: Any) -> bool:
    """Tell whether `target` is filled from an array."""
    return origin(target) in _ARRAYS


def array_factory(target: Any, converter: Converter) -> Hook:
    """Return the hook of what is filled from an array."""
    return _ARRAYS[origin(target)](target, converter)


def is_mapping(target: Any) -> bool:
    """Tell whether `target` is filled from an object, whatever its keys."""
    return origin(target) in _OBJECTS
