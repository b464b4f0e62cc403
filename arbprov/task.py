"""What is asked of a provider and what it answers: frozen values, no behaviour."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, cast

import attrs

__all__ = ["ProviderResponse", "Status", "Task", "TaskResult"]


class Status(str, enum.Enum):
    """How a task ended."""

    SUCCESS = "success"
    ERROR = "error"
    WARNING = "warning"
    LIMIT = "limit"

    @property
    def default_message(self) -> str:
        """The message of a result whose handler gave none."""
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
        raise ValueError(f"{value!r} is no status; it is one of {known}") from None


def _to_text(message: str) -> str:
    if not isinstance(message, str):
        raise TypeError(f"a message is a text, not {message!r}")
    # A lone surrogate is no character, and UTF-8 has no bytes for it.
    return message if message.isascii() else message.encode(errors="replace").decode()


@attrs.frozen
class Task:
    """One task, as the hub handed it out; `payload` and `account` are JSON objects."""

    id: str
    action: str
    payload: bytes = attrs.field(default=b"{}", repr=False)
    account: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen(init=False)
class ProviderResponse:
    """What a handler returns to choose its status and message.

    >>> ProviderResponse("warning", message="Only half of it was there", data={"rows": 5}).status
    <Status.WARNING: 'warning'>

    Args:
        status: ``success``, ``error``, ``warning`` or ``limit``; a `Status` or its text.
        message: One sentence; without it, the status has one.
        data: Whatever JSON can carry; None stands for ``{}``.

    Raises:
        ValueError: There is no such status.
    """

    status: Status
    message: str = attrs.field(converter=_to_text)
    data: Any

    def __init__(self, status: Status | str, message: str | None = None, data: Any = None) -> None:
        chosen = _to_status(status)
        self.__attrs_init__(chosen, message or chosen.default_message, {} if data is None else data)


@attrs.frozen
class TaskResult:
    """How a task ended, as hooks and tests see it and the hub gets it.

    `data` is what stands under ``response`` in the envelope: what the handler returned, or
    the details of an error. Hooks change a result with ``attrs.evolve(result, data=...)``.
    """

    task: Task
    status: Status = attrs.field(converter=_to_status)
    message: str = attrs.field(converter=_to_text)
    data: Any
    # The whole envelope as JSON text; the dispatcher fills it in last.
    body: str = attrs.field(default="", repr=False)

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
        """The whole envelope, as the hub gets it."""
        import json

        return cast("dict[str, Any]", json.loads(self.body))

    @property
    def wait_time(self) -> float | None:
        """Seconds until the limit that refused the task would admit it, else None."""
        return cast("float | None", self._detail("wait_time"))

    @property
    def problems(self) -> list[dict[str, str]]:
        """What did not fit in the payload or the account, each with `path` and `message`."""
        return cast("list[dict[str, str]]", self._detail("problems") or [])

    def _detail(self, name: str) -> Any:
        refused = self.status in (Status.ERROR, Status.LIMIT)
        return self.data.get(name) if refused and isinstance(self.data, Mapping) else None
