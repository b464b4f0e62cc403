"""The errors of arbprov.

ProviderError
├ ConfigurationError            the provider's code or settings are wrong; at import or start
├ TaskError                     becomes a task's result
│  ├ ActionNotFoundError
│  ├ InvalidPayloadError        the payload or the account
│  ├ RateLimited
│  ├ TaskTimeoutError
│  └ HandlerProcessError        with isolation="process" only
└ HubError
   ├ HubConnectionError         is a builtin ConnectionError too
   └ AuthenticationError
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from arbprov._utils import read_seconds

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
    """One problem of a payload, an account or a result.

    >>> str(Problem("user.emails[2]", "expected a string, got an integer"))
    'user.emails[2]: expected a string, got an integer'

    Attributes:
        path: Where the problem is, as in ``user.emails[2]``; empty for the whole object.
        message: The problem, in a few words.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ProviderError(Exception):
    """The base class of all errors of arbprov.

    >>> issubclass(RateLimited, ProviderError)
    True
    """


class ConfigurationError(ProviderError):
    """The provider's code or settings are wrong; the message says how to fix them.

    >>> from arbprov import ProviderApp
    >>> ProviderApp("shop", concurrency=0)
    Traceback (most recent call last):
        ...
    arbprov.errors.ConfigurationError: concurrency= 0 must be greater than 0
    """


class TaskError(ProviderError):
    """The task can't be done; the error becomes its result.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> @app.action
    ... def price(item: str):
    ...     raise TaskError(f"There is no {item} today")
    >>> result = app.test_client().call("price", {"item": "tea"})
    >>> result.status, result.message
    (<Status.ERROR: 'error'>, 'There is no tea today')
    """


class ActionNotFoundError(TaskError):
    """The provider has no such action.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> _ = app.action("price")(lambda item: item)
    >>> app.test_client().call("prize").data
    {'error': 'Action not found', 'available_actions': ['price']}

    Attributes:
        action: The action that the task asks for.
        available_actions: The names of the provider's actions.
    """

    def __init__(self, action: str, available_actions: Sequence[str] = ()) -> None:
        super().__init__("Action not found")
        self.action = action
        self.available_actions = list(available_actions)


class InvalidPayloadError(TaskError):
    """The payload or the account does not fit; all problems are listed.

    A handler raises it for problems that types can't express.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> @app.action
    ... def order(amount: int):
    ...     if amount < 1:
    ...         raise InvalidPayloadError([Problem("amount", "must be at least 1")])
    >>> app.test_client().call("order", {"amount": 0}).problems
    [{'path': 'amount', 'message': 'must be at least 1'}]

    Args:
        problems: A text about the whole payload, or a list of texts and `Problem` objects.
        message: The result's message; the problems joined by default.
        count: How many problems there are, if more than are listed.
    """

    def __init__(
        self, problems: str | Sequence[Problem | str], message: str = "", count: int = 0
    ) -> None:
        listed = [problems] if isinstance(problems, str) else problems
        self.problems = [p if isinstance(p, Problem) else Problem("", str(p)) for p in listed]
        self.count = max(count, len(self.problems))
        # Empty if the problems speak for themselves.
        self.message = message
        super().__init__(message or "; ".join(map(str, self.problems)))


class RateLimited(TaskError):
    """A quota is used up for `retry_after` seconds.

    A limit of arbprov raises it. A handler raises it when an API throttles its call; the limit then
    refuses all calls of the same key until that time.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> @app.action
    ... @app.rate_limit("100/minute")
    ... def search(text: str):
    ...     raise RateLimited(retry_after=30)  # from the API's Retry-After header
    >>> client = app.test_client()
    >>> [client.call("search", {"text": "tea"}).wait_time for _ in range(2)]
    [30.0, 30.0]

    Args:
        retry_after: Seconds until the quota is free again: a number, or its text, as in a
            Retry-After header. 0 and less are 1 second: a retry soon. A year at most.
        limit: The limit's name or text, as in ``"5/second"``. By default, all limits of the call
            that have a key; if none has, the action's own; else all.

    Raises:
        ValueError: `retry_after` is not a finite number. A header's date has to be converted.
    """

    def __init__(self, retry_after: float | str, limit: str | None = None) -> None:
        seconds = read_seconds(retry_after)
        if seconds is None:
            raise ValueError(f"retry_after must be a number of seconds, not {retry_after!r}")
        super().__init__(f"Rate limit exceeded, retry after {seconds:g} s")
        self.retry_after = seconds
        self.limit = limit
        # Whether an API has asked for it, so that its limits have to refuse other calls too.
        self.starts_cooldown = True
        # The result's message, if it says more than that a limit is exceeded.
        self.reason = ""
        # Further data of the result, such as the headroom of each limit.
        self.details: dict[str, Any] = {}


class TaskTimeoutError(TaskError):
    """The handler ran longer than its timeout.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop", execution_timeout=1)
    >>> _ = app.action("slow")(lambda: client.clock.advance(2))
    >>> client = app.test_client()
    >>> client.call("slow").message
    'The action ran longer than its timeout of 1 s'

    Attributes:
        timeout: The timeout in seconds.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(f"The action ran longer than its timeout of {timeout:g} s")
        self.timeout = timeout


class HandlerProcessError(TaskError):
    """The process of an isolated handler did not start, ended early, or could not take the task.

    >>> from arbprov import ProviderApp, ProviderResponse
    >>> app = ProviderApp("press")
    >>> @app.errorhandler(HandlerProcessError)
    ... def crashed(error: HandlerProcessError):
    ...     return ProviderResponse("error", message="The page could not be rendered")
    """


class HubError(ProviderError):
    """A call to the hub failed. The `on_disconnect` and `on_submit_failed` hooks get it.

    >>> issubclass(HubConnectionError, HubError), issubclass(AuthenticationError, HubError)
    (True, True)
    """


class HubConnectionError(HubError, ConnectionError):
    """The hub can't be reached.

    `ProviderApp.run` raises it if the hub was not reached within `start_timeout`.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop", hub_url="127.0.0.1:1", start_timeout=0.1)
    >>> try:
    ...     app.run(auth_token="sample-token")
    ... except HubConnectionError as error:
    ...     print(str(error).partition(",")[0])
    the hub was not reached within 0.1 s
    """


class AuthenticationError(HubError):
    """The hub refuses the provider's token.

    `ProviderApp.run` raises it: at the first contact at once, later after a minute of retries.

    >>> from arbprov import ProviderApp
    >>> from arbprov.localhub import LocalHub
    >>> with LocalHub(token="right") as hub:
    ...     try:
    ...         ProviderApp("shop", hub_url=hub.url).run(auth_token="wrong")
    ...     except AuthenticationError:
    ...         print("refused")
    refused
    """
