"""Bars that show when each attempt of a task ran, as SVG without styles."""

from __future__ import annotations

import attrs

__all__ = ["BAR_WIDTH", "Bar", "make_bar"]

#: The width of the whole time.
BAR_WIDTH = 120.0
# A bar that is narrower cannot be seen.
_MIN_WIDTH = 2.0


@attrs.frozen
class Bar:
    """A bar.

    Attributes:
        x: Where it begins.
        width: Its width.
    """

    x: float
    width: float


def make_bar(begin: float, end: float, whole: tuple[float, float]) -> Bar:
    """Return the bar of a part of a time.

    Args:
        begin: When the part began, in seconds.
        end: When it ended.
        whole: When the whole time began and ended.

    >>> make_bar(15.0, 20.0, (10.0, 20.0))
    Bar(x=60.0, width=60.0)
    >>> make_bar(20.0, 20.0, (10.0, 20.0))
    Bar(x=118.0, width=2.0)
    """
    first, last = whole
    scale = BAR_WIDTH / max(last - first, 0.001)
    left = min(max((begin - first) * scale, 0.0), BAR_WIDTH - _MIN_WIDTH)
    right = min(max((end - first) * scale, left + _MIN_WIDTH), BAR_WIDTH)
    return Bar(round(left, 1), round(right - left, 1))
