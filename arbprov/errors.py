"""The errors of arbprov.

ProviderError
├ ConfigurationError            the provider author's to mend; at import or start
├ TaskError                     becomes a task's result
│  ├ ActionNotFoundError
│  ├ InvalidPayloadError        also for an account that does not fit
│  ├ RateLimited
│  ├ TaskTimeoutError
│  └ HandlerProcessError     with isolation="process" only
└ HubError
   ├ HubConnectionError         also a builtin ConnectionError
   └ AuthenticationError
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

__all__ = [
    "ActionNotFoundError",
    "AuthenticationError",
    "ConfigurationError",
    "HandlerProcessError",
    "HubConnectionError",
    "HubError",
    "InvalidPayloadError",
    "Problem",
    "ProviderError",
    "RateLimited",
    "TaskError",
    "TaskTimeoutError",
]


@attrs.frozen
class Problem:
    """One thing that is wrong with a payload, an account or a result.

    `path` says where, as in ``user.emails[2]``; it is empty for the whole.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ProviderError(Exception):
    """Whatever arbprov raises."""


class ConfigurationError(ProviderError):
    """The provider's code or settings are wrong, and the message says how to mend them."""


class TaskError(ProviderError):
    """A task that can't be done; it becomes the task's result."""


class ActionNotFoundError(TaskError):
    """The task asks for an action that this provider does not have."""

    def __init__(self, action: str, available_actions: Sequence[str] = ()) -> None:
        super().__init__("Action not found")
        self.action = action
        self.available_actions = list(available_actions)


class InvalidPayloadError(TaskError):
    """The payload or the account does not fit; `problems` says where and why, all at once.

    A handler may raise it too, with a text for the whole payload, or with `Problem` objects.
    """

    def __init__(self, problems: str | Sequence[Problem | str], message: str = "") -> None:
        listed = [problems] if isinstance(problems, str) else problems
        self.problems = [p if isinstance(p, Problem) else Problem("", str(p)) for p in listed]
        super().__init__(message or "; ".join(map(str, self.problems)))


class RateLimited(TaskError):
    """The quota is used up for `retry_after` seconds.

    A limit of arbprov raises it, or a handler that was told so by the API it calls;
    `limit` names the limit, as in ``"5/second"``.

    Raises:
        ValueError: `retry_after` is no number of seconds above 0; a header's text is none either.
    """

    def __init__(self, retry_after: float, limit: str | None = None) -> None:
        # What an API says comes here, as a header's text perhaps.
        if not isinstance(retry_after, (int, float)) or not 0 < retry_after < math.inf:
            raise ValueError(f"retry_after is a number of seconds above 0, not {retry_after!r}")
        super().__init__(f"Rate limit exceeded, retry after {retry_after:g} s")
        self.retry_after = float(retry_after)
        self.limit = limit
        # More for the result, such as the headroom of each limit.
        self.details: dict[str, Any] = {}


class TaskTimeoutError(TaskError):
    """The handler ran longer than its `timeout`, in seconds."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"The action ran longer than its timeout of {timeout:g} s")
        self.timeout = timeout


class HandlerProcessError(TaskError):
    """The process that a handler runs in did not start, ended, or could not be given the task."""


class HubError(ProviderError):
    """The hub could not be asked or told something."""


class HubConnectionError(HubError, ConnectionError):
    """The hub can't be reached."""


class AuthenticationError(HubError):
    """The hub refuses this provider's token."""
