"""What a limiter needs of the monitors that authors write; see `arbprov.limits.monitors`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from arbprov._types import Clock
from arbprov.errors import ConfigurationError
from arbprov.limits.meter import Rule
from arbprov.limits.stores.base import Store

__all__ = ["MeteredMonitor", "Monitor", "wait_of"]

# A monitor that counts in whole seconds says 0 in the last one.
_SHORTEST_WAIT = 0.001


@runtime_checkable
class Monitor(Protocol):
    """A limit as code: it is asked, and then told that a call is made."""

    @property
    def deciding(self) -> AbstractContextManager[Any]:
        """What to hold from the question to the call, so that nobody comes in between."""
        ...

    def check_rate_limits(self) -> Mapping[str, Any] | None:
        """Return what refuses a call now, or None."""
        ...

    def make_safe_request(self, request_func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count a call, and make it."""
        ...


@runtime_checkable
class MeteredMonitor(Protocol):
    """A monitor that is a limit of arbprov's own, with a store that all its users share."""

    @property
    def rule(self) -> Rule:
        """The limit."""
        ...

    @property
    def group(self) -> str:
        """What its buckets are called, and those of no other monitor."""
        ...

    def store(self, clock: Clock) -> Store:
        """Return the store of all who go by the same clock."""
        ...


def wait_of(monitor: Monitor) -> float:
    """Ask a monitor; return the seconds that a call has to wait, 0 if it may be made.

    Raises:
        ConfigurationError: It answers something that is no answer.
    """
    answer = monitor.check_rate_limits()
    if answer is None:
        return 0.0
    name = f"{type(monitor).__qualname__}.check_rate_limits()"
    if not isinstance(answer, Mapping):
        raise ConfigurationError(f"{name} returns a dict or None, not {answer!r}")
    if not answer.get("rate_limited"):
        return 0.0
    wait: Any = answer.get("wait_time")
    if type(wait) not in (int, float) or not wait < math.inf:
        raise ConfigurationError(f"{name}: wait_time is a number of seconds, not {wait!r}")
    return max(float(wait), _SHORTEST_WAIT)
