"""Tasks from a file: sent through a hub, and printed as their results arrive."""

from __future__ import annotations

import codecs
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
import click

from arbprov._utils import escape_line, format_count
from arbprov.cli.options import CommandT, parse_sendable_object
from arbprov.cli.output import (
    FAILED_STATUSES,
    echo,
    echo_json,
    find_problems,
    format_seconds,
    suggest_action,
    summarize,
)
from arbprov.cli.terminal import Terminal
from arbprov.errors import ProviderError
from arbprov.payload.validation import ValidationFailure, json_kind
from arbprov.task import Status

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub, Submission

__all__ = ["Arguments", "Results", "run_tasks", "tasks_option"]

# The keyword arguments of `LocalHub.put`.
Arguments = dict[str, Any]

# The parameters of `arbprov.localhub.submitting.make_task` that a person may need.
_FIELDS = {
    *("action", "payload", "account", "id", "provider", "priority", "idempotency_key"),
    *("account_key", "not_before", "ttl", "max_deliveries"),
}
_CHECK_INTERVAL = 0.2
_STATUSES = [status.value for status in Status]
# Below a result whose line is cut: columns before its text, its problems, and lines of each.
_INDENT = 12
_MAX_PROBLEMS = 10
_MAX_LINES = 3


def _read_tasks(
    ctx: click.Context, param: click.Parameter, path: str | None
) -> list[Arguments] | None:
    if path is None:
        return None
    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    source = "stdin" if path == "-" else path
    tasks: list[Arguments] = []
    ids: set[str] = set()
    # Some editors begin a UTF-8 file with a byte order mark.
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            tasks.append(_parse_task(line, ids))
        except ValidationFailure as failure:
            message = f"{source}, line {number}: {failure.problems[0]}; write each task on a line"
            message += ', as in {"action": "greet", "payload": {}}'
            raise click.BadParameter(message, ctx, param) from None
    return tasks


def _parse_task(line: bytes, ids: set[str]) -> Arguments:
    """Return the task on a line, and add its id to the ids of the file.

    Raises:
        ValidationFailure: The line is not a task.
    """
    from arbprov.localhub.submitting import make_task

    task = parse_sendable_object(line)
    if not isinstance(task.get("action"), str):
        raise ValidationFailure("a task needs its action")
    if unknown := sorted(set(task) - _FIELDS):
        raise ValidationFailure(
            f"a task has no field {unknown[0]!r}; its fields are {', '.join(sorted(_FIELDS))}"
        )
    task_id = task.get("id")
    if task_id is not None:
        if not isinstance(task_id, str) or not task_id or task_id in ids:
            raise ValidationFailure("id: expected a text that no other task has")
        ids.add(task_id)
    for name in ("payload", "account"):
        if not isinstance(value := task.get(name), dict | None):
            raise ValidationFailure(f"{name}: expected an object, got {json_kind(value)}")
    try:
        make_task(**task)
    except (TypeError, ValueError) as error:
        raise ValidationFailure(str(error)) from None
    return task


def tasks_option(name: str, help: str) -> Callable[[CommandT], CommandT]:
    """Return an option for a file with tasks, or ``-`` for stdin; its value is the tasks."""
    return click.option(
        name,
        "tasks",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        callback=_read_tasks,
        help=help,
    )


@attrs.define
class Results:
    """Prints each task's result, and counts them.

    Args:
        tasks: The number of all tasks.
        as_json: Whether to print envelopes, not a line for each result.

    Attributes:
        has_failures: Whether a task has ended with an error, or over a limit.
    """

    tasks: int
    as_json: bool
    has_failures: bool = attrs.field(default=False, init=False)
    _counts: Counter[str] = attrs.field(factory=Counter, init=False)
    _started_at: float = attrs.field(factory=time.monotonic, init=False)

    def add(self, result: Submission) -> None:
        """Print a result as a line on stdout, and what does not fit into the line on stderr."""
        status = result.status
        self._counts[status] += 1
        self.has_failures |= status in FAILED_STATUSES
        if self.as_json:
            echo_json(result.result)
            return
        terminal = Terminal(sys.stdout)
        text = summarize(status, result.message, result.data)
        text += suggest_action(result.action, result.data)
        names = (f"{escape_line(result.id):10}", f"{escape_line(result.action):16}")
        line = "  ".join((*names, f"{status:8}", text))
        shown = terminal.cut(line)
        echo(shown.replace(f"  {status} ", f"  {terminal.style_status(status)} ", 1))
        if shown != line and status != "success":
            # In whole, since it says what to fix.
            for problem in find_problems(result.data)[:_MAX_PROBLEMS] or [text]:
                for part in Terminal(sys.stderr).fold(problem, _INDENT, _MAX_LINES):
                    echo(part, err=True)

    @property
    def has_any(self) -> bool:
        """Whether a task has a result."""
        return bool(self._counts)

    def print_summary(self) -> None:
        """Print how many tasks had each status to stderr, unless no task has a result."""
        if not self.tasks:
            echo("the file has no tasks", err=True)
        if not self.has_any:
            return
        terminal = Terminal(sys.stderr)
        statuses = sorted(self._counts, key=_STATUSES.index)
        parts = [f"{self._counts[name]} {terminal.style_status(name)}" for name in statuses]
        if left := self.tasks - sum(self._counts.values()):
            parts.append(f"{left} without a result")
        seconds = format_seconds(time.monotonic() - self._started_at)
        echo(f"{format_count(self.tasks, 'task')} in {seconds}: {', '.join(parts)}", err=True)


def run_tasks(
    hub: LocalHub, tasks: list[Arguments], results: Results, check_end: Callable[[], str]
) -> None:
    """Put tasks into a hub and print each result when it arrives.

    Args:
        hub: A hub that a provider works for.
        tasks: The tasks.
        results: Prints the results.
        check_end: Called between results; returns why the provider has ended, or an empty string.

    Raises:
        ProviderError: The provider has ended before all results arrived.
    """
    # Shorter than the hub's own ids, and different in the next run, too.
    run = secrets.token_hex(3)
    # Not `futures.wait`: for each result, it would look at all tasks that have none yet.
    ended: SimpleQueue[Future[Submission]] = SimpleQueue()
    for number, task in enumerate(tasks, 1):
        ticket = hub.put(**{"id": f"{run}-{number}", **task})
        ticket.future.add_done_callback(ended.put)
    left = len(tasks)
    while left:
        # First: the last results arrive just before the provider ends.
        reason = check_end()
        try:
            future = ended.get(timeout=_CHECK_INTERVAL)
        except Empty:
            if not reason:
                continue
            verb = "has" if left == 1 else "have"
            raise ProviderError(
                f"{reason}, and {format_count(left, 'task')} {verb} no result"
            ) from None
        results.add(future.result())
        left -= 1
