"""Rows without a hub: importing, the command's help, the test client."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable

from benchmarks.contestants import HERE, environ
from benchmarks.figures import Goal, Sample, Unit
from benchmarks.running import Options, Row, turns

__all__ = ["ROWS"]

MILLISECONDS = Unit("ms", digits=1)
CALLS_PER_SECOND = Unit("calls/s")
_STARTS = 5

TIMED = """
import sys, time
began = time.perf_counter()
{statement}
print(1000 * (time.perf_counter() - began), "grpc" in sys.modules)
"""
APP = """
from arbprov import ProviderApp
app = ProviderApp("started")
@app.action
def echo(value: int, note: str = "") -> dict:
    return {"value": value}
"""
CALL = 'assert app.test_client().call("echo", {"value": 1}).data == {"value": 1}'
WHOLE = """
import subprocess, sys, time
began = time.perf_counter()
subprocess.run([sys.executable, *{arguments!r}], check=True, stdout=subprocess.DEVNULL)
print(1000 * (time.perf_counter() - began), False)
"""

Take = Callable[[Options], Sample]


def row(name: str, title: str, unit: Unit, contestants: dict[str, Take], *goals: Goal) -> Row:
    """Return a row whose contestants are measured one after the other."""

    def measure(options: Options, number: int) -> dict[str, Sample]:
        return {one: contestants[one](options) for one in turns(list(contestants), number)}

    return Row(name, title, lambda hub: unit, tuple(contestants), measure, goals)


def milliseconds(code: str) -> Take:
    """Return a function that measures code; it prints milliseconds and whether it loaded gRPC."""

    def take(options: Options) -> Sample:
        found = [output([sys.executable, "-c", code]).split() for _ in range(_STARTS)]
        problem = "it has imported grpc" if found[0][1] == "True" else ""
        return Sample(statistics.median(float(one[0]) for one in found), problem=problem)

    return take


def calls(which: str) -> Take:
    """Return a function that measures the calls per second of `calls.py`."""

    def take(options: Options) -> Sample:
        count = str(options.tasks or 20_000)
        return Sample(float(output([sys.executable, str(HERE / "calls.py"), which, count])))

    return take


def output(command: list[str]) -> str:
    """Return the output of a command."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ())
    return done.stdout


ROWS = [
    row(
        "import",
        "import arbprov, without gRPC",
        MILLISECONDS,
        {
            "import attrs, cattrs": milliseconds(TIMED.format(statement="import attrs, cattrs")),
            "import arbprov": milliseconds(TIMED.format(statement="import arbprov")),
            # What an import may put off is needed here.
            "an app with an action": milliseconds(TIMED.format(statement=APP)),
            "and a call of it in a test": milliseconds(TIMED.format(statement=APP + CALL)),
        },
        Goal("import arbprov", "<=", 1.15),
    ),
    row(
        "test-client",
        "app.test_client(), echo, beside JSON both ways and nothing else",
        CALLS_PER_SECOND,
        {"bare calls": calls("bare"), "test client": calls("client")},
        Goal("test client", ">=", 20_000, of="value"),
    ),
    row(
        "help",
        "arbprov --help, beside Python that imports click",
        MILLISECONDS,
        {
            "import click": milliseconds(WHOLE.format(arguments=["-c", "import click"])),
            "arbprov --help": milliseconds(WHOLE.format(arguments=["-m", "arbprov", "--help"])),
        },
    ),
]
