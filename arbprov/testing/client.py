"""Testing a provider without a hub, without a network and without waiting."""

from __future__ import annotations

import itertools
import math
import time
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import TYPE_CHECKING

from arbprov.dispatcher import Dispatcher
from arbprov.executors.inline import InlineRunner, make_task
from arbprov.hooks import Hooks
from arbprov.payload.serialize import TaskData
from arbprov.task import Task, TaskResult

if TYPE_CHECKING:
    from arbprov.testing.loop import SkippingLoop

__all__ = ["TestClient", "VirtualClock"]


class VirtualClock:
    """A clock that stands still until it is advanced.

    Args:
        start: The wall clock's first time, with a time zone.

    >>> clock = VirtualClock()
    >>> clock.now().isoformat()
    '2026-01-01T00:00:00+00:00'
    >>> clock.advance(90)
    >>> clock.now().isoformat(), clock.monotonic()
    ('2026-01-01T00:01:30+00:00', 90.0)
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)) -> None:
        self._start = start.astimezone(timezone.utc)
        self._elapsed = 0.0
        # Seconds of `_elapsed` that really passed, since a loop had to wait for IO or a thread.
        self._waited = 0.0
        # The event loops that live by this clock.
        self._loops: list[SkippingLoop] = []

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; tasks that sleep until then in a client's event loop wake up.

        Raises:
            ValueError: `seconds` is negative, infinite or NaN.

        >>> VirtualClock().advance(-1)
        Traceback (most recent call last):
            ...
        ValueError: a clock can't advance by -1 s; give a finite number of seconds, 0 or more
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(
                f"a clock can't advance by {seconds!r} s; give a finite number of seconds, "
                f"0 or more"
            )
        when = self._elapsed + seconds
        for loop in tuple(self._loops):
            loop.run_until(when)
        self._jump_to(when)
        for loop in tuple(self._loops):
            loop.wake()

    def _jump_to(self, when: float) -> None:
        self._elapsed = max(self._elapsed, when)

    def _wait(self, seconds: float) -> None:
        self._elapsed += seconds
        self._waited += seconds

    def monotonic(self) -> float:
        """Return the seconds that have passed since the start.

        >>> VirtualClock().monotonic()
        0.0
        """
        return self._elapsed

    def now(self) -> datetime:
        """Return the wall clock's time in UTC.

        >>> VirtualClock(datetime(2030, 5, 1, tzinfo=timezone.utc)).now().year
        2030
        """
        return self._start + timedelta(seconds=self._elapsed)


class TestClient:
    """Runs the actions of an app as a worker would, with JSON in both directions.

    `ProviderApp.test_client` makes it. In a ``with`` statement, it enters the lifespan, runs the
    startup and shutdown hooks, and its calls share an event loop. In an async test, ``async with``
    does the same in the test's own loop, for `acall`.

    Attributes:
        clock: The time that limits, timeouts and envelopes see. A call that waits for a limit
            advances it.
        limits: Headroom and counts of the client's limits.
        raise_errors: Whether a handler's exception is raised by `call`, and not made a result.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("weather")
    >>> @app.on_startup
    ... def connect():
    ...     print("connected")
    >>> @app.action
    ... @app.rate_limit("1/hour")
    ... def forecast(city: str) -> dict:
    ...     return {"city": city}
    >>> with app.test_client() as client:
    ...     [client.call("forecast", {"city": "Paris"}).status.value for _ in range(2)]
    connected
    ['success', 'limit']
    >>> client.limits.headroom("forecast")
    [Headroom(limit='1/hour', remaining=0, wait_time=3600.0)]
    """

    __test__ = False

    def __init__(self, dispatcher: Dispatcher, hooks: Hooks, clock: VirtualClock) -> None:
        self.clock = clock
        self.limits = dispatcher.limit_stats()
        self.raise_errors = False
        self._ids = itertools.count(1)

        def new_loop() -> SkippingLoop:
            # asyncio would make plain handlers' tests start much slower.
            from arbprov.testing.loop import SkippingLoop

            return SkippingLoop(clock)

        def working_time() -> float:
            # Grows while code runs, and not while a loop waits.
            return time.perf_counter() - clock._waited

        self._runner = InlineRunner(dispatcher, hooks, clock.advance, new_loop, working_time)

    def call(
        self,
        action: str,
        payload: TaskData = None,
        *,
        account: TaskData = None,
        id: str | None = None,
    ) -> TaskResult:
        """Run an action, plain or ``async``, and return its result.

        Args:
            action: The action's name.
            payload: A mapping, to be encoded as JSON; or the JSON object as bytes.
            account: A mapping or bytes, like `payload`.
            id: The task's id; by default ``test-1``, ``test-2`` and so on.

        Raises:
            RuntimeError: An event loop runs in this thread, and the handler needs one; use `acall`.
            ValueError: JSON has no form for the payload or the account; the message has the paths.
            Exception: The handler's exception, with `raise_errors`.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("weather")
        >>> @app.action
        ... def forecast(city: str) -> dict:
        ...     return {"city": city}
        >>> client = app.test_client()
        >>> client.call("forecast", {"city": "Paris"}).data
        {'city': 'Paris'}
        >>> client.call("forecast", {}).problems
        [{'path': 'city', 'message': 'required field is missing'}]
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
        """Run an action in the running event loop; see `call`.

        >>> import asyncio
        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("weather")
        >>> @app.action
        ... async def forecast(city: str) -> dict:
        ...     return {"city": city}
        >>> asyncio.run(app.test_client().acall("forecast", {"city": "Paris"})).data
        {'city': 'Paris'}
        """
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

    async def __aenter__(self) -> TestClient:
        await self._runner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.__aexit__(kind, error, traceback)

    def _task(self, action: str, payload: TaskData, account: TaskData, id: str | None) -> Task:
        number = f"test-{next(self._ids)}" if id is None else id
        return make_task(number, action, payload, account)
