"""Checks tasks and results as they arrive, and adds the fields that the store searches by."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from arbprov._utils import read_seconds
from arbprov.localhub.tasks import NewTask, ReceivedResult, make_task_id
from arbprov.payload.serialize import TaskData, encode_task_data
from arbprov.responses import INVALID_RESULT
from arbprov.wire.accounts import find_account_key

__all__ = ["make_task", "read_result"]

_MAX_ID = 200
_MAX_PRIORITY = 1_000
_MAX_DELIVERIES = 1_000
# Of each top-level value of a payload, and of all of them, this much can be searched.
_MAX_FIELD = 200
_MAX_FIELDS = 50
# Of a message or an error's type, this much is kept beside the result.
_MAX_MESSAGE = 500
_MAX_ERROR_TYPE = 100
# A limit that does not say how long to wait is tried again after this many seconds.
_DEFAULT_WAIT = 1.0
_MAX_WAIT = 3600.0


def make_task(
    action: str,
    payload: TaskData = None,
    *,
    account: TaskData = None,
    account_key: str = "",
    provider: str = "",
    id: str | None = None,
    priority: int = 0,
    not_before: float | None = None,
    ttl: float | None = None,
    max_deliveries: int = 10,
    idempotency_key: str = "",
    traceparent: str = "",
) -> NewTask:
    """Return a task to submit.

    Args:
        action: Name of the action to run.
        payload: The task's payload: a mapping to encode as JSON, or bytes to send unchanged.
        account: The task's account, in the same form.
        account_key: The account's identity for turns, limits and pauses; empty for its hash.
        provider: Name of the provider that must run it; empty for any provider.
        id: The task's id; by default, a new id.
        priority: From -1000 to 1000; tasks of a higher priority are handed out first.
        not_before: The earliest time to hand it out, in seconds since 1970.
        ttl: Seconds after which it is not started any more.
        max_deliveries: How often it may be handed out without a result until it is dead.
        idempotency_key: A second submission with this key adds nothing.
        traceparent: Where the task was made, as W3C Trace Context writes it.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of its range.
        ValidationFailure: JSON cannot encode the payload or the account.

    >>> make_task("forecast", {"city": "Paris"}, id="t1", priority=5)
    NewTask(id='t1', action='forecast', account_key='44136fa355b3678a', provider='', priority=5, \
not_before=None, ttl=None, max_deliveries=10, idempotency_key='', traceparent='')
    """
    task_id = make_task_id() if id is None else id
    texts = {
        "action": action,
        "id": task_id,
        "provider": provider,
        "account_key": account_key,
        "idempotency_key": idempotency_key,
        "traceparent": traceparent,
    }
    for name, text in texts.items():
        _check_text(name, text)
    for name in ("action", "id"):
        if not texts[name]:
            raise ValueError(f"the task's {name} must not be empty")
    # The page of a task has the id in its address.
    if task_id in (".", ".."):
        raise ValueError(
            "the task's id must not be . or .., which a browser takes out of an address"
        )
    _check_integer("priority", priority, -_MAX_PRIORITY, _MAX_PRIORITY)
    _check_integer("max_deliveries", max_deliveries, 1, _MAX_DELIVERIES)
    raw_payload = encode_task_data(payload)
    raw_account = b"" if account is None else encode_task_data(account)
    return NewTask(
        id=task_id,
        action=action,
        payload=raw_payload,
        account=raw_account,
        account_key=account_key or find_account_key(raw_account),
        provider=provider,
        priority=priority,
        not_before=_check_time("not_before", not_before),
        ttl=_check_time("ttl", ttl),
        max_deliveries=max_deliveries,
        idempotency_key=idempotency_key,
        traceparent=traceparent,
        fields=_find_fields(raw_payload),
    )


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"the task's {name} must be a text, not {value!r}")
    # A lone surrogate has no UTF-8, and PostgreSQL has no text with a NUL in it.
    if len(value.encode()) > _MAX_ID or "\0" in value:
        raise ValueError(f"the task's {name} must have at most {_MAX_ID} bytes, and no NUL")


def _check_integer(name: str, value: object, lowest: int, highest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"the task's {name} must be an integer, not {value!r}")
    if not lowest <= value <= highest:
        raise ValueError(f"the task's {name} must be from {lowest} to {highest}, not {value}")


def _check_time(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"the task's {name} must be a number of seconds, not {value!r}")
    if not (math.isfinite(value) and 0 < value < 1e11):
        raise ValueError(f"the task's {name} must be above 0 and finite, not {value!r}")
    return float(value)


def _find_fields(payload: bytes) -> str:
    """Return the payload's top-level values that a search can name, as texts in a JSON object."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return "{}"
    if not isinstance(found, Mapping):
        return "{}"
    fields = {
        name: (value if isinstance(value, str) else json.dumps(value))[:_MAX_FIELD]
        for name, value in [*found.items()][:_MAX_FIELDS]
        if not isinstance(value, (list, dict)) and len(name) <= _MAX_FIELD
    }
    # PostgreSQL cannot keep this character in JSON.
    return json.dumps(fields).replace("\\u0000", "")


def read_result(
    id: str,
    status: str,
    result: str,
    *,
    attempt: int = 0,
    provider: str = "",
    retries_limits: bool = True,
) -> ReceivedResult:
    """Return a result for the store.

    Args:
        id: The task's id.
        status: The result's status, as the provider sent it.
        result: The envelope as JSON text.
        attempt: The attempt's number; 0 if the provider did not send it.
        provider: The provider's name.
        retries_limits: Whether a task over a limit is tried again; otherwise, it has failed.

    >>> envelope = '{"message": "no", "data": {"response": {"wait_time": 2.5}}}'
    >>> read_result("t1", "limit", envelope).wait_time
    2.5
    """
    try:
        envelope = json.loads(result)
    except (ValueError, RecursionError):
        envelope = {}
    message = _get(envelope, "message")
    response = _get(_get(envelope, "data"), "response")
    wait_time = 0.0
    if status == "limit" and retries_limits:
        wait_time = min(read_seconds(_get(response, "wait_time")) or _DEFAULT_WAIT, _MAX_WAIT)
    limit = _get(response, "limit")
    return ReceivedResult(
        id=id,
        attempt=attempt,
        provider=provider,
        status=status,
        result=result,
        message=_text(message)[:_MAX_MESSAGE],
        error_type=_find_error_type(response)[:_MAX_ERROR_TYPE] if status == "error" else "",
        wait_time=wait_time,
        limit=_text(limit)[:_MAX_ERROR_TYPE],
    )


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _text(value: Any) -> str:
    return value.replace("\0", "") if isinstance(value, str) else ""


def _find_error_type(response: Any) -> str:
    """Return the class of an error, or the kind of a refusal."""
    if kind := _text(_get(response, "type")):
        return kind
    if _get(response, "problems"):
        is_about_result = _text(_get(response, "error")).startswith(INVALID_RESULT)
        return "invalid result" if is_about_result else "invalid payload"
    if _get(response, "available_actions") is not None:
        return "unknown action"
    if _get(response, "timeout") is not None:
        return "timeout"
    return "error"
