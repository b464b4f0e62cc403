"""Limits as code: the class that authors subclass, and two monitors ready to use."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary, ref

from arbprov._types import Clock
from arbprov._utils import read_number
from arbprov.clock import SystemClock
from arbprov.errors import ConfigurationError
from arbprov.limits.policies import MinDelay, Policy, TokenBucket
from arbprov.limits.stores.base import Charge, Store
from arbprov.limits.stores.memory import MemoryStore

__all__ = [
    "AdvancedRateLimitMonitor",
    "PolicyMonitor",
    "RateLimitMonitor",
    "TimeBasedRateLimitMonitor",
    "ask_monitor",
]

P = ParamSpec("P")
R = TypeVar("R")

# A monitor that counts in whole seconds answers 0 during the last second.
_MIN_WAIT = 0.001


class RateLimitMonitor:
    """A limit that is counted by the author's own code: a table, a service, a vendor's headers.

    Subclass it, and give an instance to ``rate_limit_monitor=`` or ``@app.rate_limit``. arbprov
    calls `check_rate_limits` together with all other limits of a call. If all admit the call, it
    calls `make_safe_request` to count it. An instance can serve any number of apps and actions.

    >>> from arbprov import ProviderApp, RateLimitMonitor
    >>> class OfficeHours(RateLimitMonitor):
    ...     closed = False
    ...     def check_rate_limits(self):
    ...         return {"rate_limited": True, "wait_time": 3600} if self.closed else None
    >>> app, hours = ProviderApp("office"), OfficeHours()
    >>> @app.action(rate_limit_monitor=hours)
    ... def call() -> None: ...
    >>> client = app.test_client()
    >>> client.call("call").status.value
    'success'
    >>> hours.closed = True
    >>> client.call("call").wait_time
    3600.0
    """

    deciding: AbstractContextManager[Any]
    """Held from `check_rate_limits` to `make_safe_request`, so that no other call is between."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - the class says it
        # Not in __init__: subclasses forget to call that.
        monitor = super().__new__(cls)
        monitor.deciding = threading.RLock()
        return monitor

    def check_rate_limits(self) -> Mapping[str, Any] | None:
        """Return None if a call may be made now, or a refusal; count nothing.

        Returns:
            A refusal is a dict with ``rate_limited`` as True, ``wait_time`` in seconds, and any
            other items of interest.
        """
        return None

    def handle_throttling(self, wait_time: float = 60) -> None:
        """Wait for `wait_time` seconds; `make_safe_request` does so where it is called directly.

        An override has to wait too: the limit is asked again when it returns.
        """
        time.sleep(wait_time)

    def make_safe_request(
        self, request_func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Wait until the limit admits a call, count it, and make it.

        Returns:
            The result of `request_func`.

        >>> RateLimitMonitor().make_safe_request(round, 3.14159, 2)
        3.14
        """
        while wait := ask_monitor(self):
            self.handle_throttling(wait)
        return request_func(*args, **kwargs)


def ask_monitor(monitor: RateLimitMonitor) -> float:
    """Return the seconds that a monitor has a call wait; 0 if the call may be made now.

    Raises:
        ConfigurationError: The monitor's answer is not valid.
    """
    answer = monitor.check_rate_limits()
    if answer is None:
        return 0.0
    name = f"{type(monitor).__qualname__}.check_rate_limits()"
    if not isinstance(answer, Mapping):
        raise ConfigurationError(f"{name} must return a dict or None, not {answer!r}")
    if not answer.get("rate_limited"):
        return 0.0
    wait = read_number(answer.get("wait_time"))
    if wait is None:
        given = answer.get("wait_time")
        raise ConfigurationError(f"{name}: wait_time must be a number of seconds, not {given!r}")
    return max(wait, _MIN_WAIT)


class PolicyMonitor(RateLimitMonitor):
    """A monitor that counts by a policy of arbprov; the instance keeps the usage.

    All apps on the machine's time share the usage. Each virtual clock starts with none, so that
    tests do not depend on each other.

    Args:
        policy: The limit.
    """

    _numbers = itertools.count(1)

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # No two monitors share buckets.
        self.group = f"monitor {next(self._numbers)}"
        self._clock = SystemClock()
        self._stores: WeakKeyDictionary[Clock, MemoryStore] = WeakKeyDictionary()
        self._buckets = policy.buckets(self.group, self._clock)

    def store(self, clock: Clock) -> Store:
        """Return the store of all apps that use this clock."""
        with self.deciding:
            # All system clocks are equal, and this monitor keeps its own alive.
            key = self._clock if clock == self._clock else clock
            if key not in self._stores:
                # A store reads the monotonic time only.
                weak = cast(Clock, _WeakClock(key))
                self._stores[key] = MemoryStore(key if key is self._clock else weak)
            return self._stores[key]

    def check_rate_limits(self) -> Mapping[str, Any] | None:
        """Return None if a call may be made now, or a refusal; count nothing."""
        charges = self._charges()
        self.store(self._clock).peek(charges)
        wait = max(charge.wait_time for charge in charges)
        return (
            {"rate_limited": True, "wait_time": wait, "limit": str(self.policy)} if wait else None
        )

    def make_safe_request(
        self, request_func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Wait until the limit admits a call, count it, and make it."""
        charges = self._charges()
        while self.store(self._clock).acquire(charges) is None:
            self.handle_throttling(max(charge.wait_time for charge in charges))
        return request_func(*args, **kwargs)

    def _charges(self) -> list[Charge]:
        return [Charge(group, b"", algorithm, 1) for group, algorithm in self._buckets]


class _WeakClock:
    """A clock that its store does not keep alive, so that both can be dropped together."""

    def __init__(self, clock: Clock) -> None:
        self._clock = ref(clock)

    def monotonic(self) -> float:
        clock = self._clock()
        assert clock is not None  # an app that asks the store has the clock
        return clock.monotonic()


class TimeBasedRateLimitMonitor(PolicyMonitor):
    """At least `min_delay` seconds between the starts of two calls; see `MinDelay`.

    >>> from arbprov import ProviderApp, TimeBasedRateLimitMonitor
    >>> app = ProviderApp("weather", rate_limit_monitor=TimeBasedRateLimitMonitor(min_delay=0.5))
    >>> @app.action
    ... def forecast() -> None: ...
    >>> client = app.test_client()
    >>> client.call("forecast").status.value, client.call("forecast").wait_time
    ('success', 0.5)
    """

    def __init__(self, min_delay: float) -> None:
        super().__init__(MinDelay(min_delay))


class AdvancedRateLimitMonitor(PolicyMonitor):
    """A bucket of `burst_size` calls, refilled with `requests_per_minute`; see `TokenBucket`.

    >>> from arbprov import AdvancedRateLimitMonitor, ProviderApp
    >>> monitor = AdvancedRateLimitMonitor(requests_per_minute=60, burst_size=2)
    >>> app = ProviderApp("weather", rate_limit_monitor=monitor)
    >>> @app.action
    ... def forecast() -> None: ...
    >>> client = app.test_client()
    >>> [client.call("forecast").status.value for _ in range(3)]
    ['success', 'success', 'limit']
    """

    def __init__(self, requests_per_minute: float, burst_size: int) -> None:
        super().__init__(
            TokenBucket(requests_per_minute=requests_per_minute, burst_size=burst_size)
        )
