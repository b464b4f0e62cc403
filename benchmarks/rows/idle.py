"""Rows of idle providers: how soon they pick up a task, and the processor time that waiting takes.

They use little processor time, so all contestants of a round run side by side, each with its own
hub.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from benchmarks.contestants import Contestant, Stage, arbprov, bare, on_stage
from benchmarks.figures import Goal, Sample, Unit
from benchmarks.hubs import Work
from benchmarks.running import Options, Row, turns

__all__ = ["ROWS"]

MILLISECONDS = Unit("ms, p50", digits=2)
PERCENT = Unit("% of a core", digits=2)
_LONG_POLL = 20.0
_AT_ONCE = 0.0
# After the last task, a provider asks more often for some time.
_SETTLING = 6.0
# One poll at a time is the fastest way for the bare loop.
CONTESTANTS = {one.name: one for one in (bare(1, "echo"), arbprov("asynchronous", 32))}


@attrs.frozen
class Pace:
    """When tasks come.

    Args:
        hold: Seconds that the hub holds a poll.
        tasks: How many in a round, for each provider.
        shortest: Seconds from the last result to the next task, at least.
        longest: The same, at most.
        copies: Providers of each contestant at once.
    """

    hold: float
    tasks: int
    shortest: float
    longest: float
    copies: int = 1


def side_by_side(
    options: Options, hold: float, number: int, copies: int, watch: Callable[[Stage], Any]
) -> dict[str, tuple[list[Any], str]]:
    """Return the outcomes of `watch` for each contestant's copies, and the problems of results."""
    names = turns(list(CONTESTANTS) * copies, number)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(names)) as pool:

        def begin(seed: int, contestant: Contestant) -> Stage:
            work = Work("echo")
            return stack.enter_context(
                on_stage(options.hub, contestant, work, hold=hold, seed=100 * number + seed)
            )

        stages = [begin(seed, CONTESTANTS[name]) for seed, name in enumerate(names)]
        for stage in stages:
            stage.run(20)
        seen = list(pool.map(watch, stages))
        wrong = [stage.wrong() for stage in stages]
    return {
        name: (
            [one for one, owner in zip(seen, names, strict=True) if owner == name],
            "; ".join(w for w, owner in zip(wrong, names, strict=True) if owner == name and w),
        )
        for name in CONTESTANTS
    }


def pickup_row(name: str, title: str, pace: Pace, goal: Goal) -> Row:
    """Return a row of the time from when a task is put to when a provider has it."""

    def measure(options: Options, number: int) -> dict[str, Sample]:
        scale = 1.0 if options.idle is None else options.idle / pace.shortest
        shortest, longest = pace.shortest * scale, pace.longest * scale
        tasks = options.tasks or pace.tasks
        watch = lambda stage: stage.run_paced(tasks, shortest, longest)  # noqa: E731
        found = side_by_side(options, pace.hold, number, pace.copies, watch)
        return {one: _pickups(reports, wrong) for one, (reports, wrong) in found.items()}

    return Row(name, title, lambda hub: MILLISECONDS, tuple(CONTESTANTS), measure, (goal,))


def _pickups(reports: list[dict[str, Any]], wrong: str) -> Sample:
    pickups = [1000 * seconds for report in reports for seconds in report["pickups"]]
    trips = [1000 * seconds for report in reports for seconds in report["round_trips"]]
    extras = {
        "ms, p90": _percentile(pickups, 90),
        "ms, longest": max(pickups),
        "ms to the result, p50": statistics.median(trips),
    }
    return Sample(statistics.median(pickups), extras, wrong)


def _percentile(values: list[float], percent: int) -> float:
    """Return the value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def cpu_row(name: str, title: str, hold: float) -> Row:
    """Return a row of the processor time of idle providers."""

    def measure(options: Options, number: int) -> dict[str, Sample]:
        seconds = 20.0 if options.idle is None else options.idle
        found = side_by_side(options, hold, number, 1, lambda stage: _idle_cpu(stage, seconds))
        return {one: Sample(seen[0], problem=wrong) for one, (seen, wrong) in found.items()}

    goal = Goal("arbprov", "<=", 1.0, of="value")
    return Row(name, title, lambda hub: PERCENT, tuple(CONTESTANTS), measure, (goal,))


def _idle_cpu(stage: Stage, seconds: float) -> float:
    time.sleep(min(_SETTLING, seconds))
    before, began = stage.contestant.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    spent = stage.contestant.cpu_seconds() - before
    return 100 * spent / (time.monotonic() - began)


ROWS = [
    pickup_row(
        "pickup-minute",
        "pick-up after a minute idle, hub answers at once",
        Pace(_AT_ONCE, tasks=1, shortest=60, longest=62, copies=4),
        Goal("arbprov", "<=", 600, of="value"),
    ),
    pickup_row(
        "pickup-busy",
        "pick-up 0.5 s to 5 s after the last task, hub answers at once",
        Pace(_AT_ONCE, tasks=10, shortest=0.5, longest=5),
        Goal("arbprov", "<=", 30, of="value"),
    ),
    pickup_row(
        "pickup-long-poll",
        "pick-up 0.5 s to 5 s after the last task, long poll",
        Pace(_LONG_POLL, tasks=10, shortest=0.5, longest=5),
        # Until the result is back: handing out the task is more the hub's work than the provider's.
        Goal("arbprov", "<=", 3, of="value", extra="ms to the result, p50"),
    ),
    cpu_row("idle-long-poll", "CPU while idle, long poll", _LONG_POLL),
    cpu_row("idle-at-once", "CPU while idle, hub answers at once", _AT_ONCE),
]
