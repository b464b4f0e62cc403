"""JSON arrays and objects to lists, tuples, sets and dicts of any kind."""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import functools
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from cattrs import Converter

from arbprov._utils import format_count
from arbprov.payload.scalars import IDENTITY_TYPES, is_enum, is_literal, literal_choices
from arbprov.payload.structuring import (
    HookFactory,
    StructureHook,
    UnsupportedTypeError,
    find_hook,
    is_union,
    origin_class,
    strip_annotation,
)
from arbprov.payload.validation import (
    Problems,
    ValidationFailure,
    expect_object,
    field_path,
    json_kind,
)

__all__ = ["is_array", "is_mapping", "make_array_hook", "make_mapping_hook"]


# Arrays.


def is_array(target: Any) -> bool:
    """Tell whether `target` is a container that a JSON array becomes."""
    return origin_class(target) in _ARRAY_FACTORIES


def make_array_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a list, a tuple, a set or a container like them."""
    return _ARRAY_FACTORIES[origin_class(target)](target, converter)


def _array_factory(build: Callable[[list[Any]], Any]) -> HookFactory:
    def factory(target: Any, converter: Converter) -> StructureHook:
        item_type = next(iter(typing.get_args(target)), Any)
        hook = find_hook(item_type, converter)
        identity = {item_type} if item_type in IDENTITY_TYPES else set()

        def structure(value: Any, _: Any) -> Any:
            if identity and type(value) is list and {*map(type, value)} <= identity:
                return build(value)
            items = _structure_items(_expect_array(value), hook, item_type)
            try:
                return items if build is list else build(items)
            except TypeError:
                raise ValidationFailure(
                    "expected items that a set can hold, got objects or arrays"
                ) from None

        return structure

    return factory


def _tuple_factory(target: Any, converter: Converter) -> StructureHook:
    bare = typing.get_origin(target) is None
    # Python 3.10 has the empty tuple's type as `tuple[()]` with an argument of its own.
    item_types = [Any, ...] if bare else [t for t in typing.get_args(target) if t != ()]
    if item_types[1:] == [Ellipsis]:
        return _array_factory(tuple)(types.GenericAlias(list, (item_types[0],)), converter)
    hooks = [find_hook(item_type, converter) for item_type in item_types]

    def structure_item(item: tuple[Any, StructureHook, Any], _: Any) -> Any:
        value, hook, item_type = item
        return hook(value, item_type)

    def structure(value: Any, _: Any) -> Any:
        if len(_expect_array(value)) != len(hooks):
            expected = format_count(len(hooks), "item")
            raise ValidationFailure(f"expected an array of {expected}, got {len(value)}")
        items = zip(value, hooks, item_types, strict=True)
        return tuple(_structure_items(items, structure_item, None))

    return structure


def _expect_array(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValidationFailure(f"expected an array, got {json_kind(value)}")
    return value


def _structure_items(items: Iterable[Any], hook: StructureHook, item_type: Any) -> list[Any]:
    structured: list[Any] = []
    problems: Problems | None = None
    for index, item in enumerate(items):
        try:
            structured.append(hook(item, item_type))
        except Exception as error:
            problems = problems or Problems()
            problems.add(error, f"[{index}]")
            if problems.is_full:
                break
    if problems is not None:
        problems.check()
    return structured


_ARRAY_FACTORIES: dict[Any, HookFactory] = {
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


# Mappings.

# How a mapping is built from its structured items.
_MAPPINGS: dict[Any, Callable[[dict[Any, Any]], Any]] = {
    dict: lambda items: items,
    collections.abc.Mapping: lambda items: items,
    collections.abc.MutableMapping: lambda items: items,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
    collections.defaultdict: lambda items: collections.defaultdict(None, items),
}
# Types whose JSON form is a string.
_KEY_TYPES = (str, uuid.UUID, Decimal, dt.date, dt.time)


def is_mapping(target: Any) -> bool:
    """Tell whether `target` is a mapping that any JSON object becomes."""
    return origin_class(target) in _MAPPINGS


def make_mapping_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a dict or a mapping like it.

    Raises:
        UnsupportedTypeError: The keys have a type that no JSON string can become.
    """
    cls = origin_class(target)
    arguments = typing.get_args(target) or (Any, Any)
    key_type, item_type = arguments[0], int if cls is collections.Counter else arguments[-1]
    item_class = origin_class(item_type)
    build = _MAPPINGS[cls]
    if cls is collections.defaultdict and isinstance(item_class, type) and not is_union(item_type):
        build = functools.partial(collections.defaultdict, item_class)
    if not _can_be_key(key_type):
        raise UnsupportedTypeError(target, ", since the keys of a JSON object are strings")
    key_hook = find_hook(key_type, converter)
    item_hook = find_hook(item_type, converter)

    def structure(value: Any, _: Any) -> Any:
        structured, problems = {}, Problems()
        for key, item in expect_object(value).items():
            try:
                structured[key_hook(key, key_type)] = item_hook(item, item_type)
            except Exception as error:
                problems.add(error, field_path(key))
                if problems.is_full:
                    break
        problems.check()
        return build(structured)

    return structure


def _can_be_key(target: Any) -> bool:
    target = strip_annotation(target)
    if target is Any:
        return True
    if is_union(target):
        return all(map(_can_be_key, typing.get_args(target)))
    if is_literal(target):
        return all(type(json_value) is str for json_value, _ in literal_choices(target))
    if is_enum(target):
        return all(type(member.value) is str for member in target)
    return isinstance(target, type) and issubclass(target, _KEY_TYPES)
