"""Rows of tasks per second."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import metadata
from importlib.util import find_spec
from typing import Any

from benchmarks.contestants import HERE, Contestant, arbprov, bare, environ, on_stage
from benchmarks.figures import Goal, Sample, Unit
from benchmarks.hubs import HubKind, Work
from benchmarks.running import Options, Row, turns

__all__ = ["ROWS"]

TASKS_PER_SECOND = Unit("tasks/s")
CPU_PER_TASK = Unit("µs of CPU per task", digits=1, inverted=True)
# Seconds that the hub holds a poll, so that no contestant sleeps when the tasks come.
_HOLD = 1.0

ORDER = json.dumps(
    {
        "customer": {
            "name": "Ada Sample",
            "email": "ada@example.com",
            "born": "1990-12-10",
            "addresses": [
                {"street": "Sample Road 1", "city": "Paris", "zip": "75001", "kind": "home"},
                {"street": "Sample Square 22", "city": "Madrid", "zip": "28001", "kind": "work"},
            ],
            "newsletter": True,
        },
        "items": [
            {
                "sku": f"sku-{number:05}",
                "title": f"An article of the catalogue, number {number}",
                "quantity": number,
                "price": 9.95 * number,
                "tags": ["sample", "in stock", "new"],
            }
            for number in range(1, 6)
        ],
        "region": "eu-west",
    }
)


def speed_unit(hub: HubKind) -> Unit:
    """Return the unit of speed: tasks per second with a slow hub would be the hub's own speed."""
    return TASKS_PER_SECOND if hub.is_fast else CPU_PER_TASK


def one_run(contestant: Contestant, work: Work, tasks: int, hub: HubKind, unit: Unit) -> Sample:
    """Measure one contestant once, after its warm-up."""
    with on_stage(hub, contestant, work, hold=_HOLD) as stage:
        stage.run(max(2 * contestant.in_flight, tasks // 10, contestant.warm_up))
        before = stage.contestant.cpu_seconds()
        report = stage.run(tasks)
        cpu = (stage.contestant.cpu_seconds() - before) / tasks * 1e6
        problem = stage.wrong()
    speed = tasks / report["seconds"]
    value = speed if unit is TASKS_PER_SECOND else cpu
    return Sample(value, {"tasks/s": speed, "µs of CPU per task": cpu}, problem)


def speed_row(
    name: str,
    title: str,
    contestants: Iterable[Contestant],
    work: Work,
    tasks: int,
    unit: Callable[[HubKind], Unit] = speed_unit,
    **options: Any,
) -> Row:
    """Return a row that measures contestants one after the other."""
    known = {contestant.name: contestant for contestant in contestants}

    def measure(options: Options, number: int) -> dict[str, Sample]:
        count, hub = options.tasks or tasks, options.hub
        return {
            name: one_run(known[name], work, count, hub, unit(hub))
            for name in turns(list(known), number)
        }

    return Row(name, title, unit, tuple(known), measure, **options)


def no_fast_extra() -> str:
    """Return the reason why uvloop and orjson can't be measured; empty if they can."""
    if "fast" not in (metadata("arbprov").get_all("Provides-Extra") or []):
        return "this arbprov has no extra [fast]"
    absent = [name for name in ("uvloop", "orjson") if find_spec(name) is None]
    return f'{" and ".join(absent)} missing: pip install "arbprov[fast]"' if absent else ""


def no_workers() -> str:
    """Return the reason why several workers can't be measured; empty if they can."""
    command = [sys.executable, "-m", "arbprov", "run", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=environ()).stdout
    return "" if "--workers" in text else "this arbprov has no `arbprov run --workers`"


def workers(count: int) -> Contestant:
    """Return the provider of CPU-bound work with so many processes."""
    provider = str(HERE / "providers/plain.py")
    arguments = ("-m", "arbprov", "run", provider, "--workers", str(count))
    # So that the last process has started before the measurement.
    return Contestant(f"arbprov, --workers {count}", arguments, in_flight=8, warm_up=100)


ROWS = [
    speed_row(
        "echo-async",
        "echo, async def, 64 in flight, core dependencies only",
        [bare(64, "echo"), arbprov("asynchronous", 64)],
        Work("echo"),
        20_000,
        goals=(Goal("arbprov", ">=", 0.85),),
    ),
    speed_row(
        "echo-fast",
        "the same with [fast], beside the bare loop of the standard library",
        [bare(64, "echo"), arbprov("asynchronous", 64, "arbprov[fast]", core_only=False)],
        Work("echo"),
        20_000,
        goals=(Goal("arbprov[fast]", ">=", 1.0),),
        missing=no_fast_extra,
    ),
    speed_row(
        "echo-def",
        "echo, def on threads, 64 in flight, beside run_in_executor",
        [bare(64, "threads", "0"), arbprov("plain", 64)],
        Work("echo"),
        20_000,
        goals=(Goal("arbprov", ">=", 0.85),),
    ),
    speed_row(
        "typed",
        f"typed nested payload of {len(ORDER):,} bytes, 64 in flight, without and with 2 limits",
        [
            bare(64, "echo"),
            arbprov("typed", 64, "arbprov, typed", action="order"),
            arbprov("typed", 64, "arbprov, typed, 2 limits", action="limited"),
        ],
        Work("order", ORDER),
        20_000,
        goals=(Goal("arbprov, typed, 2 limits", ">=", 0.75),),
    ),
    speed_row(
        "blocking",
        "20 ms blocking handler, 64 in flight",
        [bare(64, "threads", "0.02"), arbprov("plain", 64)],
        Work("block"),
        6_400,
        goals=(Goal("arbprov", ">=", 0.95),),
    ),
    speed_row(
        "waiting",
        "20 ms async handler, 1,000 in flight",
        [bare(1000, "sleep", "0.02"), arbprov("asynchronous", 1000)],
        Work("wait"),
        20_000,
        goals=(Goal("arbprov", ">=", 0.9),),
    ),
    speed_row(
        "workers",
        "two worker processes beside one, 20 ms CPU-bound handler",
        [workers(1), workers(2), bare(8, "burn", "0.02")],
        Work("burn"),
        200,
        # So few tasks that every hub keeps up.
        unit=lambda hub: TASKS_PER_SECOND,
        goals=(Goal("arbprov, --workers 2", ">=", 1.8),),
        missing=no_workers,
    ),
]
