"""The token bucket in its classic form: a burst, and then an even pace.

It admits up to `burst_size` at once and, in a window that begins with a full bucket, nearly
`burst_size` more than its rate: for quotas that forgive that. `Limit` is for those that don't.
"""

from __future__ import annotations

import math
from array import array
from datetime import datetime
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov._utils import format_number, is_positive_integer, is_positive_number
from arbprov.errors import ConfigurationError
from arbprov.limits.meter import Debt, Meter, State
from arbprov.limits.window import until

__all__ = ["Bucket", "TokenBucket"]

# Of a token: what floats may be off by is no missing one. Since charges are added up all the same,
# a bucket is early by so much at most, however many there are.
_ROUNDING = 1e-6


@attrs.frozen(kw_only=True)
class TokenBucket:
    """At most `burst_size` at once, refilled at an even pace.

    >>> str(TokenBucket(requests_per_minute=60, burst_size=10))
    'token bucket of 10, 60/minute'

    Args:
        requests_per_minute: How much is refilled in a minute.
        burst_size: How much the bucket holds.

    Raises:
        ConfigurationError: A number is not above 0.
    """

    requests_per_minute: float
    burst_size: int

    def __attrs_post_init__(self) -> None:
        _check(
            is_positive_number(self.requests_per_minute), "requests_per_minute", "a number", self
        )
        _check(is_positive_integer(self.burst_size), "burst_size", "a whole number", self)

    def __str__(self) -> str:
        return (
            f"token bucket of {self.burst_size}, {format_number(self.requests_per_minute)}/minute"
        )

    @property
    def capacity(self) -> int:
        """The most that is admitted at once."""
        return self.burst_size

    def meters(self, clock: Clock) -> tuple[Bucket]:
        """Return the bucket."""
        return (Bucket(self.burst_size, 60.0 / self.requests_per_minute),)


def _check(fits: bool, name: str, expected: str, rule: Any) -> None:
    if not fits:
        value = getattr(rule, name)
        raise ConfigurationError(f"a token bucket's {name} is {expected} above 0, not {value!r}")


@attrs.frozen
class Bucket(Meter):
    """`size` tokens, and one more each `interval`; see `arbprov.limits.meter.Meter`.

    This is ATM's GCRA: a state is when the bucket would be full again, and the last charge's time.
    """

    size: int
    interval: float
    kind: str = attrs.field(default="bucket", init=False)

    @property
    def horizon(self) -> float:
        """The time that an empty bucket takes to be full."""
        return self.size * self.interval

    def fresh(self) -> State:
        """Return a full bucket."""
        return array("d", (-math.inf, -math.inf))

    def look(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until there are `cost` tokens, and how many whole ones there are."""
        full_at = max(state[0], now)
        ready = full_at - (self.size - cost) * self.interval
        is_ready = ready - now <= self.interval * _ROUNDING
        return 0.0 if is_ready else until(now, ready), self._left(full_at - now)

    def add(self, state: State, now: float, cost: int) -> None:
        """Take `cost` tokens."""
        state[0] = max(state[0], now) + cost * self.interval
        state[1] = now

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Put tokens back, but for those that may have been refilled before the last charge."""
        state[0] -= max(0.0, cost * self.interval - (state[1] - charged_at))

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Take tokens until at most ``size - used`` are left; they come back at the usual pace."""
        state[0] = max(state[0], now + min(used, self.size) * self.interval)

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether the bucket is full."""
        return state[0] <= now

    def debts(self, state: State, now: float) -> list[Debt]:
        """Return the time that the missing tokens take to come back."""
        missing = state[0] - now
        return [(missing, math.ceil(missing / self.interval))] if missing > 0 else []

    def figures(self, wall: datetime) -> tuple[float, float, float]:
        """Return the size and the interval."""
        return self.size, self.interval, 0

    def _left(self, missing_time: float) -> int:
        return max(0, self.size - math.ceil(missing_time / self.interval - _ROUNDING))
