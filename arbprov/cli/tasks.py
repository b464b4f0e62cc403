"""Tasks from a file: put into a hub, and printed as their results come back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbprov._utils import escape_line
from arbprov.cli.options import sendable_object, summary
from arbprov.errors import ProviderError
from arbprov.payload.validation import ValidationFailure

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub, Submission

__all__ = ["Arguments", "run_tasks", "tasks_option"]

# Of `LocalHub.put`.
Arguments = dict[str, Any]

_FIELDS = {"action", "payload", "account", "id"}
_LOOK_EVERY = 0.2


def _read(ctx: click.Context, param: click.Parameter, path: Path | None) -> list[Arguments] | None:
    if path is None:
        return None
    tasks = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            tasks += [_task(line)] if line.strip() else []
        except ValidationFailure as failure:
            message = f"{path}, line {number}: {failure.problems[0]}"
            raise click.BadParameter(message, ctx, param) from None
    return tasks


tasks_option = click.option(
    "--tasks",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read,
    help="Run the tasks of this file, one JSON object a line, print the results, and end.",
)


def run_tasks(
    hub: LocalHub, tasks: list[Arguments], machine: bool, abandoned: Callable[[], str]
) -> None:
    """Put tasks into a hub and print each result when it comes.

    Args:
        hub: A hub that a provider works for.
        tasks: Arguments of `LocalHub.put`.
        machine: Whether to print envelopes, rather than a line to read.
        abandoned: Says why there is nobody any more to wait for; nothing if there is somebody.

    Raises:
        ProviderError: There is nobody any more, and some tasks have no result.
    """
    pending = {hub.put(**task).future for task in tasks}
    while pending:
        # Before the look at what is done: the last results come just before the end.
        why = abandoned()
        done, pending = futures.wait(pending, _LOOK_EVERY, futures.FIRST_COMPLETED)
        for future in done:
            click.echo(future.result().result if machine else _line(future.result()))
        if pending and not done and why:
            raise ProviderError(f"{why}, and {len(pending)} tasks have no result")


def _line(result: Submission) -> str:
    end = summary(result.status, result.message, result.data)
    return f"{escape_line(result.id):10}  {escape_line(result.action):16}  {result.status:8}  {end}"


def _task(line: bytes) -> Arguments:
    task = sendable_object(line)
    if not isinstance(task.get("action"), str):
        raise ValidationFailure('a task needs its action, as in {"action": "greet", "payload": {}}')
    if unknown := sorted(set(task) - _FIELDS):
        raise ValidationFailure(
            f"a task has no {unknown[0]!r}; it may have {', '.join(sorted(_FIELDS))}"
        )
    return task
