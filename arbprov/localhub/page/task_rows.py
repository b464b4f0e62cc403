"""The rows of a list of tasks: what each task says of itself, and how its payload begins."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

from arbprov.localhub.page.accounts import mask_name
from arbprov.localhub.page.hub import task_url
from arbprov.localhub.page.waits import Wait, describe_obstacle, find_missing
from arbprov.localhub.page.words import format_time
from arbprov.localhub.reports import Reports
from arbprov.localhub.tasks import Pause, Scope, State, StoredTask
from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure
from arbprov.task import Status

__all__ = ["PREVIEW", "Row", "begin_payload", "make_rows", "run_seconds"]

#: The bytes of a payload that a row is made of.
PREVIEW = 1_000
# The characters of it that a row shows.
_MAX_SHOWN = 100


@attrs.frozen(kw_only=True)
class Row:
    """A task in the list.

    Attributes:
        task: The task, with the beginning of its payload.
        url: The address of its page.
        account: The masked name of its account; empty if unknown, or not for this reader.
        wait: What holds it back, if it waits and something does.
        error: Its error's type; empty without an error.
        text: Why it ended, or its result's message; empty for a message that tells nothing.
        payload: The beginning of its payload; empty for a payload that is empty.
        seconds: How long its latest attempt ran; None if it has no result.
    """

    task: StoredTask
    url: str
    account: str
    wait: Wait | None
    error: str
    text: str
    payload: str
    seconds: float | None

    @property
    def title(self) -> str:
        """All that the list may cut off, as text."""
        said = [self.error, self.text]
        if self.wait is not None:
            until = self.wait.until
            said = [self.wait.text, "" if until is None else format_time(until)]
        elif self.task.state is State.RUNNING:
            said = [f"on {self.task.worker}"]
        return "\n".join(filter(None, [" ".join(filter(None, said)), self.payload]))


def make_rows(
    tasks: Sequence[StoredTask],
    pauses: Sequence[Pause],
    held: Sequence[Scope],
    reports: Reports,
    *,
    now: float,
    shows_accounts: bool,
) -> list[Row]:
    """Return the rows of tasks.

    Args:
        tasks: The tasks, with at least `PREVIEW` bytes of each payload.
        pauses: The pauses.
        held: The groups that are over a limit.
        reports: The providers' reports.
        now: The time in seconds since 1970.
        shows_accounts: Whether the reader may see the masked names of accounts.
    """
    waiting = {(task.action, task.provider) for task in tasks if task.state is State.WAITING}
    missing = {key: find_missing(reports, *key) for key in waiting}
    rows = []
    for task in tasks:
        error, text = _find_words(task)
        obstacle = describe_obstacle(task, pauses, held, now, names_account=False)
        lacks = task.state is State.WAITING and missing[task.action, task.provider]
        rows.append(
            Row(
                task=task,
                url=task_url(task.id),
                account=mask_name(task.account) if shows_accounts else "",
                wait=obstacle or lacks or None,
                error=error,
                text=text,
                payload=begin_payload(task.payload),
                seconds=run_seconds(task),
            )
        )
    return rows


def _find_words(task: StoredTask) -> tuple[str, str]:
    """Return the type of a task's error, and why it ended or what its result says."""
    if task.reason and task.state.has_ended:
        return "", task.reason
    is_default = task.message == Status.SUCCESS.default_message
    return task.error_type, "" if is_default else task.message


def begin_payload(payload: bytes) -> str:
    r"""Return the beginning of a payload on one line, as compact JSON if it is short.

    >>> begin_payload(b'{ "city": "Z\\u00fcrich" }'), begin_payload(b"{}")
    ('{"city":"Zürich"}', '')
    >>> begin_payload(b'{"text": "' + b"long " * 1000)[-7:]
    ' long …'
    """
    try:
        value = parse_value(payload)
    except ValidationFailure:
        text = " ".join(payload.decode(errors="replace").split())
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def run_seconds(task: StoredTask) -> float | None:
    """Return how long the latest attempt of a task ran; None if the task has no result.

    A task that is cancelled or dead may have waited since that attempt.
    """
    has_result = task.state in (State.DONE, State.FAILED)
    if not has_result or task.started_at is None or task.ended_at is None:
        return None
    return max(0.0, task.ended_at - task.started_at)
