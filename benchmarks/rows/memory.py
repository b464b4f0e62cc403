"""Rows of the memory that a provider holds."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contestants import Stage, arbprov, bare, on_stage
from benchmarks.figures import Goal, Sample, Unit
from benchmarks.hubs import Work
from benchmarks.running import Options, Row, turns

__all__ = ["ROWS"]

MEBIBYTES = Unit("MiB", digits=1)
CONTESTANTS = {one.name: one for one in (bare(32, "echo"), arbprov("asynchronous", 32))}
_MEGABYTE = 1e6 / 2**20


def memory_row(name: str, title: str, watch: Callable[[Stage, Options], Sample], goal: Goal) -> Row:
    """Return a row of the sample that `watch` takes of each contestant."""

    def one(contestant: str, options: Options) -> Sample:
        with on_stage(options.hub, CONTESTANTS[contestant], Work("echo"), hold=1.0) as stage:
            sample = watch(stage, options)
            return Sample(sample.value, sample.extras, stage.wrong())

    def measure(options: Options, number: int) -> dict[str, Sample]:
        return {name: one(name, options) for name in turns(list(CONTESTANTS), number)}

    return Row(name, title, lambda hub: MEBIBYTES, tuple(CONTESTANTS), measure, (goal,))


def after_start(stage: Stage, options: Options) -> Sample:
    """Measure after the first task, when everything that a task needs is loaded."""
    stage.run(1)
    return Sample(stage.contestant.resident_mib())


def growth(stage: Stage, options: Options) -> Sample:
    """Measure the growth since the first task, and since the first tenth of the tasks."""
    tasks = options.tasks or 200_000
    stage.run(1)
    start = stage.contestant.resident_mib()
    stage.run(tasks // 10)
    tenth = stage.contestant.resident_mib()
    stage.run(tasks - tasks // 10)
    end = stage.contestant.resident_mib()
    return Sample(end - start, {"MiB at the end": end, "MiB after the first tenth": end - tenth})


ROWS = [
    memory_row(
        "rss-start",
        "resident memory after the start and one task",
        after_start,
        Goal("arbprov", "<=", round(15 * _MEGABYTE, 2), of="difference"),
    ),
    memory_row(
        "rss-growth",
        "growth of the resident memory over 200,000 tasks",
        growth,
        Goal("arbprov", "<=", round(2 * _MEGABYTE, 2), of="value"),
    ),
]
