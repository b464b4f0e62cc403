"""Tasks and their results, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from arbprov._utils import TextEnum, read_number

__all__ = ["ProviderResponse", "Status", "Task", "TaskKey", "TaskResult"]

# A task's id, and the number of the attempt: what tells one run from all others.
TaskKey = tuple[str, int]


class Status(TextEnum):
    """How a task ended; each member equals its text.

    >>> Status.LIMIT == "limit", f"{Status.LIMIT}"
    (True, 'limit')
    """

    SUCCESS = "success"
    ERROR = "error"
    WARNING = "warning"
    LIMIT = "limit"

    @property
    def default_message(self) -> str:
        """The message of a result whose handler gave no message.

        >>> Status.SUCCESS.default_message
        'Action completed successfully'
        """
        return _DEFAULT_MESSAGES[self]


_DEFAULT_MESSAGES = {
    Status.SUCCESS: "Action completed successfully",
    Status.ERROR: "Action failed",
    Status.WARNING: "Action completed with warnings",
    Status.LIMIT: "Rate limit exceeded",
}


def _to_status(value: Status | str) -> Status:
    if type(value) is Status:
        return value
    try:
        return Status(value)
    except ValueError:
        known = ", ".join(repr(status.value) for status in Status)
        raise ValueError(f"status must be one of {known}, not {value!r}") from None


def _to_text(message: str) -> str:
    if not isinstance(message, str):
        raise TypeError(f"message must be a string, not {message!r}")
    if type(message) is not str:  # a subclass may have methods that raise
        message = str.__str__(message)
    # UTF-8 has no bytes for a lone surrogate.
    return message if message.isascii() else message.encode(errors="replace").decode()


@attrs.frozen
class Task:
    """A task of the hub.

    >>> Task("7", "price", b'{"item": "tea"}')
    Task(id='7', action='price')

    Attributes:
        id: The hub's id of the task.
        action: The name of the action to run.
        payload: A JSON object as bytes.
        account: A JSON object as bytes; empty stands for ``{}``.
        traceparent: Where the task was made, as W3C Trace Context writes it; empty if unknown.
        attempt: The hub's number of this attempt, from 1; 0 if the hub does not number attempts.
            The tries of `ProviderApp.retry` all belong to the same attempt.
    """

    id: str
    action: str
    payload: bytes = b"{}"
    account: bytes = b""
    traceparent: str = attrs.field(default="", eq=False)
    attempt: int = 0

    def __repr__(self) -> str:
        attempt = f", attempt={self.attempt}" if self.attempt else ""
        return f"Task(id={self.id!r}, action={self.action!r}{attempt})"

    @property
    def key(self) -> TaskKey:
        """The id and the attempt: a task with the same key is the same delivery, sent again."""
        return self.id, self.attempt


@attrs.frozen(init=False)
class ProviderResponse:
    """A handler's answer with a status and a message; plain data is a ``success``.

    >>> ProviderResponse("warning", message="Two rows have no id", data={"rows": 5}).status
    <Status.WARNING: 'warning'>

    Args:
        status: ``success``, ``error``, ``warning`` or ``limit``; a `Status` or its text.
        message: One sentence; the status has a default.
        data: Any JSON value; None stands for ``{}``.

    Raises:
        ValueError: The status is unknown.
        TypeError: The message is not a string.
    """

    status: Status
    message: str = attrs.field(converter=_to_text)
    data: Any

    def __init__(self, status: Status | str, message: str | None = None, data: Any = None) -> None:
        chosen = _to_status(status)
        self.__attrs_init__(chosen, message or chosen.default_message, {} if data is None else data)


@attrs.frozen
class TaskResult:
    """The result of a task, as hooks and tests see it and the hub gets it.

    An `after_task` hook changes a result with ``attrs.evolve(result, data=...)``.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> _ = app.action("price")(lambda item: {"item": item})
    >>> result = app.test_client().call("price", {"item": "tea"})
    >>> result.status, result.data
    (<Status.SUCCESS: 'success'>, {'item': 'tea'})
    >>> result.envelope["data"]["response"]
    {'item': 'tea'}

    Attributes:
        task: The task.
        status: How the task ended.
        message: One sentence.
        data: The handler's value, or the details of an error: ``response`` in the envelope.
        body: The envelope as JSON text; empty until the result is final.
    """

    task: Task
    status: Status = attrs.field(converter=_to_status)
    message: str = attrs.field(converter=_to_text)
    data: Any
    body: str = attrs.field(default="", repr=False)
    _ignored: tuple[str, ...] = attrs.field(default=(), repr=False)

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def action(self) -> str:
        """The task's action."""
        return self.task.action

    @property
    def envelope(self) -> dict[str, Any]:
        """The envelope, as the hub gets it."""
        import json

        return cast("dict[str, Any]", json.loads(self.body))

    @property
    def wait_time(self) -> float | None:
        """Seconds until the limit that refused the task would admit it; None without one."""
        return read_number(self._detail("wait_time"))

    @property
    def problems(self) -> list[dict[str, str]]:
        """The problems of the payload or the account, each with `path` and `message`.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> _ = app.action("price")(lambda item: {"item": item})
        >>> app.test_client().call("price", {}).problems
        [{'path': 'item', 'message': 'required field is missing'}]
        """
        return cast("list[dict[str, str]]", self._detail("problems") or [])

    @property
    def ignored(self) -> list[str]:
        """The paths of the payload's fields that nothing has read, such as misspelt fields.

        The test client and `app.invoke` find them. In a hook or a worker, the list is empty.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> _ = app.action("price")(lambda item, currency="EUR": {"item": item})
        >>> app.test_client().call("price", {"item": "tea", "curency": "USD"}).ignored
        ['curency']
        """
        return list(self._ignored)

    def _detail(self, name: str) -> Any:
        refused = self.status in (Status.ERROR, Status.LIMIT)
        return self.data.get(name) if refused and isinstance(self.data, Mapping) else None
