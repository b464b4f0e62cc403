"""Tasks from a file: sent through a hub, and printed as their results arrive."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbprov._utils import escape_line
from arbprov.cli.options import parse_sendable_object
from arbprov.cli.output import echo, echo_json, summarize
from arbprov.errors import ProviderError
from arbprov.payload.validation import ValidationFailure

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub, Submission

__all__ = ["Arguments", "run_tasks", "tasks_option"]

# The keyword arguments of `LocalHub.put`.
Arguments = dict[str, Any]

_FIELDS = {"action", "payload", "account", "id"}
_CHECK_INTERVAL = 0.2


def _read_tasks(
    ctx: click.Context, param: click.Parameter, path: Path | None
) -> list[Arguments] | None:
    if path is None:
        return None
    tasks = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            if line.strip():
                tasks.append(_parse_task(line))
        except ValidationFailure as failure:
            message = f"{path}, line {number}: {failure.problems[0]}"
            raise click.BadParameter(message, ctx, param) from None
    return tasks


def _parse_task(line: bytes) -> Arguments:
    task = parse_sendable_object(line)
    if not isinstance(task.get("action"), str):
        raise ValidationFailure('a task needs its action, as in {"action": "greet", "payload": {}}')
    if unknown := sorted(set(task) - _FIELDS):
        raise ValidationFailure(
            f"a task has no field {unknown[0]!r}; its fields are {', '.join(sorted(_FIELDS))}"
        )
    return task


tasks_option = click.option(
    "--tasks",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_tasks,
    help="Run the tasks in this file, one JSON object per line, print the results and end.",
)


def run_tasks(
    hub: LocalHub, tasks: list[Arguments], *, as_json: bool, end_reason: Callable[[], str]
) -> None:
    """Put tasks into a hub and print each result when it arrives.

    Args:
        hub: A hub that a provider works for.
        tasks: The tasks.
        as_json: Whether to print envelopes, not a summary of each.
        end_reason: Returns why the provider has ended, or an empty string while it runs.

    Raises:
        ProviderError: The provider has ended before all results arrived.
    """
    pending = {hub.put(**task).future for task in tasks}
    while pending:
        # First: the last results arrive just before the provider ends.
        reason = end_reason()
        done, pending = futures.wait(pending, _CHECK_INTERVAL, futures.FIRST_COMPLETED)
        for result in [future.result() for future in done]:
            if as_json:
                echo_json(result.result)
            else:
                echo(_format_line(result))
        if pending and not done and reason:
            raise ProviderError(f"{reason}, and {len(pending)} tasks have no result")


def _format_line(result: Submission) -> str:
    columns = (
        f"{escape_line(result.id):10}",
        f"{escape_line(result.action):16}",
        f"{result.status:8}",
        summarize(result.status, result.message, result.data),
    )
    return "  ".join(columns)
