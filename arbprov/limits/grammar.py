"""The grammar of rates: ``10/minute``, ``5 per second``, ``100/2h burst 20; 1000/day``."""

from __future__ import annotations

import re

import attrs

from arbprov._types import Clock
from arbprov._utils import format_number, is_positive_integer, is_positive_number
from arbprov.errors import ConfigurationError
from arbprov.limits.bucket import Bucket
from arbprov.limits.meter import Meter
from arbprov.limits.window import RollingWindow

__all__ = ["Limit", "parse_limits"]

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
_NO_FIXED_LENGTH = {"mo", "month", "months", "y", "yr", "yrs", "year", "years"}
_RATE = re.compile(
    r"(?P<amount>\d{1,15}) \s* (?:/|\bper\b) \s* (?P<count>\d{1,15})? \s* (?P<unit>[a-z]+)"
    r"(?: \s+ burst (?: \s*=\s* | \s+ ) (?P<burst>\d{1,15}) )?",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_EXAMPLE = 'write it like "10/minute", "5 per second" or "100/2h burst 20; 1000/day"'


@attrs.frozen
class Limit:
    """At most `amount` in any `period` of that length.

    Args:
        amount: How much, in units of cost; a call costs 1 unless it says otherwise.
        period: In seconds.
        burst: At most so much at once; the rest is spread evenly. It only tightens the limit.

    Raises:
        ConfigurationError: A number is not above 0, or `burst` is not below `amount`.
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

    def _check(self, fits: bool, name: str, expected: str) -> None:
        if not fits:
            value = getattr(self, name)
            raise ConfigurationError(f"a limit's {name} is {expected}, not {value!r}")

    @property
    def capacity(self) -> int:
        """The most that is ever admitted at once."""
        return self.amount if self.burst is None else self.burst

    def meters(self, clock: Clock) -> tuple[Meter, ...]:
        """Return the window, and the pace beside it if there is a `burst`."""
        window = RollingWindow(self.amount, self.period)
        if self.burst is None:
            return (window,)
        return (window, Bucket(self.burst, self.period / self.amount))

    def __str__(self) -> str:
        """Return the limit as the grammar writes it."""
        name, seconds = next((n, s) for n, s in _NAMES if self.period % s == 0 or n == "second")
        count = self.period / seconds
        every = name if count == 1 else f"{format_number(count)}{name[0]}"
        burst = "" if self.burst is None else f" burst {self.burst}"
        return f"{self.amount}/{every}{burst}"


_NAMES = [(n, _UNITS[n]) for n in ("week", "day", "hour", "minute", "second")]


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Return the limits that `text` names, joined by ``;``, ``,`` or ``|``.

    >>> [str(limit) for limit in parse_limits("5 per second; 100/2h burst 20")]
    ['5/second', '100/2h burst 20']

    Raises:
        ConfigurationError: A part of it is no limit; the message names the part.
    """
    return tuple(_parse(part.strip()) for part in re.split(r"[;,|]", text))


def _parse(part: str) -> Limit:
    match = _RATE.fullmatch(part)
    if match is None:
        raise ConfigurationError(f"{part!r} is no rate limit; {_EXAMPLE}")
    burst = match["burst"]
    period = int(match["count"] or 1) * _seconds(match["unit"].lower(), part)
    return Limit(int(match["amount"]), float(period), int(burst) if burst else None)


def _seconds(unit: str, part: str) -> int:
    if unit in _NO_FIXED_LENGTH:
        raise ConfigurationError(
            f"{part!r}: a {unit} has no fixed length, so no window can be exact; "
            f"give the limit in days or weeks"
        )
    if unit not in _UNITS:
        raise ConfigurationError(f"{part!r}: {unit!r} is no unit of time; {_EXAMPLE}")
    return _UNITS[unit]
