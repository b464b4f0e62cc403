"""BEGIN HERE: the one seam around a task, for metrics and traces.

An `Observer` is told of each poll, each task and each attempt to send a result. `Observers` passes
that on to all of them, and lets no error of an observer change a task or a stop. Without observers,
a worker does nothing of this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from arbprov.task import Task, TaskKey, TaskResult
from arbprov.wire.hub import Hub, Pause, Renewal
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

    def submitted(self, key: TaskKey, seconds: float, error: Exception | None) -> None:
        """Hear of an attempt to send a result.

        Args:
            key: The task's key; see `Task.key`.
            seconds: How long the attempt took.
            error: Why it has failed, if it has.
        """

    def run_ended(self) -> None:
        """Hear that the worker has ended, as the last event; this may take a second."""


class Observers(Observer):
    """Tells several observers; an observer that raises is reported once, and told no more.

    Args:
        observers: The observers.

    >>> class Printing(Observer):
    ...     def task_started(self, task: Task) -> None:
    ...         print("started", task.id)
    >>> Observers([Printing()]).task_started(Task("t1", "forecast"))
    started t1
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    # Each task has several events: a method that called any method by its name would take longer.

    def polled(self, seconds: float, task: Task | None, error: Exception | None) -> None:
        """Tell of the end of a poll."""
        for observer in self._observers:
            try:
                observer.polled(seconds, task, error)
            except Exception:
                self._drop(observer)

    def task_started(self, task: Task) -> None:
        """Tell of a task that is about to run."""
        for observer in self._observers:
            try:
                observer.task_started(task)
            except Exception:
                self._drop(observer)

    def task_ended(self, result: TaskResult, seconds: float, error: BaseException | None) -> None:
        """Tell of the result of a task."""
        for observer in self._observers:
            try:
                observer.task_ended(result, seconds, error)
            except Exception:
                self._drop(observer)

    def submitted(self, key: TaskKey, seconds: float, error: Exception | None) -> None:
        """Tell of an attempt to send a result."""
        for observer in self._observers:
            try:
                observer.submitted(key, seconds, error)
            except Exception:
                self._drop(observer)

    def run_ended(self) -> None:
        """Tell that the worker has ended."""
        for observer in self._observers:
            try:
                observer.run_ended()
            except Exception:
                self._drop(observer)

    def _drop(self, observer: Observer) -> None:
        self._observers = [other for other in self._observers if other is not observer]
        logger.exception(
            "%s has failed, and sees nothing more of this run", type(observer).__qualname__
        )


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
            self._observers.polled(self._timer() - started_at, None, error)
            raise
        task = answer if isinstance(answer, Task) else None
        self._observers.polled(self._timer() - started_at, task, None)
        return answer

    async def submit(self, message: bytes, attempt: int) -> None:
        """Send a result; see `Hub.submit`."""
        started_at = self._timer()
        key = read_result_id(message), attempt
        try:
            await self._hub.submit(message, attempt)
        except Exception as error:
            self._observers.submitted(key, self._timer() - started_at, error)
            raise
        self._observers.submitted(key, self._timer() - started_at, None)

    @property
    def renew_interval(self) -> float:
        """Seconds between renewals; see `Hub.renew_interval`."""
        return self._hub.renew_interval

    async def renew(self, tasks: Sequence[TaskKey]) -> Renewal:
        """Renew the leases of tasks, which nobody observes; see `Hub.renew`."""
        return await self._hub.renew(tasks)

    @property
    def report_interval(self) -> float:
        """Seconds between reports; see `Hub.report_interval`."""
        return self._hub.report_interval

    async def report(self, fields: bytes) -> bool:
        """Report how this process stands, which nobody observes; see `Hub.report`."""
        return await self._hub.report(fields)

    async def close(self) -> None:
        """Close the connections; see `Hub.close`."""
        await self._hub.close()
