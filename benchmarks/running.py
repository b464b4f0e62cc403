"""Rounds: every contestant takes its turn in each, and the order alternates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from benchmarks.figures import Goal, Sample, Series, Table, Unit
from benchmarks.hubs import HubKind

__all__ = ["Options", "Row", "measured", "turns"]


@attrs.frozen
class Options:
    """How to measure.

    Args:
        hub: Which hub.
        rounds: How often.
        tasks: How many tasks, if not the row's own number.
        idle: Seconds to be idle, if not the row's own.
    """

    hub: HubKind
    rounds: int = 5
    tasks: int | None = None
    idle: float | None = None


# Measures one round: the samples by the contestants' names.
Measure = Callable[[Options, int], dict[str, Sample]]


@attrs.frozen
class Row:
    """One thing that is measured.

    Args:
        name: On the command line.
        title: What it is.
        unit: Of its values, by the hub that is used.
        contestants: Their names; the first is the baseline.
        measure: One round.
        goals: What it should come to.
        missing: Why it can't be measured here; empty if it can.
    """

    name: str
    title: str
    unit: Callable[[HubKind], Unit]
    contestants: tuple[str, ...]
    measure: Measure
    goals: tuple[Goal, ...] = ()
    missing: Callable[[], str] = lambda: ""


def turns(names: Sequence[str], number: int) -> list[str]:
    """Return in which order the contestants take their turns in a round."""
    return list(names if number % 2 == 0 else reversed(names))


def measured(row: Row, options: Options) -> Table:
    """Measure a row."""
    unit = row.unit(options.hub)
    if missing := row.missing():
        return Table(row.name, row.title, unit, missing=missing)
    rounds = [row.measure(options, number) for number in range(options.rounds)]
    series = [Series(name, [found[name] for found in rounds]) for name in row.contestants]
    return Table(row.name, row.title, unit, series, row.goals)
