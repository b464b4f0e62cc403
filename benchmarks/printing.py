"""Tables as text and as JSON. Pure."""

from __future__ import annotations

from math import isnan
from typing import Any

import attrs

from benchmarks.figures import Goal, Series, Spread, Table

__all__ = ["as_json", "as_text"]


def as_text(table: Table) -> str:
    """Return a table as text."""
    head = f"{table.row}: {table.title}"
    if table.missing:
        return f"{head}\n  not measured: {table.missing}"
    names = f"  {'':<26}{table.unit.name:>20}  {'from … to':<22}{'ratio':>6}  from … to"
    lines = [head, names, *(_line(table, series) for series in table.series)]
    lines += [f"  INVALID: {problem}" for problem in table.problems]
    lines += [f"  goal: {_goal(table, goal)}" for goal in table.goals]
    return "\n".join(lines)


def _line(table: Table, series: Series) -> str:
    digits = table.unit.digits
    line = f"  {series.contestant:<26}{series.spread.median:>20,.{digits}f}  "
    line += f"{_range(series.spread, digits):<22}"
    if series is not table.baseline:
        line += _ratio_text(series.ratio(table.baseline, table.unit))
    extras = ", ".join(f"{value:,.4g} {name}" for name, value in series.extras.items())
    return line.rstrip() + (f"\n      {extras}" if extras else "")


def _ratio_text(ratio: Spread) -> str:
    return f"{'-':>6}" if isnan(ratio.median) else f"{ratio.median:>6.2f}  {_range(ratio, 2)}"


def _range(spread: Spread, digits: int) -> str:
    return f"{spread.low:,.{digits}f} … {spread.high:,.{digits}f}"


def _goal(table: Table, goal: Goal) -> str:
    verdict = "reached" if goal.is_reached(table) else "NOT reached"
    if table.problems:
        verdict = "not judged, since the row is invalid"
    return f"{goal.text(table)}: {verdict} ({goal.figure(table):,.4g})"


def as_json(tables: list[Table], machine: dict[str, Any]) -> dict[str, Any]:
    """Return tables as JSON."""
    return {"machine": machine, "rows": [_row(table) for table in tables]}


def _row(table: Table) -> dict[str, Any]:
    return {
        "row": table.row,
        "title": table.title,
        "unit": table.unit.name,
        "missing": table.missing,
        "problems": table.problems,
        "contestants": [_contestant(table, series) for series in table.series],
        "goals": [
            {
                "goal": goal.text(table),
                "figure": goal.figure(table),
                "reached": goal.is_reached(table) and not table.problems,
            }
            for goal in table.goals
        ],
    }


def _contestant(table: Table, series: Series) -> dict[str, Any]:
    return {
        "contestant": series.contestant,
        **attrs.asdict(series.spread),
        "values": [sample.value for sample in series.samples],
        "ratio": _ratio(series.ratio(table.baseline, table.unit)),
        "extras": series.extras,
    }


def _ratio(ratio: Spread) -> dict[str, float | None]:
    # JSON has no NaN.
    return {name: None if isnan(value) else value for name, value in attrs.asdict(ratio).items()}
