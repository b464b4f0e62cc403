"""Limits as code: the class that authors subclass, and two monitors that are there already."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary, ref

from arbprov._types import Clock
from arbprov.clock import SystemClock
from arbprov.limits import Charge, MemoryStore, MinDelay, Rule, Store, TokenBucket
from arbprov.limits.stack import parts_of

__all__ = ["AdvancedRateLimitMonitor", "RateLimitMonitor", "TimeBasedRateLimitMonitor"]

P = ParamSpec("P")
R = TypeVar("R")


class RateLimitMonitor:
    """A limit that is counted by code of one's own: a table, another service, a vendor's headers.

    Subclass it, and give an instance to ``rate_limit_monitor=`` or ``@app.rate_limit``. arbprov
    asks `check_rate_limits` together with all other limits of a call, and if all of them admit
    it, has `make_safe_request` count it. One instance may serve any number of apps and actions.

    >>> class OfficeHours(RateLimitMonitor):
    ...     closed = False
    ...     def check_rate_limits(self):
    ...         return {"rate_limited": True, "wait_time": 3600} if self.closed else None
    """

    deciding: AbstractContextManager[Any]
    """What is held from the question to the call, so that nobody comes in between."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - the class says it
        # Not in __init__, which subclasses forget to call.
        monitor = super().__new__(cls)
        monitor.deciding = threading.RLock()
        return monitor

    def check_rate_limits(self) -> Mapping[str, Any] | None:
        """Return what refuses a call now, or None; count nothing.

        A refusal is a dict of ``rate_limited``, which is True, ``wait_time`` in seconds, and
        whatever else is of interest.
        """
        return None

    def handle_throttling(self, wait_time: float = 60) -> None:
        """Wait for `wait_time` seconds; `make_safe_request` does it where it is called directly.

        One of your own has to wait too: the limit is asked again when it returns.
        """
        time.sleep(wait_time)

    def make_safe_request(
        self, request_func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Wait until the limit admits a call, count it, and make it.

        Returns:
            What `request_func` returns.
        """
        while (limits := self.check_rate_limits()) and limits.get("rate_limited"):
            self.handle_throttling(limits["wait_time"])
        return request_func(*args, **kwargs)


class _MeteredMonitor(RateLimitMonitor):
    """One of arbprov's own limits, with what was used of it in the instance.

    All who go by the machine's time share that; each virtual clock begins anew, so that tests do.
    """

    _numbers = itertools.count(1)

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.group = f"monitor {next(self._numbers)}"
        self._clock = SystemClock()
        self._stores: WeakKeyDictionary[Clock, MemoryStore] = WeakKeyDictionary()
        self._parts = parts_of(self.group, rule, self._clock)

    def store(self, clock: Clock) -> Store:
        """Return the store of all who go by the same clock."""
        with self.deciding:
            # All system clocks are equal, and the one that is the key lives as long as this.
            key = self._clock if clock == self._clock else clock
            if key not in self._stores:
                # All that a store asks a clock for is the monotonic time.
                borrowed = cast(Clock, _Borrowed(key))
                self._stores[key] = MemoryStore(key if key is self._clock else borrowed)
            return self._stores[key]

    def check_rate_limits(self) -> Mapping[str, Any] | None:
        """Return what refuses a call now, or None; count nothing."""
        charges = self._charges()
        self.store(self._clock).peek(charges)
        wait = max(charge.wait_time for charge in charges)
        return {"rate_limited": True, "wait_time": wait, "limit": str(self.rule)} if wait else None

    def make_safe_request(
        self, request_func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Wait until the limit admits a call, count it, and make it."""
        charges = self._charges()
        while self.store(self._clock).acquire(charges) is None:
            self.handle_throttling(max(charge.wait_time for charge in charges))
        return request_func(*args, **kwargs)

    def _charges(self) -> list[Charge]:
        return [Charge(group, b"", meter, 1) for group, meter in self._parts]


class _Borrowed:
    """A clock that its store does not keep alive: they would keep each other for ever."""

    def __init__(self, clock: Clock) -> None:
        self._clock = ref(clock)

    def monotonic(self) -> float:
        clock = self._clock()
        assert clock is not None  # who asks the store goes by that clock
        return clock.monotonic()


class TimeBasedRateLimitMonitor(_MeteredMonitor):
    """At least `min_delay` seconds between the starts of two calls; see `MinDelay`."""

    def __init__(self, min_delay: float) -> None:
        super().__init__(MinDelay(min_delay))


class AdvancedRateLimitMonitor(_MeteredMonitor):
    """A bucket of `burst_size`, refilled with `requests_per_minute`; see `TokenBucket`."""

    def __init__(self, requests_per_minute: float, burst_size: int) -> None:
        super().__init__(
            TokenBucket(requests_per_minute=requests_per_minute, burst_size=burst_size)
        )
