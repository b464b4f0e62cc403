"""Why a task waits, in a sentence that may end with a time."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from arbprov._utils import format_count
from arbprov.localhub.page.accounts import short_key
from arbprov.localhub.reports import Reports
from arbprov.localhub.store import Store
from arbprov.localhub.tasks import Pause, PauseKind, Scope, State, StoredTask
from arbprov.localhub.waiting import find_obstacle

__all__ = ["MAX_SILENCE", "Wait", "describe_obstacle", "explain", "find_missing"]

#: A provider that has not polled for this many seconds does not run.
MAX_SILENCE = 60.0


@attrs.frozen
class Wait:
    """Why a task waits.

    Attributes:
        text: The reason.
        until: When that ends, in seconds since 1970, if it is known: the text goes on with it.
    """

    text: str
    until: float | None = None


def describe_obstacle(
    task: StoredTask,
    pauses: Sequence[Pause],
    held: Sequence[Scope],
    now: float,
    *,
    names_account: bool = True,
) -> Wait | None:
    """Return what holds a waiting task back; None for nothing, or for a task that does not wait.

    Args:
        task: The task.
        pauses: The pauses.
        held: The groups that are over a limit.
        now: The time in seconds since 1970.
        names_account: Whether to say of which account a limit is.
    """
    if task.state is not State.WAITING:
        return None
    obstacle = find_obstacle(
        action=task.action,
        account_key=task.account_key,
        provider=task.provider,
        not_before=task.not_before,
        pauses=pauses,
        held=held,
        now=now,
    )
    if isinstance(obstacle, float):
        return Wait("not to start before", obstacle)
    if isinstance(obstacle, Pause):
        is_account = obstacle.kind is PauseKind.ACCOUNT
        name = short_key(obstacle.name) if is_account else obstacle.name
        return Wait(f"paused: {obstacle.kind.value} {name}")
    return None if obstacle is None else _describe_scope(obstacle, names_account)


def _describe_scope(scope: Scope, names_account: bool) -> Wait:
    limit = scope.limit or "a limit"
    if names_account:
        limit += f" of account {short_key(scope.account_key)}"
    if scope.room:
        return Wait(f"{limit} lets {format_count(scope.room, 'task')} go now")
    return Wait(f"held by {limit} until", scope.held_until)


async def explain(store: Store, reports: Reports, task: StoredTask, now: float) -> Wait | None:
    """Return why a task waits; None if it does not.

    Args:
        store: Has the task.
        reports: The providers' reports.
        task: The task.
        now: The time in seconds since 1970.
    """
    if task.state is not State.WAITING:
        return None
    pauses, held = await store.pauses(), await store.held()
    if (obstacle := describe_obstacle(task, pauses, held, now)) is not None:
        return obstacle
    if (missing := find_missing(reports, task.action, task.provider)) is not None:
        return missing
    if position := await store.position(task.id):
        return Wait(f"behind {format_count(position, 'task')} of the same account and action")
    return Wait("next of its account and action, when a provider has a free slot")


def find_missing(reports: Reports, action: str, provider: str) -> Wait | None:
    """Return which provider the tasks of an action lack; None if a provider may take them.

    Args:
        reports: The providers' reports.
        action: The action.
        provider: The provider that must run it; empty for any provider.
    """
    polled = {name for name, age in reports.last_polls().items() if age < MAX_SILENCE}
    if not polled:
        return Wait("no provider polls this hub")
    if provider and provider not in polled:
        return Wait(f"its provider {provider} does not poll this hub")
    running = reports.running_actions(provider)
    if running is not None and action not in running:
        return Wait("no provider with this action")
    return None
