"""Figures: samples of rounds, their medians and ratios, and whether a goal is reached. Pure."""

from __future__ import annotations

import math
import statistics
from typing import Literal

import attrs

__all__ = ["Goal", "Sample", "Series", "Spread", "Table", "Unit"]


@attrs.frozen
class Unit:
    """The unit of a figure.

    Args:
        name: As it is printed.
        digits: Behind the decimal point.
        inverted: Whether a ratio is baseline / own, so that it compares speeds though less is
            better.
    """

    name: str
    digits: int = 0
    inverted: bool = False


@attrs.frozen
class Sample:
    """The figures of one contestant in one round."""

    value: float
    # By name, which says the unit.
    extras: dict[str, float] = attrs.field(factory=dict)
    # The reason why the sample does not count; empty if it counts.
    problem: str = ""


@attrs.frozen
class Spread:
    """A median, with the lowest and the highest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


@attrs.frozen
class Series:
    """The samples of one contestant, one for each round."""

    contestant: str
    samples: list[Sample]

    @property
    def spread(self) -> Spread:
        """The spread of the values."""
        return Spread.of([sample.value for sample in self.samples])

    @property
    def extras(self) -> dict[str, float]:
        """The medians of the extra figures."""
        names = self.samples[0].extras
        return {name: statistics.median(s.extras[name] for s in self.samples) for name in names}

    def ratio(self, baseline: Series, unit: Unit) -> Spread:
        """Return the ratio of the medians, and the spread of the rounds' ratios.

        Rounds whose divisor is 0 do not count; without any other round, the ratio is NaN.
        """
        pairs = zip(self.samples, baseline.samples, strict=True)
        rounds = [_ratio(own.value, other.value, unit) for own, other in pairs]
        known = [ratio for ratio in rounds if not math.isnan(ratio)] or [math.nan]
        of_medians = _ratio(self.spread.median, baseline.spread.median, unit)
        return Spread(of_medians, min(known), max(known))


def _ratio(own: float, baseline: float, unit: Unit) -> float:
    above, below = (baseline, own) if unit.inverted else (own, baseline)
    return above / below if below else math.nan


@attrs.frozen
class Goal:
    """A bound for the figure of a contestant.

    Args:
        contestant: The contestant's name.
        sign: Whether the figure should be at least or at most the bound.
        bound: In the row's unit, or as a ratio.
        of: The ratio to the baseline, the value itself, or its difference to the baseline.
        extra: The name of an extra figure to compare; empty for the value.
    """

    contestant: str
    sign: Literal[">=", "<="]
    bound: float
    of: Literal["ratio", "value", "difference"] = "ratio"
    extra: str = ""

    def figure(self, table: Table) -> float:
        """Return the figure that is compared with the bound."""
        series = table.series_of(self.contestant)
        if self.extra:
            return series.extras[self.extra]
        if self.of == "ratio":
            return series.ratio(table.baseline, table.unit).median
        if self.of == "difference":
            return series.spread.median - table.baseline.spread.median
        return series.spread.median

    def is_reached(self, table: Table) -> bool:
        """Return whether the figure keeps to the bound."""
        figure = self.figure(table)
        return figure >= self.bound if self.sign == ">=" else figure <= self.bound

    def text(self, table: Table) -> str:
        """Return the goal in words."""
        start = f"{self.contestant}: {self.sign} {self.bound:,g}"
        if self.of == "ratio":
            return f"{start} of {table.baseline.contestant}"
        what = f" ({self.extra})" if self.extra else f" {table.unit.name}"
        return f"{start}{what}" + (" above it" if self.of == "difference" else "")


@attrs.frozen
class Table:
    """The figures of all rounds of a row; the first series is the baseline.

    Args:
        row: The row's name.
        title: What it measures.
        unit: Of all values.
        series: By contestant.
        goals: The row's goals.
        missing: The reason why the row was not measured; empty if it was.
    """

    row: str
    title: str
    unit: Unit
    series: list[Series] = attrs.field(factory=list)
    goals: tuple[Goal, ...] = ()
    missing: str = ""

    @property
    def baseline(self) -> Series:
        """The series that the others are compared with."""
        return self.series[0]

    def series_of(self, contestant: str) -> Series:
        """Return the series of a contestant."""
        return next(series for series in self.series if series.contestant == contestant)

    @property
    def problems(self) -> list[str]:
        """The reasons why the row is invalid; empty if it is valid."""
        return [
            f"{series.contestant}: {sample.problem}"
            for series in self.series
            for sample in series.samples
            if sample.problem
        ]
