"""The token bucket in its classic form: a burst, and then an even pace.

It admits up to `burst_size` at once and, in a window that begins with a full bucket, nearly
`burst_size` more than its rate: for quotas that forgive that. `Limit` is for those that don't.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov.errors import ConfigurationError
from arbprov.limits.window import until
from arbprov.quantities import is_count, is_quantity, written

__all__ = ["TokenBucket"]

# What floats may be off by is no missing token.
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
        _check(is_quantity(self.requests_per_minute), "requests_per_minute", "a number", self)
        _check(is_count(self.burst_size), "burst_size", "a whole number", self)

    def __str__(self) -> str:
        return f"token bucket of {self.burst_size}, {written(self.requests_per_minute)}/minute"

    @property
    def capacity(self) -> int:
        """The most that is admitted at once."""
        return self.burst_size

    def meter(self, clock: Clock) -> _Bucket:
        """Return a full bucket."""
        return _Bucket(self.burst_size, 60.0 / self.requests_per_minute)


def _check(fits: bool, name: str, expected: str, rule: Any) -> None:
    if not fits:
        value = getattr(rule, name)
        raise ConfigurationError(f"a token bucket's {name} is {expected} above 0, not {value!r}")


@attrs.define
class _Bucket:
    """One bucket. Its level is kept as the time at which it would be full again."""

    size: int
    interval: float
    _full_at: float = attrs.field(default=-math.inf, init=False)
    _added_at: float = attrs.field(default=-math.inf, init=False)

    def wait_time(self, now: float, cost: int) -> float:
        """Return the seconds until there are `cost` tokens."""
        ready = self._full_at - (self.size - cost) * self.interval
        return until(now, ready) if ready > now else 0.0

    def add(self, now: float, cost: int) -> None:
        """Take `cost` tokens."""
        self._full_at = max(self._full_at, now) + cost * self.interval
        self._added_at = now

    def refund(self, charged_at: float, cost: int) -> None:
        """Put tokens back, but for those that may have been refilled before the last charge."""
        self._full_at -= max(0.0, cost * self.interval - (self._added_at - charged_at))

    def remaining(self, now: float) -> int:
        """Return how many whole tokens there are."""
        if self._full_at <= now:
            return self.size
        lacking = (self._full_at - now) / self.interval
        return max(0, self.size - math.ceil(lacking - _ROUNDING))

    def is_idle(self, now: float) -> bool:
        """Tell whether the bucket is full."""
        return self._full_at <= now
