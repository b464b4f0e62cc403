"""What the hub is told of an error: a status, one sentence and the details."""

from __future__ import annotations

import functools
from typing import Any

import attrs

from arbprov.errors import (
    ActionNotFoundError,
    InvalidPayloadError,
    Problem,
    RateLimited,
    TaskTimeoutError,
)
from arbprov.payload.validation import ValidationFailure
from arbprov.task import ProviderResponse, Status

__all__ = ["OWN_KEYS", "error_response"]

# The keys that responses of arbprov's own may have, those of headroom included.
OWN_KEYS = frozenset(
    [
        "available_actions",
        "error",
        "limit",
        "limits",
        "message",
        "path",
        "problems",
        "remaining",
        "timeout",
        "type",
        "wait_time",
    ]
)


@functools.singledispatch
def error_response(error: BaseException) -> ProviderResponse:
    """Return the response that stands for `error`; no traceback, whatever it is."""
    text = _text(error)
    return _error(text, error=text, type=type(error).__name__)


@error_response.register
def _(error: ActionNotFoundError) -> ProviderResponse:
    return _error(str(error), error=str(error), available_actions=error.available_actions)


@error_response.register
def _(error: InvalidPayloadError) -> ProviderResponse:
    return _error(str(error), error=str(error), problems=_listed(error.problems))


@error_response.register
def _(error: ValidationFailure) -> ProviderResponse:
    text = "The action returned what JSON can't carry: "
    text += "; ".join(str(problem) for problem in error.problems)
    return _error(text, error=text, problems=_listed(error.problems))


@error_response.register
def _(error: TaskTimeoutError) -> ProviderResponse:
    return _error(str(error), error=str(error), timeout=error.timeout)


@error_response.register
def _(error: RateLimited) -> ProviderResponse:
    data = {"wait_time": error.retry_after, "limit": error.limit, **error.details}
    return ProviderResponse(Status.LIMIT, data=data)


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # an exception whose own __str__ fails
        return type(error).__name__


def _error(message: str, **details: Any) -> ProviderResponse:
    return ProviderResponse(Status.ERROR, message, details)


def _listed(problems: list[Problem]) -> list[dict[str, str]]:
    return [attrs.asdict(problem) for problem in problems]
