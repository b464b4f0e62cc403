"""Retries: which errors of a handler have it tried again, when, and how often."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from typing import Any

import attrs

from arbprov._utils import is_positive_integer
from arbprov.errors import ConfigurationError, RateLimited

__all__ = ["RetryOn", "RetryPolicy"]

# Exception classes, or a function that tells whether an error is retried, or in how many seconds.
RetryOn = (
    type[Exception]
    | tuple[type[Exception], ...]
    | Callable[[Exception], bool | float | dt.timedelta]
)


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, dt.timedelta) else value


@attrs.frozen
class RetryPolicy:
    """The arguments of `ProviderApp.retry`, checked; times are in seconds.

    Raises:
        ConfigurationError: An argument is not valid.

    >>> policy = RetryPolicy(on=ConnectionError, attempts=3, wait_jitter=0)
    >>> [policy.pause(ConnectionError(), attempt, waited=0.0) for attempt in (1, 2, 3)]
    [0.1, 0.2, None]
    """

    on: RetryOn
    attempts: int | None = 10
    timeout: float | None = attrs.field(default=45.0, converter=_seconds)
    wait_initial: float = attrs.field(default=0.1, converter=_seconds)
    wait_max: float = attrs.field(default=5.0, converter=_seconds)
    wait_jitter: float = attrs.field(default=1.0, converter=_seconds)
    wait_exp_base: float = 2.0

    def __attrs_post_init__(self) -> None:
        _check_on(self.on)
        if self.attempts is not None and not is_positive_integer(self.attempts):
            raise ConfigurationError(
                f"attempts={self.attempts!r} must be a whole number above 0, or None"
            )
        for name in ("timeout", "wait_initial", "wait_max", "wait_jitter", "wait_exp_base"):
            value = getattr(self, name)
            if name == "timeout" and value is None:
                continue
            if type(value) not in (int, float) or not 0 <= value < float("inf"):
                raise ConfigurationError(f"{name}={value!r} must be a number, 0 or above")

    def pause(self, error: Exception, attempt: int, waited: float) -> float | None:
        """Return the seconds to wait before the next try, or None if there is none.

        The algorithm is that of the package stamina: ``min(wait_max, wait_initial * wait_exp_base
        ** (attempt - 1) + random(0, wait_jitter))``.

        Args:
            error: The error of the last try.
            attempt: The number of that try, from 1.
            waited: Seconds since the first try began.
        """
        if attempt == self.attempts or isinstance(error, RateLimited):
            return None
        pause: float | None
        if isinstance(self.on, (type, tuple)):
            pause = self._backoff(attempt) if isinstance(error, self.on) else None
        else:
            pause = self._asked_pause(self.on(error), attempt)
        if pause is None or (self.timeout is not None and waited + pause > self.timeout):
            return None
        return pause

    def least_total(self) -> float:
        """Return the least seconds that the pauses before all tries take together."""
        # With so many tries, the pauses have reached their maximum.
        count = min(self.attempts or 1_000, 1_000) - 1
        return sum(self._least_pause(attempt) for attempt in range(1, count + 1))

    def _asked_pause(self, answer: bool | float | dt.timedelta, attempt: int) -> float | None:
        if isinstance(answer, dt.timedelta):
            return answer.total_seconds()
        if type(answer) is bool or answer is None:
            return self._backoff(attempt) if answer else None
        return float(answer)

    def _backoff(self, attempt: int) -> float:
        jitter = random.uniform(0, self.wait_jitter)  # noqa: S311
        return min(self.wait_max, self._least_pause(attempt) + jitter)

    def _least_pause(self, attempt: int) -> float:
        try:
            return min(self.wait_max, self.wait_initial * self.wait_exp_base ** (attempt - 1))
        except OverflowError:
            return self.wait_max


def _check_on(on: RetryOn) -> None:
    classes = on if isinstance(on, tuple) else (on,)
    if not isinstance(on, (type, tuple)) and callable(on):
        return
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)) or not classes:
            raise ConfigurationError(
                f"on={on!r} must be an exception class, a tuple of them, or a function of the "
                f"error that tells whether to retry"
            )
        if issubclass(each, RateLimited):
            raise ConfigurationError(
                "RateLimited is not retried: the API would be called while it throttles; give the "
                "rate limit a max_wait=, so that a task waits for its turn"
            )
    if not classes:
        raise ConfigurationError("on=() retries nothing; name an exception class")
