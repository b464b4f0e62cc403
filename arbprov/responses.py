"""Results and errors as the hub gets them: status, message, data, and the envelope around them."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Any

import attrs

from arbprov._utils import MEBIBYTE
from arbprov.errors import (
    ActionNotFoundError,
    InvalidPayloadError,
    Problem,
    RateLimited,
    TaskError,
    TaskTimeoutError,
)
from arbprov.payload.json import dumps
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import redact
from arbprov.task import ProviderResponse, Status, Task, TaskResult

__all__ = [
    "ARBPROV_KEYS",
    "MAX_RESULT_SIZE",
    "ResultTooLargeError",
    "error_response",
    "error_result",
    "name_fields",
    "redact_result",
    "success_result",
    "write_envelope",
]

# Bytes of a result's message and data, as JSON. Protobuf ends the process with a message of 2 GiB,
# and SQLite stores at most 1,000,000,000 bytes, the task's payload and account included.
MAX_RESULT_SIZE = 256 * MEBIBYTE

# Every key that arbprov itself writes into `data`, also for the headroom of limits.
ARBPROV_KEYS = frozenset(
    [
        "action",
        "available_actions",
        "cooldown",
        "error",
        "limit",
        "limits",
        "message",
        "path",
        "problems",
        "remaining",
        "timeout",
        "type",
        "until",
        "wait_time",
    ]
)


class ResultTooLargeError(TaskError):
    """The error that is sent in place of a result that is too large."""


@functools.singledispatch
def error_response(error: BaseException) -> ProviderResponse:
    """Return the response to an error, without a traceback.

    >>> error_response(ValueError("sold out")).data
    {'error': 'sold out', 'type': 'ValueError'}
    """
    try:
        text = str(error) or type(error).__name__
    except Exception:  # its own __str__ failed
        text = type(error).__name__
    return _error(text, error=text, type=type(error).__name__)


@error_response.register
def _(error: ActionNotFoundError) -> ProviderResponse:
    return _error(str(error), error=str(error), available_actions=error.available_actions)


@error_response.register
def _(error: InvalidPayloadError) -> ProviderResponse:
    return _error(str(error), error=str(error), problems=_problem_dicts(error.problems))


@error_response.register
def _(error: ValidationFailure) -> ProviderResponse:
    text = "The action returned what JSON can't carry: "
    text += "; ".join(str(problem) for problem in error.problems)
    return _error(text, error=text, problems=_problem_dicts(error.problems))


@error_response.register
def _(error: TaskTimeoutError) -> ProviderResponse:
    return _error(str(error), error=str(error), timeout=error.timeout)


@error_response.register
def _(error: RateLimited) -> ProviderResponse:
    data = {"wait_time": error.retry_after, "limit": error.limit, **error.details}
    return ProviderResponse(Status.LIMIT, error.reason, data)


def _error(message: str, **details: Any) -> ProviderResponse:
    return ProviderResponse(Status.ERROR, message, details)


def _problem_dicts(problems: list[Problem]) -> list[dict[str, str]]:
    return [attrs.asdict(problem) for problem in problems]


def success_result(task: Task, value: Any) -> TaskResult:
    """Return the result of a handler that returned `value`.

    Raises:
        ValidationFailure: A part of the value has no JSON form.
    """
    if isinstance(value, ProviderResponse):
        return TaskResult(task, value.status, value.message, to_builtins(value.data))
    data = {} if value is None else to_builtins(value)
    return TaskResult(task, Status.SUCCESS, Status.SUCCESS.default_message, data)


def error_result(task: Task, error: BaseException, secrets: Sequence[str]) -> TaskResult:
    """Return the redacted result of a task that ends with an error.

    Raises:
        ValidationFailure: A part of the error's details has no JSON form.
    """
    response = error_response(error)
    data = to_builtins(_redact_data(response.data, secrets))
    return TaskResult(task, response.status, redact(response.message, secrets), data)


def redact_result(result: TaskResult, secrets: Sequence[str]) -> TaskResult:
    """Return a result with its message and its data redacted."""
    data = _redact_data(result.data, secrets)
    return attrs.evolve(result, message=redact(result.message, secrets), data=data)


def _redact_data(data: Any, secrets: Sequence[str]) -> Any:
    if isinstance(data, str):
        return redact(data, secrets)
    if isinstance(data, dict):
        # A key that arbprov writes is not a secret, and readers of the result rely on it.
        return {
            key if key in ARBPROV_KEYS else redact(key, secrets): _redact_data(item, secrets)
            for key, item in data.items()
        }
    if isinstance(data, list):
        return [_redact_data(item, secrets) for item in data]
    return data


def name_fields(provider: str, action: str) -> str:
    """Return the envelope's fields that name the provider and the action, as JSON."""
    return f'"provider":{dumps(provider)},"action":{dumps(action)}'


def write_envelope(
    result: TaskResult, names: str, now: dt.datetime, timezone: dt.tzinfo, timezone_name: str
) -> str:
    """Return a result's envelope as JSON.

    Args:
        result: The result.
        names: Its `name_fields`.
        now: The time, to the second.
        timezone: Of the envelope's `now`.
        timezone_name: Of the envelope's `timezone`.

    Raises:
        ResultTooLargeError: Message and data together have more bytes than `MAX_RESULT_SIZE`.
    """
    if len(result.message) > MAX_RESULT_SIZE // 4:
        _check_size(result.message)
    message, response = dumps(result.message), dumps(result.data)
    # A character has up to four bytes.
    if len(message) + len(response) > MAX_RESULT_SIZE // 4:
        _check_size(message, response)
    times = _time_fields(now.timestamp() // 1, timezone, timezone_name)
    return (
        f'{{"status":"{result.status.value}","message":{message},'
        f'"data":{{{names},{times},"response":{response}}}}}'
    )


def _check_size(*texts: str) -> None:
    size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
    if size > MAX_RESULT_SIZE:
        raise ResultTooLargeError(
            f"the result has {size:,} bytes, and at most {MAX_RESULT_SIZE:,} can be sent; return "
            f"less, or where the data can be found"
        )


# Each second is written only once, not for each task.
@functools.lru_cache(maxsize=16)
def _time_fields(second: float, timezone: dt.tzinfo, name: str) -> str:
    now_utc = dt.datetime.fromtimestamp(second, dt.timezone.utc)
    now = now_utc.astimezone(timezone)
    return f'"timezone":{dumps(name)},"now":"{now.isoformat()}","now_utc":"{now_utc.isoformat()}"'
