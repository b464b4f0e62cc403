"""The tasks of the bundled hub: waiting, handed out, answered. In memory, for any thread."""

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

from arbprov.errors import HubError
from arbprov.task import Task

__all__ = ["Backlog", "BacklogFull", "HubStopped", "Submission", "Ticket"]


class BacklogFull(HubError):
    """As many tasks wait for their results as the hub keeps."""


class HubStopped(HubError):
    """The hub has stopped, and no result will come any more."""


@attrs.frozen
class Submission:
    """A result as a provider sent it."""

    id: str
    provider: str
    action: str
    status: str
    payload: str = attrs.field(repr=False)
    result: str = attrs.field(repr=False)
    account: str = attrs.field(repr=False)

    @property
    def envelope(self) -> dict[str, Any]:
        """The whole envelope."""
        return cast("dict[str, Any]", json.loads(self.result))

    @property
    def message(self) -> str:
        """The envelope's message."""
        return cast("str", self.envelope["message"])

    @property
    def data(self) -> Any:
        """What the handler returned, or the details of an error."""
        return self.envelope["data"]["response"]


@attrs.define(eq=False)
class Ticket:
    """A task that was put in, and the way to its result."""

    task: Task
    # Empty: any provider may have it.
    provider: str = ""
    # For `concurrent.futures.wait` and the like, where there are many.
    future: Future[Submission] = attrs.field(factory=Future, init=False, repr=False)

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self.future.done()

    def result(self, timeout: float | None = 10.0) -> Submission:
        """Wait for the result and return it.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            TimeoutError: It did not come in time; the task stays where it is.
            HubStopped: It will never come.
        """
        try:
            return self.future.result(timeout)
        except futures.TimeoutError:  # only from Python 3.11 on a builtin one
            raise TimeoutError(
                f"no result of action {self.task.action!r} within {timeout:g} s; "
                f"does a provider with this action run on this hub?"
            ) from None


class Backlog:
    """Hands each task to one provider, and each result to who put the task in.

    Args:
        capacity: How many tasks may be without a result, and how many results are remembered.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._open: dict[str, Ticket] = {}
        self._closed = False
        # All that came, repeated and unknown ones too, in the order they came.
        self.submissions: deque[Submission] = deque(maxlen=capacity)

    def put(self, ticket: Ticket) -> None:
        """Add a task.

        Raises:
            BacklogFull: Too many tasks are without a result.
            ValueError: A task of that id is without a result.
        """
        with self._changed:
            if len(self._open) >= self._capacity:
                raise BacklogFull(f"{self._capacity} tasks are without a result already")
            if ticket.id in self._open:
                raise ValueError(f"there is a task {ticket.id!r} without a result already")
            self._open[ticket.id] = ticket
            self._waiting.append(ticket)
            self._changed.notify_all()

    def take(
        self, provider: str, timeout: float, wanted: Callable[[], bool] = lambda: True
    ) -> Ticket | None:
        """Return the next task for `provider`.

        Args:
            provider: The provider's name.
            timeout: Seconds to wait for one.
            wanted: Whether it is still wanted; `wake` has it asked again.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while wanted() and not self._closed:
                if ticket := self._next(provider):
                    self._waiting.remove(ticket)
                    return ticket
                if not self._changed.wait(deadline - time.monotonic()):
                    break
            return None

    def put_back(self, ticket: Ticket) -> None:
        """Take back a task that could not be handed over; it is the next one again."""
        with self._changed:
            self._waiting.appendleft(ticket)
            self._changed.notify_all()

    def settle(self, submission: Submission) -> None:
        """Take a result."""
        with self._changed:
            self.submissions.append(submission)
            ticket = self._open.pop(submission.id, None)
        if ticket is not None:
            ticket.future.set_result(submission)

    def wake(self) -> None:
        """Have everybody who waits in `take` look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing any more, and let nobody wait."""
        with self._changed:
            self._closed = True
            for ticket in self._open.values():
                ticket.future.set_exception(HubStopped("the hub has stopped"))
            self._open.clear()
            self._changed.notify_all()

    def _next(self, provider: str) -> Ticket | None:
        return next((t for t in self._waiting if t.provider in ("", provider)), None)
