"""Testing a provider without a hub, a network or waiting.

>>> from arbprov import ProviderApp
>>> app = ProviderApp("weather")
>>> @app.action
... @app.rate_limit("1/hour")
... def forecast(city: str) -> dict:
...     return {"city": city}
>>> client = app.test_client()
>>> client.call("forecast", {"city": "Paris"}).data
{'city': 'Paris'}
>>> client.call("forecast", {"city": "Paris"}).status
<Status.LIMIT: 'limit'>
>>> client.clock.advance(3601)
>>> client.call("forecast", {}).problems
[{'path': 'city', 'message': 'required field is missing'}]
"""

from __future__ import annotations

import itertools
import math
from datetime import datetime, timedelta, timezone
from types import TracebackType

from arbprov.dispatcher import Dispatcher
from arbprov.executors.inline import InlineRunner, make_task
from arbprov.hooks import Hooks
from arbprov.payload.serialize import TaskData
from arbprov.task import Task, TaskResult

__all__ = ["TestClient", "VirtualClock"]


class VirtualClock:
    """A clock that stands still until somebody advances it.

    Args:
        start: The wall clock's time at the beginning, aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)) -> None:
        self._start = start.astimezone(timezone.utc)
        self._elapsed = 0.0

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            ValueError: They are negative, or without end.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time only ever grows, so it can't advance by {seconds!r} s")
        self._elapsed += seconds

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._elapsed

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return self._start + timedelta(seconds=self._elapsed)


class TestClient:
    """Runs the actions of an app, as `ProviderApp.test_client` returns it.

    It is the real dispatcher, with JSON both ways. Used with ``with``, it runs the startup and
    shutdown hooks, and all its calls share one event loop.

    Attributes:
        clock: The time that limits, timeouts and envelopes see; a call that waits for a limit
            advances it.
        limits: What is left of the limits, and what they have decided.
        raise_errors: Whether a handler's exception comes through, rather than its error result.
    """

    __test__ = False

    def __init__(self, dispatcher: Dispatcher, hooks: Hooks, clock: VirtualClock) -> None:
        self.clock = clock
        self.limits = dispatcher.limit_stats()
        self.raise_errors = False
        self._runner = InlineRunner(dispatcher, hooks, clock.advance)
        self._ids = itertools.count(1)

    def call(
        self,
        action: str,
        payload: TaskData = None,
        *,
        account: TaskData = None,
        id: str | None = None,
    ) -> TaskResult:
        """Run an action, ``async`` or not, and return its result.

        Args:
            action: Its name.
            payload: A mapping that becomes JSON, or the bytes of a task as they are.
            account: The same.
            id: The task's id; numbered, if not given.

        Raises:
            RuntimeError: An event loop runs here; use `acall`.
            Exception: The handler's, with `raise_errors`.
        """
        return self._runner.run(self._task(action, payload, account, id), self.raise_errors)

    async def acall(
        self,
        action: str,
        payload: TaskData = None,
        *,
        account: TaskData = None,
        id: str | None = None,
    ) -> TaskResult:
        """Run an action in the running event loop; see `call`."""
        task = self._task(action, payload, account, id)
        return await self._runner.run_async(task, self.raise_errors)

    def __enter__(self) -> TestClient:
        self._runner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.__exit__(kind, error, traceback)

    def _task(self, action: str, payload: TaskData, account: TaskData, id: str | None) -> Task:
        number = f"test-{next(self._ids)}" if id is None else id
        return make_task(number, action, payload, account)
