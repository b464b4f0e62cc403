"""What the hub has, as the API shows it."""

from __future__ import annotations

from typing import Any

from arbprov.localhub.api.fields import to_datetime
from arbprov.localhub.api.shapes import AttemptView, PauseView, ScopeView, TaskView, TokenView
from arbprov.localhub.store import StoredToken
from arbprov.localhub.tasks import Attempt, Pause, Scope, StoredTask
from arbprov.localhub.tokens import Role
from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure

__all__ = ["view_pause", "view_scope", "view_task", "view_token"]

_MASK = "***"


def view_task(
    task: StoredTask, *, masks_account: bool, attempts: list[Attempt] | None = None
) -> TaskView:
    """Return a task as the API shows it.

    Args:
        task: The task.
        masks_account: Whether the account is shown without its values.
        attempts: Its attempts, if they are shown.
    """
    payload, payload_text = _read(task.payload)
    result, result_text = (
        _read(task.result.encode(errors="replace")) if task.result else (None,) * 2
    )
    account = _read(task.account or b"{}")[0]
    return TaskView(
        id=task.id,
        state=task.state,
        action=task.action,
        payload=payload,
        payload_text=payload_text,
        account=_mask(account) if masks_account else account,
        account_key=task.account_key,
        provider=task.provider,
        worker=task.worker,
        priority=task.priority,
        attempts=task.attempt,
        deliveries=task.deliveries,
        max_deliveries=task.max_deliveries,
        status=task.status,
        result=result,
        result_text=result_text,
        message=task.message,
        error_type=task.error_type,
        reason=task.reason,
        idempotency_key=task.idempotency_key,
        traceparent=task.traceparent,
        created_at=to_datetime(task.created_at),
        started_at=to_datetime(task.started_at),
        ended_at=to_datetime(task.ended_at),
        not_before=to_datetime(task.not_before),
        expires_at=to_datetime(task.expires_at),
        lease_ends_at=to_datetime(task.lease_ends_at),
        history=None if attempts is None else [*map(_view_attempt, attempts)],
    )


def _view_attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        provider=attempt.provider,
        started_at=to_datetime(attempt.started_at),
        ended_at=to_datetime(attempt.ended_at),
        end=attempt.end,
        status=attempt.status,
        result=_read_result(attempt.result) if attempt.result else None,
        aside=[*map(_read_result, attempt.aside)],
    )


def view_scope(scope: Scope) -> ScopeView:
    """Return a group that is over a limit."""
    return ScopeView(
        action=scope.action,
        account_key=scope.account_key,
        held_until=to_datetime(scope.held_until),
        limit=scope.limit,
        since=to_datetime(scope.since),
        room=scope.room,
    )


def view_pause(pause: Pause) -> PauseView:
    """Return a pause."""
    return PauseView(kind=pause.kind, name=pause.name, since=to_datetime(pause.at))


def view_token(token: StoredToken) -> TokenView:
    """Return a token, without its hash."""
    return TokenView(
        name=token.name,
        role=Role(token.role),
        provider=token.provider,
        created_at=to_datetime(token.created_at),
    )


def _read(raw: bytes) -> tuple[Any, str | None]:
    """Return the value of JSON and None; else None and the text."""
    try:
        return parse_value(raw), None
    except ValidationFailure:
        return None, raw.decode(errors="replace")


def _read_result(text: str) -> Any:
    """Return an envelope, or its text if it is not JSON."""
    value, plain = _read(text.encode(errors="replace"))
    return value if plain is None else plain


def _mask(account: Any) -> Any:
    """Return an account's fields without their values; a field's name may be a secret too."""
    if not isinstance(account, dict):
        return account and _MASK
    return {name if name.isidentifier() else _MASK: _MASK for name in account}
