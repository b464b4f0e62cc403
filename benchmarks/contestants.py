"""The contestants: the bare loop and providers, each in its own process."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from benchmarks.children import Child, run_process
from benchmarks.hubs import Hub, HubKind, Work, run_hub

__all__ = ["Contestant", "Stage", "arbprov", "bare", "environ", "on_stage"]

HERE = Path(__file__).parent
TOKEN = "sample-token"  # noqa: S105 - of a hub on loopback
_HUB = "{hub}"


@attrs.frozen
class Contestant:
    """How to start a contestant.

    Args:
        name: Its name in the table.
        arguments: The command line of its Python process.
        in_flight: How many tasks run at once.
        action: The action to call; empty for the row's action.
        warm_up: The least number of tasks before the measurement.
        core_only: Whether it can't import uvloop and orjson, even if they are installed.
    """

    name: str
    arguments: tuple[str, ...]
    in_flight: int
    action: str = ""
    warm_up: int = 0
    core_only: bool = True


def bare(in_flight: int, kind: str, *seconds: str) -> Contestant:
    """Return the bare loop."""
    arguments = (str(HERE / "bare_loop.py"), _HUB, str(in_flight), kind, *seconds)
    return Contestant("bare loop", arguments, in_flight)


def arbprov(provider: str, in_flight: int, name: str = "arbprov", **options: Any) -> Contestant:
    """Return a provider of `providers/`."""
    return Contestant(name, (str(HERE / f"providers/{provider}.py"),), in_flight, **options)


def environ(*, core_only: bool = True, **variables: str) -> dict[str, str]:
    """Return the environment without the variables that would configure a provider.

    PYTHONDONTWRITEBYTECODE goes too: an installed package is compiled before its first start.
    """
    others = ("ARBPROV_", "PROVIDER_", "HUB_GRPC_", "TASK_EXECUTION_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    if core_only:
        paths = [str(HERE / "core_only"), *filter(None, [kept.get("PYTHONPATH")])]
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept | variables


@attrs.frozen
class Stage:
    """A hub and the contestant that works for it."""

    hub: Hub
    contestant: Child

    def run(self, tasks: int) -> dict[str, Any]:
        """Have tasks done as fast as they are polled."""
        return self.hub.run(tasks, self.contestant.check)

    def run_paced(self, tasks: int, shortest: float, longest: float) -> dict[str, Any]:
        """Have tasks done, each some seconds after the last result."""
        return self.hub.run_paced(tasks, shortest, longest, self.contestant.check)

    def wrong(self) -> str:
        """End the work, and return the problems of its results; empty if there are none."""
        found = self.hub.release()["wrong"]
        return ", ".join(f"{count} results {what}" for what, count in found.items() if count)


@contextlib.contextmanager
def on_stage(
    kind: HubKind, contestant: Contestant, work: Work, *, hold: float, seed: int = 0
) -> Iterator[Stage]:
    """Have a contestant work for a hub of its own, until the context ends."""
    work = attrs.evolve(work, action=contestant.action or work.action)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        run_hub(kind, Path(name), work, hold, seed) as hub,
    ):
        command = [sys.executable, *(a.replace(_HUB, hub.address) for a in contestant.arguments)]
        variables = environ(
            core_only=contestant.core_only,
            HUB_GRPC_URL=hub.address,
            PROVIDER_AUTH_TOKEN=TOKEN,
            ARBPROV_CONCURRENCY=str(contestant.in_flight),
        )
        with run_process(command, variables, Path(name) / "contestant.log") as child:
            yield Stage(hub, child)
