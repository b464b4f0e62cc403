"""Tasks that were put into a hub in this process, and their results."""

from __future__ import annotations

import json
from concurrent import futures
from concurrent.futures import Future
from typing import Any, cast

import attrs
from typing_extensions import Self

from arbprov.errors import HubError
from arbprov.localhub.tasks import StoredTask
from arbprov.task import Task

__all__ = ["BacklogFull", "HubStopped", "Submission", "Ticket"]


class BacklogFull(HubError):
    """The hub has as many tasks without a result as it can keep."""


class HubStopped(HubError):
    """The hub has stopped, so this task will have no result."""


@attrs.frozen
class Submission:
    """A task's result.

    Attributes:
        id: The task's id.
        provider: Name of the provider that ran the task.
        action: The task's action.
        status: ``success``, ``error``, ``warning`` or ``limit``.
        payload: The task's payload, as JSON text.
        result: The envelope, as JSON text.
        account: The task's account, as JSON text.

    >>> result = '{"message": "done", "data": {"response": {"rows": 1}}}'
    >>> submission = Submission("t1", "weather", "forecast", "success", "{}", result, "{}")
    >>> submission.message, submission.data
    ('done', {'rows': 1})
    """

    id: str
    provider: str
    action: str
    status: str
    payload: str = attrs.field(repr=False)
    result: str = attrs.field(repr=False)
    account: str = attrs.field(repr=False)

    @classmethod
    def of(cls, task: StoredTask) -> Self:
        """Return the result of a task that has ended; without a result, an error that says why."""
        status, result = task.status, task.result
        if not result:
            status = "error"
            message = f"the task is {task.state.value}: {task.reason}"
            details = {"error": f"the task is {task.state.value}", "reason": task.reason}
            result = json.dumps(
                {"status": status, "message": message, "data": {"response": details}}
            )
        return cls(
            id=task.id,
            provider=task.worker,
            action=task.action,
            status=status,
            payload=task.payload.decode(errors="replace"),
            result=result,
            account=task.account.decode(errors="replace"),
        )

    @property
    def envelope(self) -> dict[str, Any]:
        """The result's envelope, decoded."""
        return cast("dict[str, Any]", json.loads(self.result))

    @property
    def message(self) -> str:
        """The envelope's message."""
        return cast("str", self.envelope["message"])

    @property
    def data(self) -> Any:
        """The handler's return value, or the details of an error."""
        return self.envelope["data"]["response"]


@attrs.define(eq=False)
class Ticket:
    """A task in the hub, and access to its result.

    Attributes:
        task: The task; with an `idempotency_key`, it has the id of the first task of this key.
        provider: Name of the provider that must run it; empty for any provider.
        future: The result as a future, e.g. for `concurrent.futures.wait`.

    >>> Ticket(Task("t1", "forecast")).done
    False
    """

    task: Task
    provider: str = ""
    future: Future[Submission] = attrs.field(factory=Future, init=False, repr=False)

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def done(self) -> bool:
        """Whether the result has come."""
        return self.future.done()

    def result(self, timeout: float | None = 10.0) -> Submission:
        """Wait for the result and return it.

        Args:
            timeout: Maximum seconds to wait; None waits without a limit.

        Raises:
            TimeoutError: The result did not come in time; the task stays in the hub.
            HubStopped: The hub stopped before the result came.
        """
        try:
            return self.future.result(timeout)
        except futures.TimeoutError:  # a builtin only since Python 3.11
            raise TimeoutError(
                f"no result of action {self.task.action!r} within {timeout:g} s; "
                f"does a provider with this action run on this hub?"
            ) from None
