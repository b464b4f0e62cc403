"""Small charts of how often something happened, as SVG without styles."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

__all__ = ["Sparkline", "make_sparkline"]

_WIDTH = 120.0
_HEIGHT = 24.0


@attrs.frozen
class Sparkline:
    """A chart.

    Attributes:
        line: The points of its line.
        area: The points of the area below it.
        total: How often it happened.
        peak: How often it happened in the part of the window with most.
        part: The seconds of such a part.
    """

    line: str
    area: str
    total: int
    peak: int
    part: float


def make_sparkline(times: Iterable[float], window: float, parts: int) -> Sparkline:
    """Return a chart of when something happened.

    Args:
        times: When, in seconds since the window began.
        window: The window's seconds.
        parts: How many parts it is counted in.

    >>> make_sparkline([0.5, 1.5, 1.6], 2.0, 2)
    Sparkline(line='0,13 120,2', area='0,24 0,13 120,2 120,24', total=3, peak=2, part=1.0)
    """
    counts = [0] * parts
    for when in times:
        counts[min(max(int(when * parts / window), 0), parts - 1)] += 1
    peak = max(counts)
    step = _WIDTH / (parts - 1)
    height = _HEIGHT - 2
    points = [
        f"{step * place:g},{_HEIGHT - height * count / max(peak, 1):g}"
        for place, count in enumerate(counts)
    ]
    line = " ".join(points)
    return Sparkline(
        line=line,
        area=f"0,{_HEIGHT:g} {line} {_WIDTH:g},{_HEIGHT:g}",
        total=sum(counts),
        peak=peak,
        part=window / parts,
    )
