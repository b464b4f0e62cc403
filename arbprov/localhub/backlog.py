"""The bundled hub's tasks: waiting, handed out, done. In memory and thread-safe."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import Any, cast

import attrs

from arbprov._utils import format_count
from arbprov.errors import HubError
from arbprov.task import Task

__all__ = ["Backlog", "BacklogFull", "HubStopped", "Submission", "Ticket"]


class BacklogFull(HubError):
    """The hub has as many tasks without a result as it can keep."""


class HubStopped(HubError):
    """The hub has stopped, so this task will have no result."""


@attrs.frozen
class Submission:
    """A result as the provider sent it.

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
        task: The task.
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


class Backlog:
    """Hands each task out once, and gives each result to the task's ticket.

    Args:
        capacity: How many tasks may be without a result, and how many results are kept.

    Attributes:
        submissions: Results in the order of arrival, repeated and unknown ones included.

    >>> backlog = Backlog(capacity=10)
    >>> backlog.put(Ticket(Task("t1", "forecast")))
    >>> backlog.take("weather", timeout=0).id
    't1'
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._open: dict[str, Ticket] = {}
        self._closed = False
        self.submissions: deque[Submission] = deque(maxlen=capacity)

    def put(self, ticket: Ticket) -> None:
        """Add a task.

        Raises:
            BacklogFull: Too many tasks have no result yet.
            ValueError: A task with this id has no result yet.
        """
        with self._changed:
            if len(self._open) >= self._capacity:
                raise BacklogFull(
                    f"the hub has {format_count(self._capacity, 'task')} without a result, "
                    f"and keeps no more; wait for some results"
                )
            if ticket.id in self._open:
                raise ValueError(
                    f"there is a task {ticket.id!r} without a result already; use another id"
                )
            self._open[ticket.id] = ticket
            self._waiting.append(ticket)
            self._changed.notify_all()

    def take(
        self, provider: str, timeout: float, wanted: Callable[[], bool] = lambda: True
    ) -> Ticket | None:
        """Hand out the next task for a provider, or None.

        Args:
            provider: The provider's name.
            timeout: Seconds to wait for a task.
            wanted: Returns whether the task is still wanted; called again after each `wake`.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while wanted() and not self._closed:
                for ticket in self._waiting:
                    if ticket.provider in ("", provider):
                        self._waiting.remove(ticket)
                        return ticket
                if not self._changed.wait(deadline - time.monotonic()):
                    break
            return None

    def put_back(self, ticket: Ticket) -> None:
        """Return a task that could not be handed out to the front of the queue."""
        with self._changed:
            self._waiting.appendleft(ticket)
            self._changed.notify_all()

    def complete(self, submission: Submission) -> None:
        """Record a result; the first result of a task is its ticket's."""
        with self._changed:
            self.submissions.append(submission)
            ticket = self._open.pop(submission.id, None)
        if ticket is not None:
            ticket.future.set_result(submission)

    def wake(self) -> None:
        """Have every waiting `take` check again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out no more tasks, and end every wait."""
        with self._changed:
            self._closed = True
            for ticket in self._open.values():
                ticket.future.set_exception(HubStopped("the hub has stopped"))
            self._open.clear()
            self._changed.notify_all()
