"""Rounds: each measures every contestant, and the order alternates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from benchmarks.figures import Goal, Sample, Series, Table, Unit
from benchmarks.hubs import HubKind

__all__ = ["Options", "Row", "measure_row", "turns"]


@attrs.frozen
class Options:
    """The options of a run.

    Args:
        hub: The kind of hub.
        rounds: The number of rounds.
        tasks: The number of tasks; None for the row's own.
        idle: Seconds of idleness; None for the row's own.
    """

    hub: HubKind
    rounds: int = 5
    tasks: int | None = None
    idle: float | None = None


# Measures one round: the samples by the contestants' names.
Measure = Callable[[Options, int], dict[str, Sample]]


@attrs.frozen
class Row:
    """A row of the benchmarks.

    Args:
        name: Its name on the command line.
        title: What it measures.
        unit: Returns the unit of its values with a hub.
        contestants: The contestants' names; the first is the baseline.
        measure: Measures one round.
        goals: Its goals.
        missing: Returns the reason why it can't be measured here; empty if it can.
    """

    name: str
    title: str
    unit: Callable[[HubKind], Unit]
    contestants: tuple[str, ...]
    measure: Measure
    goals: tuple[Goal, ...] = ()
    missing: Callable[[], str] = lambda: ""


def turns(names: Sequence[str], number: int) -> list[str]:
    """Return the order of the contestants in a round."""
    return list(names if number % 2 == 0 else reversed(names))


def measure_row(row: Row, options: Options) -> Table:
    """Measure a row."""
    unit = row.unit(options.hub)
    if missing := row.missing():
        return Table(row.name, row.title, unit, missing=missing)
    rounds = [row.measure(options, number) for number in range(options.rounds)]
    series = [Series(name, [found[name] for found in rounds]) for name in row.contestants]
    return Table(row.name, row.title, unit, series, row.goals)
