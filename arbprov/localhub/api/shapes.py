"""The JSON of the API as classes: the server, the clients and OpenAPI share them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import attrs

from arbprov.localhub.api.fields import (
    Alternatives,
    Id,
    Name,
    OptionalId,
    OptionalKey,
    OptionalName,
    OptionalSeconds,
    OptionalWhen,
    Range,
    Text,
)
from arbprov.localhub.tasks import PauseKind, State
from arbprov.localhub.tokens import Role

__all__ = [
    "MAX_TASKS",
    "AcceptedTask",
    "AcceptedTasks",
    "ActionView",
    "ActionsView",
    "AttemptView",
    "CancelBody",
    "CountsView",
    "HealthView",
    "LimitsView",
    "ListQuery",
    "MadeToken",
    "MatchingBody",
    "MatchingView",
    "NewTasksBody",
    "PageView",
    "PauseBody",
    "PauseView",
    "PausesView",
    "ProblemView",
    "ProblemsView",
    "ProcessView",
    "ProviderView",
    "ProvidersView",
    "RatesView",
    "ReportedLimitView",
    "ScopeView",
    "TaskBody",
    "TaskFilterBody",
    "TaskQuery",
    "TaskView",
    "TokenBody",
    "TokenView",
    "TokensView",
    "WaitQuery",
]

#: The most tasks of a request.
MAX_TASKS = 10_000
_MAX_PAGE = 1_000
_MAX_WAIT = 60

Accounts = Annotated[
    Literal["full", "masked"] | None,
    "whether accounts are shown with their values; by default only to tokens that may change tasks",
]


# What clients send.


@attrs.frozen(kw_only=True)
class TaskBody:
    """A task to submit.

    Args:
        action: the action to run
        payload: the task's payload
        account: the task's account
        account_key: the account's identity for turns, limits and pauses; by default its hash
        provider: the provider that must run it; by default any provider
        id: the task's id; by default a new id
        priority: tasks of a higher priority are handed out first
        not_before: the earliest time to hand it out, with an offset, or in seconds since 1970
        ttl: seconds after which it is not started any more
        max_deliveries: how often it is handed out without a result until it is dead
        idempotency_key: a second submission with this key adds nothing
        traceparent: where the task was made, as W3C Trace Context writes it
    """

    action: Name
    payload: dict[str, Any] = attrs.field(factory=dict, repr=False)
    account: dict[str, Any] | None = attrs.field(default=None, repr=False)
    account_key: Text = ""
    provider: Text = ""
    id: OptionalId = None
    priority: Annotated[int, Range(ge=-1_000, le=1_000)] = 0
    not_before: OptionalWhen = None
    ttl: OptionalSeconds = None
    max_deliveries: Annotated[int, Range(ge=1, le=1_000)] = 10
    idempotency_key: Text = ""
    traceparent: Text = ""


@attrs.frozen(kw_only=True)
class NewTasksBody:
    """Tasks to submit, all or none of them.

    Args:
        tasks: the tasks, 10,000 at most
    """

    tasks: list[TaskBody]


@attrs.frozen(kw_only=True)
class TaskFilterBody:
    """Which tasks are meant: all conditions that are given must hold.

    Args:
        id: tasks with one of these ids
        action: tasks of this action
        account: tasks of the account with this key
        provider: tasks that this provider must run, or ran last
        state: tasks in one of these states
        error_type: tasks whose result has this error type
        text: tasks whose id, message or payload holds this text, in any case of ASCII letters
        payload: tasks whose payload has these top-level values
        created_after: tasks submitted at this time or later
        created_before: tasks submitted before this time
    """

    id: Annotated[list[Name], Alternatives()] = attrs.field(factory=list)
    action: OptionalName = None
    account: OptionalName = None
    provider: OptionalName = None
    state: Annotated[list[State], Alternatives()] = attrs.field(factory=list)
    error_type: OptionalName = None
    text: OptionalKey = None
    payload: dict[str, str | bool | int | float | None] = attrs.field(factory=dict)
    created_after: OptionalWhen = None
    created_before: OptionalWhen = None


@attrs.frozen(kw_only=True)
class ListQuery(TaskFilterBody):
    """The parameters of a list.

    Args:
        limit: the most tasks of a page; a page may have fewer or none although there is a next
            one, since a page looks for a `text` in at most 100,000 tasks
        cursor: the `next` of the page before
    """

    limit: Annotated[int, Range(ge=1, le=_MAX_PAGE)] = 50
    cursor: OptionalKey = None
    accounts: Accounts = None


@attrs.frozen(kw_only=True)
class TaskQuery:
    """The parameters of a task."""

    accounts: Accounts = None


@attrs.frozen(kw_only=True)
class WaitQuery(TaskQuery):
    """The parameters of a wait for a task's end.

    Args:
        timeout: seconds to wait for the end
    """

    timeout: Annotated[float, Range(ge=0, le=_MAX_WAIT)] = 30.0


@attrs.frozen(kw_only=True)
class CancelBody:
    """How a task is cancelled.

    Args:
        reason: why, for people
    """

    reason: Name = "cancelled"


@attrs.frozen(kw_only=True)
class MatchingBody:
    """Which tasks to retry or cancel.

    Args:
        filter: which tasks
        expect: the number of tasks that match, as it was answered without `expect`; if more match \
now, nothing is done
    """

    filter: TaskFilterBody
    expect: Annotated[int | None, Range(ge=0, le=2**53)] = None


@attrs.frozen(kw_only=True)
class PauseBody:
    """A pause to begin or to end.

    Args:
        kind: what is paused
        name: the action's or the provider's name, or the account's key
    """

    kind: PauseKind
    name: Name


@attrs.frozen(kw_only=True)
class TokenBody:
    """A token to make.

    Args:
        name: a name for people
        role: what the token allows
        provider: the provider whose token it is, and only with the role provider
    """

    name: Id
    role: Role
    provider: Text = ""


# What the hub answers.


@attrs.frozen(kw_only=True)
class AttemptView:
    """A delivery of a task to a provider, and how it ended.

    Args:
        number: the attempt's number, from 1
        provider: the provider that got the task
        started_at: when it was handed out
        ended_at: when it ended; null while it runs
        end: result, limit, lease, returned or cancelled; empty while it runs
        status: its result's status; empty without a result
        result: its result's envelope; null without a result
        aside: other results that came for this attempt, oldest first
    """

    number: int
    provider: str
    started_at: dt.datetime
    ended_at: dt.datetime | None
    end: str
    status: str
    result: Any = attrs.field(repr=False)
    aside: list[Any] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class TaskView:
    """A task.

    Args:
        id: its id, unique in the hub
        state: where it is in its life
        action: the action to run
        payload: its payload; null if that is not JSON
        payload_text: its payload as text if that is not JSON; else null
        account: its account; null if that is not JSON; with asterisks for values if masked
        account_key: the account's identity for turns, limits and pauses
        provider: the provider that must run it; empty for any provider
        worker: the provider that has, or had, the latest attempt
        priority: tasks of a higher priority are handed out first
        attempts: the number of attempts
        deliveries: how many attempts count towards max_deliveries
        max_deliveries: how often it is handed out without a result until it is dead
        status: the recorded result's status; empty without a result
        result: the recorded result's envelope; null without a result, or if that is not JSON
        result_text: the recorded result as text if that is not JSON; else null
        message: the envelope's message
        error_type: the error's class, or a short word for it
        reason: why it is dead or cancelled
        idempotency_key: a second submission with this key adds nothing
        traceparent: where the task was made, as W3C Trace Context writes it
        created_at: when it was submitted
        started_at: when its latest attempt began
        ended_at: when it reached its last state
        not_before: the earliest time to hand it out
        expires_at: when it is not started any more
        lease_ends_at: when a running task is handed out again
        history: its attempts, oldest first; null where only the task itself was asked for
    """

    id: str
    state: State
    action: str
    payload: Any = attrs.field(repr=False)
    payload_text: str | None = attrs.field(repr=False)
    account: Any = attrs.field(repr=False)
    account_key: str
    provider: str
    worker: str
    priority: int
    attempts: int
    deliveries: int
    max_deliveries: int
    status: str
    result: Any = attrs.field(repr=False)
    result_text: str | None = attrs.field(repr=False)
    message: str
    error_type: str
    reason: str
    idempotency_key: str
    traceparent: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    not_before: dt.datetime | None
    expires_at: dt.datetime | None
    lease_ends_at: dt.datetime | None
    history: list[AttemptView] | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class PageView:
    """A page of tasks, the latest submitted first.

    Args:
        tasks: the tasks
        next: the cursor of the next page; null on the last
    """

    tasks: list[TaskView]
    next: str | None


@attrs.frozen(kw_only=True)
class AcceptedTask:
    """The outcome of submitting a task.

    Args:
        id: the id of the task that the hub has: another task's with the same idempotency key
        is_new: whether the task was added
    """

    id: str
    is_new: bool


@attrs.frozen(kw_only=True)
class AcceptedTasks:
    """The outcomes of submitting tasks, in their order."""

    tasks: list[AcceptedTask]


@attrs.frozen(kw_only=True)
class MatchingView:
    """How many tasks match, and how many of them were changed.

    Args:
        matching: how many tasks match
        changed: how many tasks were changed; 0 without `expect`
    """

    matching: int
    changed: int


@attrs.frozen(kw_only=True)
class RatesView:
    """How many tasks have ended by this hub lately.

    Args:
        seconds: the seconds that were counted
        per_minute: the tasks per minute, by their new state
    """

    seconds: float
    per_minute: dict[str, float]


@attrs.frozen(kw_only=True)
class CountsView:
    """How many tasks there are.

    Args:
        actions: the number of tasks by action and state
        states: the number of tasks by state
        rates: how many tasks have ended lately
    """

    actions: dict[str, dict[str, int]]
    states: dict[str, int]
    rates: RatesView


@attrs.frozen(kw_only=True)
class ScopeView:
    """Tasks of an action and an account that are over a limit.

    Args:
        action: the action
        account_key: the account's key
        held_until: when the next task goes; in the past if some may go
        limit: the limit that said so
        since: since when they have been over the limit
        room: how many may be handed out now
    """

    action: str
    account_key: str
    held_until: dt.datetime
    limit: str
    since: dt.datetime
    room: int


@attrs.frozen(kw_only=True)
class ReportedLimitView:
    """How a limit stands for one key in a process of a provider, by its latest report.

    Args:
        provider: the provider's name
        process: the process; each counts for itself, unless they share a store
        action: the action; empty for a limit that several actions share
        limit: the limit as text
        owner: its owner, as in app, action:NAME, blueprint:NAME or name:NAME
        by: what its key is, as in account.id; empty for a limit without keys
        key: the key's hash; empty for a limit without keys
        account_key: the hub's key of an account that the limit counted last; empty if unknown
        total: how many calls it admits; null if it has no such number
        left: how many it would admit then; null if unknown
        next_at: when it admits another call; null if it did then
        opens_at: when its closed gate opens; null if it was open
        closed_by: who has closed the gate; empty if it was open
        waiting: how many tasks of the process waited for it
        shadow: whether it only counts, and refuses nothing
        reported_at: when this was reported
    """

    provider: str
    process: str
    action: str
    limit: str
    owner: str
    by: str
    key: str
    account_key: str
    total: float | None
    left: float | None
    next_at: dt.datetime | None
    opens_at: dt.datetime | None
    closed_by: str
    waiting: int
    shadow: bool
    reported_at: dt.datetime


@attrs.frozen(kw_only=True)
class LimitsView:
    """The groups that are over a limit, and the reported state of limits.

    Args:
        limits: the groups of tasks that a limit holds back
        reported: the state of limits in providers, closed gates first; at most 200 keys of a \
process
    """

    limits: list[ScopeView]
    reported: list[ReportedLimitView] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class ProcessView:
    """A process of a provider, by its latest report.

    Args:
        process: a text that tells the processes of a provider apart
        version: arbprov's version in it
        slots: how many tasks it can run at once
        free_slots: how many more it could begin then
        actions: the names of its actions
        reported_at: when this was reported
        actions_cut: how many actions are left out, since there are too many
        schemas_cut: how many actions are without their schemas, since these are too large
        limits_cut: how many keys of limits are left out
    """

    process: str
    version: str
    slots: int
    free_slots: int
    actions: list[str]
    reported_at: dt.datetime
    actions_cut: int
    schemas_cut: int
    limits_cut: int


@attrs.frozen(kw_only=True)
class ProviderView:
    """A provider that has polled this hub, or reported to it.

    Args:
        name: its name
        polled_at: when it polled last; null if it has not since the hub's start
        processes: its processes that report; none if it does not know how to
    """

    name: str
    polled_at: dt.datetime | None
    processes: list[ProcessView]


@attrs.frozen(kw_only=True)
class ProvidersView:
    """The providers that have polled this hub, or reported to it, since its start."""

    providers: list[ProviderView]


@attrs.frozen(kw_only=True)
class ActionView:
    """An action of a provider that reports.

    Args:
        name: the action's name
        description: the first sentence of its docstring
        providers: the names of the providers that have it
        payload_schema: the JSON Schema of its payload
        account_schema: the JSON Schema of its account; null if it takes none
        limits: its limits as texts
    """

    name: str
    description: str
    providers: list[str]
    payload_schema: dict[str, Any] = attrs.field(repr=False)
    account_schema: dict[str, Any] | None = attrs.field(repr=False)
    limits: list[str]


@attrs.frozen(kw_only=True)
class ActionsView:
    """The actions of the providers that report, by name.

    Args:
        actions: the actions
        complete: whether all providers that polled lately have reported theirs
    """

    actions: list[ActionView]
    complete: bool


@attrs.frozen(kw_only=True)
class PauseView:
    """A pause.

    Args:
        kind: what is paused
        name: the action's or the provider's name, or the account's key
        since: since when
    """

    kind: PauseKind
    name: str
    since: dt.datetime


@attrs.frozen(kw_only=True)
class PausesView:
    """All pauses."""

    pauses: list[PauseView]


@attrs.frozen(kw_only=True)
class TokenView:
    """A token, without the token itself, of which the hub has only a hash.

    Args:
        name: its name
        role: what it allows
        provider: the provider whose token it is; empty for the other roles
        created_at: when it was made
    """

    name: str
    role: Role
    provider: str
    created_at: dt.datetime


@attrs.frozen(kw_only=True)
class TokensView:
    """The tokens that were made; the hub's own is not among them."""

    tokens: list[TokenView]


@attrs.frozen(kw_only=True)
class MadeToken:
    """A new token.

    Args:
        name: its name
        role: what it allows
        provider: the provider whose token it is; empty for the other roles
        token: the token; it is shown only now
    """

    name: str
    role: Role
    provider: str
    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class HealthView:
    """That the hub runs."""

    status: str = "ok"


@attrs.frozen(kw_only=True)
class ProblemView:
    """A problem of a request.

    Args:
        path: where it is, as in tasks[3].priority; empty for the whole request
        message: the problem, in a few words
    """

    path: str
    message: str


@attrs.frozen(kw_only=True)
class ProblemsView:
    """Why a request was refused, as RFC 9457 has it.

    Args:
        type: always about:blank
        title: the status in words
        status: the HTTP status
        detail: what is wrong, and how to fix it
        problems: each problem of the request
    """

    type: str
    title: str
    status: int
    detail: str
    problems: list[ProblemView]
