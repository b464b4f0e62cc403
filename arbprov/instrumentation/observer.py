"""BEGIN HERE: the one seam around a task, for metrics and traces.

An `Observer` is told of each poll, each task and each attempt to send a result. `Observers` passes
that on to all of them, and lets no error of an observer change a task or a stop. Without observers,
a worker does nothing of this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from arbprov.task import Task, TaskResult
from arbprov.wire.hub import Hub, Pause
from arbprov.wire.messages import read_result_id

__all__ = ["ObservedHub", "Observer", "Observers"]

logger = logging.getLogger("arbprov")


class Observer:
    """Is told what happens to tasks; its methods do nothing, and a subclass overrides some.

    All methods are called on the worker's event loop; only `run_ended` may block. Times are seconds
    of `time.perf_counter`.
    """

    def polled(self, seconds: float, task: Task | None, error: Exception | None) -> None:
        """Hear of the end of a poll.

        Args:
            seconds: How long the hub took to answer.
            task: The task that the poll has brought, if any.
            error: Why the poll has failed, if it has.
        """

    def task_started(self, task: Task) -> None:
        """Hear of a task that is about to run, in the context that its handler will copy."""

    def task_ended(self, result: TaskResult, seconds: float, error: BaseException | None) -> None:
        """Hear of the result of a task, in the context of `task_started`.

        Args:
            result: The finished result.
            seconds: From the start of the task until then.
            error: What the handler or its limits have raised, if that is the result.
        """

    def submitted(self, id: str, seconds: float, error: Exception | None) -> None:
        """Hear of an attempt to send a result.

        Args:
            id: The task's id.
            seconds: How long the attempt took.
            error: Why it has failed, if it has.
        """

    def run_ended(self) -> None:
        """Hear that the worker has ended, as the last event; this may take a second."""


_EVENTS = [name for name in vars(Observer) if not name.startswith("_")]


class Observers:
    """Tells several observers; an observer that raises is reported once, and told no more.

    Args:
        observers: The observers.

    >>> class Printing(Observer):
    ...     def task_started(self, task: Task) -> None:
    ...         print("started", task.id)
    >>> Observers([Printing()]).tell("task_started", Task("t1", "forecast"))
    started t1
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._set(observers)

    def tell(self, event: str, *arguments: Any) -> None:
        """Call the method of this name of each observer that overrides it."""
        for observer, method in self._methods[event]:
            try:
                method(*arguments)
            except Exception:
                self._set([other for other in self._observers if other is not observer])
                logger.exception(
                    "%s has failed, and sees nothing more of this run", type(observer).__qualname__
                )

    def _set(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        # By event, since each task has several.
        self._methods = {
            event: [
                (observer, getattr(observer, event))
                for observer in observers
                if getattr(type(observer), event) is not getattr(Observer, event)
            ]
            for event in _EVENTS
        }


class ObservedHub:
    """A hub whose polls and submissions are observed; see `Hub`.

    Args:
        hub: The hub.
        observers: Are told.
        timer: Returns seconds.
    """

    def __init__(
        self, hub: Hub, observers: Observers, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._hub = hub
        self._observers = observers
        self._timer = timer

    @property
    def is_connected(self) -> bool:
        """Whether an unanswered poll may bring a task; see `Hub.is_connected`."""
        return self._hub.is_connected

    async def fetch(self) -> Task | Pause | None:
        """Poll once; see `Hub.fetch`."""
        started_at = self._timer()
        try:
            answer = await self._hub.fetch()
        except Exception as error:
            self._observers.tell("polled", self._timer() - started_at, None, error)
            raise
        task = answer if isinstance(answer, Task) else None
        self._observers.tell("polled", self._timer() - started_at, task, None)
        return answer

    async def submit(self, message: bytes) -> None:
        """Send a result; see `Hub.submit`."""
        started_at = self._timer()
        try:
            await self._hub.submit(message)
        except Exception as error:
            self._tell_submitted(message, started_at, error)
            raise
        self._tell_submitted(message, started_at, None)

    def _tell_submitted(self, message: bytes, started_at: float, error: Exception | None) -> None:
        seconds = self._timer() - started_at
        self._observers.tell("submitted", read_result_id(message), seconds, error)

    async def close(self) -> None:
        """Close the connections; see `Hub.close`."""
        await self._hub.close()
