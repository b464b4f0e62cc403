"""What the parts of the converter have in common."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from cattrs import Converter

from arbprov.problems import type_name

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
