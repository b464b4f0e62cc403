"""What the parts of the converter have in common."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from cattrs import Converter

from arbprov.payload.validation import type_name

Hook = Callable[[Any, Any], Any]
Factory = Callable[[Any, Converter], Hook]


class UnfillableTypeError(TypeError):
    """No JSON value could become this type."""

    def __init__(self, target: Any, reason: str = "") -> None:
        super().__init__(f"no JSON value can become {type_name(target)}{reason}")


def origin(target: Any) -> Any:
    """Return the class that a type is, or is a generic form of."""
    return typing.get_origin(target) or target


def is_union(target: Any) -> bool:
    """Tell whether `target` is a union, an optional type included."""
    return origin(target) in (typing.Union, types.UnionType)


def hook_of(target: Any, converter: Converter) -> Hook:
    """Return the hook of a type.

    For one with a union in it, none that is known already: ``date | str`` equals ``str | date``,
    and is another type.
    """
    hook: Hook = converter.get_structure_hook(target, cache_result=not _has_union(target))
    return hook


def _has_union(target: Any) -> bool:
    return is_union(target) or any(map(_has_union, typing.get_args(target)))
