"""The limits that an author writes: a text, or one of the classes below.

A text follows the grammar of `parse_limits`: ``10/minute``, ``5 per second``,
``100/2h burst 20; 1000/day``.
"""

from __future__ import annotations

import datetime as dt
import re
from abc import ABC, abstractmethod

import attrs

from arbprov._types import Clock
from arbprov._utils import (
    find_timezone,
    format_number,
    is_positive_integer,
    is_positive_number,
)
from arbprov.errors import ConfigurationError
from arbprov.limits.algorithms import Algorithm, CalendarWindow, Gcra, Semaphore, SlidingWindow

__all__ = ["Calendar", "Concurrency", "Limit", "MinDelay", "Policy", "TokenBucket", "parse_limits"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = {
    spelling: _SECONDS[names[0]]
    for names in (
        ("s", "sec", "secs", "second", "seconds"),
        ("m", "min", "mins", "minute", "minutes"),
        ("h", "hr", "hrs", "hour", "hours"),
        ("d", "day", "days"),
        ("w", "week", "weeks"),
    )
    for spelling in names
}
_NAMES = [(name, _UNITS[name]) for name in ("week", "day", "hour", "minute", "second")]
_NO_FIXED_LENGTH = {"mo", "month", "months", "y", "yr", "yrs", "year", "years"}
_RATE = re.compile(
    r"(?P<amount>\d{1,15}) \s* (?:/|\bper\b) \s* (?P<count>\d{1,15})? \s* (?P<unit>[a-z]+)"
    r"(?: \s+ burst (?: \s*=\s* | \s+ ) (?P<burst>\d{1,15}) )?",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
# As `Concurrency` shows itself, and as an author may guess.
_IN_FLIGHT = re.compile(
    r"(?P<calls>\d{1,15}) (?:at a time|at once|concurrent|parallel)", re.IGNORECASE
)
_EXAMPLE = 'write it like "10/minute", "5 per second" or "100/2h burst 20; 1000/day"'
# A calendar's quota: the days of each period that it may have.
_DAYS = {86_400.0: 1, 604_800.0: 7}


class Policy(ABC):
    """A limit as its author wrote it: frozen, and equal to every other that means the same.

    Its text is part of Redis keys, so the text of a policy never changes.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def capacity(self) -> int:
        """The most units that are ever admitted at once; a call that costs more never runs."""

    @abstractmethod
    def algorithms(self, clock: Clock) -> tuple[Algorithm, ...]:
        """Return the algorithms that must all admit a call; the first counts the quota."""

    def buckets(self, group: str, clock: Clock) -> list[tuple[str, Algorithm]]:
        """Return each algorithm with the group of its buckets, a part of Redis keys."""
        counting = self.algorithms(clock)
        return [(f"{group}|{self}|{algorithm.kind}", algorithm) for algorithm in counting]


@attrs.frozen
class Limit(Policy):
    """At most `amount` units in any period of `period` seconds, wherever that period begins.

    Args:
        amount: Units of cost; a call costs 1 unit unless the limit has a ``cost=``.
        period: Seconds.
        burst: The most units at once; the rest is spread evenly. It only tightens the limit.

    Raises:
        ConfigurationError: A number is not above 0, or `burst` is above `amount`.

    >>> from arbprov import Limit, ProviderApp
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... @app.rate_limit(Limit(amount=2, period=3600))
    ... def forecast() -> None: ...
    >>> client = app.test_client()
    >>> [client.call("forecast").status.value for _ in range(3)]
    ['success', 'success', 'limit']
    """

    amount: int
    period: float
    burst: int | None = None

    def __attrs_post_init__(self) -> None:
        self._check(is_positive_integer(self.amount), "amount", "a whole number above 0")
        if self.burst is not None:
            self._check(is_positive_integer(self.burst), "burst", "a whole number above 0")
        self._check(is_positive_number(self.period), "period", "a number of seconds above 0")
        if self.burst is not None and self.burst > self.amount:
            raise ConfigurationError(
                f"a burst of {self.burst} is more than the limit of {self.amount} itself; "
                f"leave it out, or make it smaller"
            )

    def _check(self, is_valid: bool, name: str, expected: str) -> None:
        if not is_valid:
            value = getattr(self, name)
            raise ConfigurationError(f"a limit's {name} must be {expected}, not {value!r}")

    @property
    def capacity(self) -> int:
        """The burst, or the whole amount."""
        return self.amount if self.burst is None else self.burst

    def algorithms(self, clock: Clock) -> tuple[Algorithm, ...]:
        """Return a window, and a bucket for the pace if there is a `burst`."""
        window = SlidingWindow(self.amount, self.period)
        if self.burst is None:
            return (window,)
        return (window, Gcra(self.burst, self.period / self.amount))

    def __str__(self) -> str:
        """Return the limit as the grammar writes it."""
        name, seconds = next((n, s) for n, s in _NAMES if self.period % s == 0 or n == "second")
        count = self.period / seconds
        every = name if count == 1 else f"{format_number(count)}{name[0]}"
        burst = "" if self.burst is None else f" burst {self.burst}"
        return f"{self.amount}/{every}{burst}"


@attrs.frozen(kw_only=True)
class TokenBucket(Policy):
    """At most `burst_size` calls at once, refilled at an even pace.

    In a period that begins with a full bucket, it admits nearly `burst_size` calls more than the
    pace: use it where the API allows that, and `Limit` where the API bans for it.

    Args:
        requests_per_minute: Tokens refilled in a minute.
        burst_size: Tokens in a full bucket.

    Raises:
        ConfigurationError: A number is not above 0.

    >>> from arbprov import ProviderApp, TokenBucket
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... @app.rate_limit(TokenBucket(requests_per_minute=60, burst_size=2))
    ... def forecast() -> None: ...
    >>> client = app.test_client()
    >>> [client.call("forecast").status.value for _ in range(3)]
    ['success', 'success', 'limit']
    >>> client.clock.advance(1.0)
    >>> client.call("forecast").status.value
    'success'
    """

    requests_per_minute: float
    burst_size: int

    def __attrs_post_init__(self) -> None:
        self._check(is_positive_number(self.requests_per_minute), "requests_per_minute", "a number")
        self._check(is_positive_integer(self.burst_size), "burst_size", "a whole number")

    def _check(self, is_valid: bool, name: str, expected: str) -> None:
        if not is_valid:
            value = getattr(self, name)
            raise ConfigurationError(
                f"a token bucket's {name} must be {expected} above 0, not {value!r}"
            )

    def __str__(self) -> str:
        return (
            f"token bucket of {self.burst_size}, {format_number(self.requests_per_minute)}/minute"
        )

    @property
    def capacity(self) -> int:
        """The tokens in a full bucket."""
        return self.burst_size

    def algorithms(self, clock: Clock) -> tuple[Algorithm, ...]:
        """Return the bucket."""
        return (Gcra(self.burst_size, 60.0 / self.requests_per_minute),)


@attrs.frozen
class MinDelay(Policy):
    """At least `seconds` between the starts of two calls.

    Raises:
        ConfigurationError: `seconds` is not a number above 0.

    >>> from arbprov import MinDelay, ProviderApp
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... @app.rate_limit(MinDelay(0.5))
    ... def forecast() -> None: ...
    >>> client = app.test_client()
    >>> client.call("forecast").status.value, client.call("forecast").wait_time
    ('success', 0.5)
    """

    seconds: float

    def __attrs_post_init__(self) -> None:
        if not is_positive_number(self.seconds):
            raise ConfigurationError(
                f"a delay must be a number of seconds above 0, not {self.seconds!r}"
            )

    def __str__(self) -> str:
        return f"a delay of {format_number(self.seconds)}s"

    @property
    def capacity(self) -> int:
        """A single call."""
        return 1

    def algorithms(self, clock: Clock) -> tuple[Algorithm, ...]:
        """Return a window that holds a single call."""
        return (SlidingWindow(1, self.seconds),)


@attrs.frozen
class Calendar(Policy):
    """A quota from midnight to midnight, or from Monday to Monday, in a time zone.

    Around midnight it admits twice the quota in a short time, as such quotas do. A day is an
    hour shorter or longer if the clocks change.

    Args:
        quota: ``"N/day"`` or ``"N/week"``.
        tz: The time zone of midnight.

    Raises:
        ConfigurationError: The quota is not for a day or a week, or the time zone is unknown.

    >>> from arbprov import Calendar, ProviderApp
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... @app.rate_limit(Calendar("10000/day", tz="Europe/Madrid"))
    ... def forecast() -> None: ...
    >>> app.test_client().limits.headroom("forecast")[0].remaining
    10000
    """

    quota: str
    tz: str = "UTC"
    _limit: Limit = attrs.field(init=False, repr=False)
    _zone: dt.tzinfo = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        limits = parse_limits(self.quota)
        if len(limits) != 1 or limits[0].period not in _DAYS or limits[0].burst is not None:
            raise ConfigurationError(
                f'a calendar\'s quota must be for one day or one week, such as "10000/day", '
                f"not {self.quota!r}"
            )
        try:
            zone = find_timezone(self.tz)
        except ValueError as error:
            raise ConfigurationError(f"tz={self.tz!r} {error}") from None
        object.__setattr__(self, "_limit", limits[0])
        object.__setattr__(self, "_zone", zone)

    def __str__(self) -> str:
        return f"{self._limit} from midnight in {self.tz}"

    @property
    def capacity(self) -> int:
        """The whole quota."""
        return self._limit.amount

    def algorithms(self, clock: Clock) -> tuple[Algorithm, ...]:
        """Return the quota of a day or a week."""
        days = _DAYS[self._limit.period]
        return (CalendarWindow(self._limit.amount, days, self._zone, clock),)


@attrs.frozen
class Concurrency(Policy):
    """At most `calls` calls at the same time, from the start of a handler until it has ended.

    A handler that runs on after its timeout still counts. A refused call waits for a place as long
    as its ``max_wait=`` allows.

    Args:
        calls: The calls; a call counts as 1 unless the limit has a ``cost=``.

    Raises:
        ConfigurationError: `calls` is not a whole number above 0.

    >>> from arbprov import Concurrency, ProviderApp
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... @app.rate_limit(Concurrency(5), key="account.id", max_wait=10)
    ... def forecast() -> None: ...
    >>> app.test_client().limits.headroom("forecast", key=42)[0].remaining
    5
    """

    calls: int

    def __attrs_post_init__(self) -> None:
        if not is_positive_integer(self.calls):
            raise ConfigurationError(
                f"a concurrency's calls must be a whole number above 0, not {self.calls!r}"
            )

    def __str__(self) -> str:
        return f"{self.calls} at a time"

    @property
    def capacity(self) -> int:
        """The calls."""
        return self.calls

    def algorithms(self, clock: Clock) -> tuple[Algorithm, ...]:
        """Return the count of calls in flight."""
        return (Semaphore(self.calls),)


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Return the limits in `text`, separated by ``;``, ``,`` or ``|``.

    >>> [str(limit) for limit in parse_limits("5 per second; 100/2h burst 20")]
    ['5/second', '100/2h burst 20']

    Raises:
        ConfigurationError: A part of it is not a rate limit; the message names the part.
    """
    return tuple(_parse(part.strip()) for part in re.split(r"[;,|]", text))


def _parse(part: str) -> Limit:
    if in_flight := _IN_FLIGHT.fullmatch(part):
        calls = in_flight["calls"]
        raise ConfigurationError(
            f"{part!r} is not a rate; to limit calls in flight, write Concurrency({calls})"
        )
    match = _RATE.fullmatch(part)
    if match is None:
        raise ConfigurationError(f"{part!r} is not a valid rate limit; {_EXAMPLE}")
    unit, burst = match["unit"].lower(), match["burst"]
    if unit in _NO_FIXED_LENGTH:
        raise ConfigurationError(
            f"{part!r}: a {unit} has no fixed length, so no window can be exact; "
            f"give the limit in days or weeks"
        )
    if unit not in _UNITS:
        raise ConfigurationError(f"{part!r}: {unit!r} is not a unit of time; {_EXAMPLE}")
    period = int(match["count"] or 1) * _UNITS[unit]
    return Limit(int(match["amount"]), float(period), int(burst) if burst else None)
