"""Why a task has no result yet, in words for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from arbprov._utils import quote
from arbprov.localhub.reports import Reports
from arbprov.localhub.store import Store
from arbprov.localhub.tasks import Pause, PauseKind, Scope, State

__all__ = ["describe_wait", "explain_wait", "find_obstacle"]


async def explain_wait(store: Store, id: str, now: float, reports: Reports | None = None) -> str:
    """Return why a task has no result yet; empty if it has ended, or if there is none.

    Args:
        store: Has the task.
        id: The task's id.
        now: The time in seconds since 1970.
        reports: What providers have reported; None if that is unknown.
    """
    task = await store.get(id)
    if task is None or task.state.has_ended:
        return ""
    if task.state is State.RUNNING:
        return f"provider {quote(task.worker)} runs it"
    return describe_wait(
        action=task.action,
        account_key=task.account_key,
        provider=task.provider,
        not_before=task.not_before,
        pauses=await store.pauses(),
        held=await store.held(),
        now=now,
        actions=None if reports is None else reports.running_actions(task.provider),
    )


def describe_wait(
    *,
    action: str,
    account_key: str,
    provider: str,
    not_before: float | None,
    pauses: Iterable[Pause],
    held: Iterable[Scope],
    now: float,
    actions: Collection[str] | None = None,
) -> str:
    """Return why a task waits.

    Args:
        action: The task's action.
        account_key: The key of its account.
        provider: The provider that must run it; empty for any provider.
        not_before: The earliest time to hand it out, in seconds since 1970.
        pauses: The pauses.
        held: The groups that are over a limit.
        now: The time in seconds since 1970.
        actions: The actions of all providers that run, or of `provider`; None if that is unknown.

    >>> paused = [Pause(PauseKind.ACTION, "forecast")]
    >>> task = {"action": "forecast", "account_key": "a", "provider": "", "not_before": None}
    >>> describe_wait(**task, pauses=paused, held=[], now=0.0)
    "action 'forecast' is paused"
    >>> describe_wait(**task, pauses=[], held=[], now=0.0)
    "no provider has taken it; does a provider with action 'forecast' run?"
    >>> describe_wait(**task, pauses=[], held=[], now=0.0, actions=["report"])
    "no provider has an action 'forecast'"
    """
    obstacle = find_obstacle(
        action=action,
        account_key=account_key,
        provider=provider,
        not_before=not_before,
        pauses=pauses,
        held=held,
        now=now,
    )
    if isinstance(obstacle, float):
        return f"it may not start for another {obstacle - now:.0f} s"
    if isinstance(obstacle, Pause):
        return f"{obstacle.kind.value} {quote(obstacle.name)} is paused"
    if isinstance(obstacle, Scope):
        return _describe_hold(obstacle, now)
    if actions is not None and action not in actions:
        who = f"provider {quote(provider)} has no" if provider else "no provider has an"
        return f"{who} action {quote(action)}"
    if provider:
        return f"provider {quote(provider)} has not taken it; does it run?"
    return f"no provider has taken it; does a provider with action {quote(action)} run?"


def find_obstacle(
    *,
    action: str,
    account_key: str,
    provider: str,
    not_before: float | None,
    pauses: Iterable[Pause],
    held: Iterable[Scope],
    now: float,
) -> float | Pause | Scope | None:
    """Return what holds a waiting task back: its own time, a pause or a limit; None for nothing.

    For its arguments, see `describe_wait`.

    >>> task = {"action": "forecast", "account_key": "a", "provider": "", "pauses": [], "held": []}
    >>> find_obstacle(**task, not_before=60.0, now=0.0)
    60.0
    """
    if not_before is not None and not_before > now:
        return float(not_before)
    names = {
        PauseKind.ACTION: action,
        PauseKind.PROVIDER: provider,
        PauseKind.ACCOUNT: account_key,
    }
    for pause in pauses:
        if names[pause.kind] == pause.name:
            return pause
    for scope in held:
        if (scope.action, scope.account_key) == (action, account_key):
            return scope
    return None


def _describe_hold(scope: Scope, now: float) -> str:
    limit = f"limit {scope.limit}" if scope.limit else "a limit"
    if scope.room:
        return f"{limit} lets {scope.room} of the tasks of its action and account go now"
    # The time may have just come: the next poll lets tasks go.
    left = max(0.0, scope.held_until - now)
    return f"{limit} holds back the tasks of its action and account for another {left:.0f} s"
