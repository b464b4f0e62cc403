"""What a result changes, as the rules of `arbprov.localhub.store` have it, without IO."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import attrs

from arbprov.localhub.tasks import Outcome, ReceivedResult, State

__all__ = ["KnownAttempt", "KnownTask", "settle"]


@attrs.define(eq=False)
class KnownAttempt:
    """An attempt that results may be of.

    Attributes:
        aside: Results to keep aside.
        is_changed: Whether the attempt got a result.
    """

    task: int
    number: int
    end: str
    status: str
    result: str = attrs.field(repr=False)
    aside: list[str] = attrs.field(factory=list, repr=False)
    is_changed: bool = False

    def has(self, result: ReceivedResult) -> bool:
        """Whether a result is the attempt's."""
        return self.status == result.status and self.result == result.result


@attrs.define(eq=False, kw_only=True)
class KnownTask:
    """A task that is locked.

    Attributes:
        was: Its state before.
        is_queued: Whether it waits in its lane.
        episode: The episode of its group in which it runs, or ran; None if there was none.
        reason: Why it is dead or cancelled.
        recorded: Its result; None if it has none.
        limited: The limit that returned it to its lane; None if none did.
    """

    number: int
    id: str
    action: str
    account_key: str
    provider: str
    priority: int
    lane: UUID
    state: State
    is_queued: bool
    attempt: int
    deliveries: int
    max_deliveries: int
    worker: str
    episode: int | None
    was: State = attrs.field(init=False)
    reason: str = attrs.field(default="", init=False)
    recorded: ReceivedResult | None = attrs.field(default=None, init=False)
    recorded_attempt: int | None = attrs.field(default=None, init=False)
    limited: ReceivedResult | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.was = self.state

    @property
    def group(self) -> tuple[str, str]:
        """Its action and account."""
        return self.action, self.account_key


def settle(
    result: ReceivedResult, task: KnownTask | None, attempts: Iterable[KnownAttempt]
) -> Outcome:
    """Decide what becomes of a result, and change the task and its attempt accordingly.

    Args:
        result: The result.
        task: Its task; None if there is none.
        attempts: The attempts of the task that it may be of.
    """
    by_number = {attempt.number: attempt for attempt in attempts}
    if not result.attempt and any(attempt.has(result) for attempt in by_number.values()):
        return Outcome.REPEATED
    attempt = by_number.get(result.attempt or task.attempt) if task else None
    if task is None or attempt is None:
        return Outcome.UNKNOWN
    if attempt.has(result):
        return Outcome.REPEATED
    if attempt.status:
        attempt.aside.append(result.result)
        return Outcome.KEPT_ASIDE
    attempt.status, attempt.result, attempt.is_changed = result.status, result.result, True
    is_limit = result.is_retried
    attempt.end = attempt.end or ("limit" if is_limit else "result")
    if task.state.has_ended:
        return Outcome.KEPT_ASIDE
    if not is_limit:
        task.state = State.DONE if result.is_good else State.FAILED
        task.is_queued = False
        task.recorded, task.recorded_attempt = result, attempt.number
    elif task.state is State.RUNNING and attempt.number == task.attempt:
        task.state, task.is_queued, task.limited = State.WAITING, True, result
        task.deliveries -= 1
    return Outcome.RECORDED
