"""Structure hooks: each is a function that turns a JSON value into a value of a given type.

cattrs finds the hook of a type, and calls it with the JSON value and the type. The modules beside
this one make the hooks: `scalars`, `containers`, `unions`, `classes`, `models` and `schema`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from cattrs import Converter

from arbprov.payload.validation import type_name

__all__ = [
    "HookFactory",
    "StructureHook",
    "UnsupportedTypeError",
    "find_hook",
    "is_union",
    "origin_class",
    "strip_annotation",
]

# From a JSON value and its type.
StructureHook = Callable[[Any, Any], Any]
# From a type and the converter that has the hooks of its parts.
HookFactory = Callable[[Any, Converter], StructureHook]


class UnsupportedTypeError(TypeError):
    """No JSON value can become this type; `reason` continues the message."""

    def __init__(self, target: Any, reason: str = "") -> None:
        super().__init__(f"no JSON value can become {type_name(target)}{reason}")


def find_hook(target: Any, converter: Converter) -> StructureHook:
    """Return the structure hook of a type.

    Raises:
        UnsupportedTypeError: No JSON value can become the type.
    """
    # `date | str` equals `str | date`, but the first member that fits wins. The cache goes by
    # equality, so it could return the other type's hook.
    hook: StructureHook = converter.get_structure_hook(target, cache_result=not _has_union(target))
    return hook


def _has_union(target: Any) -> bool:
    return is_union(target) or any(map(_has_union, typing.get_args(target)))


def is_union(target: Any) -> bool:
    """Tell whether `target` is a union, such as an optional type."""
    return origin_class(target) in (typing.Union, types.UnionType)


def origin_class(target: Any) -> Any:
    """Return the class of a generic type, e.g. ``list`` for ``list[int]``; else the type itself."""
    return typing.get_origin(target) or target


def strip_annotation(target: Any) -> Any:
    """Return the type inside ``Annotated`` and ``NewType``; else the type itself.

    >>> strip_annotation(typing.Annotated[str, "an id"])
    <class 'str'>
    """
    while True:
        if typing.get_origin(target) is typing.Annotated:
            target = typing.get_args(target)[0]
        elif hasattr(target, "__supertype__"):
            target = target.__supertype__
        else:
            return target
