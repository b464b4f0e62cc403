"""A hub's values: tasks, attempts, deliveries, results, pauses and filters."""

from __future__ import annotations

import secrets
import time

import attrs

from arbprov._utils import TextEnum

__all__ = [
    "Attempt",
    "Delivery",
    "Ending",
    "NewTask",
    "Outcome",
    "Pause",
    "PauseKind",
    "ReceivedResult",
    "Scope",
    "State",
    "StoredTask",
    "TaskFilter",
    "make_task_id",
]


class State(TextEnum):
    """Where a task is in its life; each member equals its text.

    ``waiting`` tasks wait for a provider, or for their time, or for a limit. ``done`` and
    ``failed`` tasks have a result. ``dead`` tasks were handed out too often without a result, or
    waited for too long; `reason` says why.

    >>> State.DEAD == "dead"
    True
    """

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"

    @property
    def has_ended(self) -> bool:
        """Whether a task in this state stays in it until it is retried."""
        return self not in (State.WAITING, State.RUNNING)


class Outcome(TextEnum):
    """The outcome of recording a provider's result.

    >>> Outcome.REPEATED == "repeated"
    True
    """

    #: It is the result of its attempt, and the task's result unless it asks for a later try.
    RECORDED = "recorded"
    #: The attempt has this very result already.
    REPEATED = "repeated"
    #: The attempt has another result, or the task has ended; it is kept with the attempt.
    KEPT_ASIDE = "kept aside"
    #: The hub has no such task; nothing is kept.
    UNKNOWN = "unknown"


class PauseKind(TextEnum):
    """The kind of thing that is paused."""

    ACTION = "action"
    PROVIDER = "provider"
    ACCOUNT = "account"


def make_task_id() -> str:
    """Return a new task's id, which is unique, and sorts by the time it was made.

    >>> len(make_task_id())
    26
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(7)}"


@attrs.frozen(kw_only=True)
class NewTask:
    """A task to submit.

    Args:
        id: Its id, unique in the hub.
        action: The action to run.
        payload: A JSON object as bytes.
        account: A JSON object as bytes; empty stands for ``{}``.
        account_key: The account's identity for turns, limits and pauses; see `find_account_key`.
        provider: The provider that must run it; empty for any provider.
        priority: Tasks of a higher priority are handed out first.
        not_before: The earliest time to hand it out, in seconds since 1970; None for now.
        ttl: Seconds after which it is not started any more; None for no limit.
        max_deliveries: How often it may be handed out without a result until it is dead.
        idempotency_key: A second submission with this key adds nothing; empty for none.
        traceparent: Where it was made, as W3C Trace Context writes it; empty if unknown.
        fields: The payload's top-level values as a JSON object with texts, for searches.
    """

    id: str
    action: str
    payload: bytes = attrs.field(default=b"{}", repr=False)
    account: bytes = attrs.field(default=b"", repr=False)
    account_key: str = ""
    provider: str = ""
    priority: int = 0
    not_before: float | None = None
    ttl: float | None = None
    max_deliveries: int = 10
    idempotency_key: str = ""
    traceparent: str = ""
    fields: str = attrs.field(default="{}", repr=False)


@attrs.frozen(kw_only=True)
class StoredTask:
    """A task as a store has it. Times are in seconds since 1970 by the store's clock.

    Attributes:
        number: Its place in the order of submission.
        attempt: The number of its latest attempt; 0 before the first.
        deliveries: How many attempts count towards `max_deliveries`.
        lease_ends_at: When a running task is handed out again.
        created_at: When it was submitted.
        started_at: When its latest attempt began.
        ended_at: When it reached its last state.
        worker: The provider that has, or had, the latest attempt.
        status: The recorded result's status; empty without a result.
        result: The recorded result's envelope as JSON text; empty without a result.
        message: The envelope's message.
        error_type: The error's class, or a short word for it; empty without an error.
        reason: Why it is dead or cancelled; empty otherwise.
    """

    number: int
    id: str
    action: str
    state: State
    payload: bytes = attrs.field(repr=False)
    account: bytes = attrs.field(repr=False)
    account_key: str
    provider: str
    priority: int
    not_before: float | None
    expires_at: float | None
    max_deliveries: int
    idempotency_key: str
    traceparent: str
    attempt: int
    deliveries: int
    lease_ends_at: float | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    worker: str
    status: str
    result: str = attrs.field(repr=False)
    message: str
    error_type: str
    reason: str


@attrs.frozen(kw_only=True)
class Attempt:
    """A delivery of a task to a provider, and how it ended.

    Attributes:
        number: The attempt's number, from 1.
        provider: The provider that got the task.
        started_at: When it was handed out.
        ended_at: When it ended; None while it runs.
        end: ``result``, ``limit``, ``lease`` (the lease ran out), ``returned`` (it never reached
            the provider) or ``cancelled``; empty while it runs.
        status: Its result's status; empty without a result.
        result: Its result's envelope as JSON text; empty without a result.
        aside: Other results that came for this attempt, oldest first, as JSON text.
    """

    number: int
    provider: str
    started_at: float
    ended_at: float | None
    end: str
    status: str
    result: str = attrs.field(repr=False)
    aside: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen(kw_only=True)
class Ending:
    """How a task has ended, without its payload and result. Times are in seconds since 1970.

    Attributes:
        started_at: When its latest attempt began; None if it had none.
        ended_at: When it reached its last state.
        error_type: The error's class, or a short word for it; empty without an error.
    """

    action: str
    state: State
    started_at: float | None
    ended_at: float
    error_type: str


@attrs.frozen(kw_only=True)
class Delivery:
    """A task as it is handed out.

    Attributes:
        attempt: The attempt's number.
        lease: Seconds until it is handed out again, unless a result or a renewal comes before.
    """

    id: str
    action: str
    payload: bytes = attrs.field(repr=False)
    account: bytes = attrs.field(repr=False)
    attempt: int
    lease: float
    traceparent: str = ""


@attrs.frozen(kw_only=True)
class ReceivedResult:
    """A result as a provider sent it.

    Args:
        id: The task's id.
        attempt: The attempt's number; 0, from a provider that does not send it, is the latest.
        provider: The provider.
        status: ``success``, ``error``, ``warning`` or ``limit``.
        result: The envelope as JSON text.
        message: The envelope's message.
        error_type: The error's class, or a short word for it; empty without an error.
        wait_time: Of a ``limit``, the seconds to wait; with 0, the task has failed.
        limit: Of a ``limit``, the limit as text, such as ``5/minute``.
    """

    id: str
    attempt: int = 0
    provider: str = ""
    status: str = "success"
    result: str = attrs.field(default="", repr=False)
    message: str = ""
    error_type: str = ""
    wait_time: float = 0.0
    limit: str = ""

    @property
    def is_good(self) -> bool:
        """Whether its task is done, and has not failed."""
        return self.status in ("success", "warning")

    @property
    def is_retried(self) -> bool:
        """Whether its task is to be tried again, since it is over a limit."""
        return self.status == "limit" and self.wait_time > 0


@attrs.frozen
class Pause:
    """An action, a provider or an account that gets no tasks until it is resumed.

    Attributes:
        kind: Whether it is an action, a provider or an account.
        name: The action's or the provider's name, or the account's key.
        at: Since when, in seconds since 1970.
    """

    kind: PauseKind
    name: str
    at: float = 0.0


@attrs.frozen(kw_only=True)
class Scope:
    """The tasks of an action and an account, while they are over a limit.

    Attributes:
        action: The action.
        account_key: The account's key.
        held_until: When the next task goes, in seconds since 1970; in the past if some may go.
        limit: The limit that said so, as text.
        since: Since when the group has been over its limit: it has had tasks ever since.
        room: How many may be handed out now; 0 until `held_until`.
    """

    action: str
    account_key: str
    held_until: float
    limit: str
    since: float
    room: int = 0


@attrs.frozen(kw_only=True)
class TaskFilter:
    """Which tasks a search finds: all conditions that are set must hold.

    Args:
        ids: Tasks with these ids.
        action: Tasks of this action.
        account_key: Tasks of this account.
        account_prefix: Tasks of the accounts whose keys begin like this.
        provider: Tasks that this provider must run, or ran last.
        states: Tasks in one of these states.
        error_type: Tasks whose result has this error type.
        text: Tasks whose id, message or payload holds this text, in any case of ASCII letters.
        fields: Tasks whose payload has these top-level values, as text.
        created_after: Tasks submitted at this time or later.
        created_before: Tasks submitted before this time.
    """

    ids: tuple[str, ...] = ()
    action: str = ""
    account_key: str = ""
    account_prefix: str = ""
    provider: str = ""
    states: tuple[State, ...] = ()
    error_type: str = ""
    text: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    created_after: float | None = None
    created_before: float | None = None
