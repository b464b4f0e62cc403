"""Telling numbers that can be a quantity from all that Python takes for a number."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["is_count", "is_quantity", "written"]


def is_quantity(value: Any) -> bool:
    """Tell whether `value` is a number above 0 that a double can hold; True is none."""
    return type(value) in (int, float) and 0 < value <= sys.float_info.max


def is_count(value: Any) -> bool:
    """Tell whether `value` is a whole number above 0; True is none."""
    return type(value) is int and value > 0


def written(number: float) -> str:
    """Return a number in full, without the ``.0`` of a whole one."""
    return str(int(number) if number == int(number) else number)
