"""Quotas that begin anew at midnight, wherever midnight is."""

from __future__ import annotations

import datetime as dt
import math

import attrs

from arbprov._types import Clock
from arbprov.errors import ConfigurationError
from arbprov.limits.rate import Limit, parse_limits
from arbprov.limits.window import until
from arbprov.timezones import find_timezone

__all__ = ["Calendar"]

_DAYS = {86_400.0: 1, 604_800.0: 7}


def _zone(name: str) -> dt.tzinfo:
    try:
        return find_timezone(name)
    except ValueError as error:
        raise ConfigurationError(f"tz={name!r} {error}") from None


@attrs.frozen
class Calendar:
    """At most so much from midnight to midnight, or from Monday to Monday.

    >>> str(Calendar("10000/day", tz="Europe/Madrid"))
    '10000/day from midnight in Europe/Madrid'

    Around midnight it admits twice as much in a short time; that is what such a quota means. A day
    on which the clocks change is as long as it is.

    Args:
        quota: ``"N/day"`` or ``"N/week"``.
        tz: The time zone whose midnight counts.

    Raises:
        ConfigurationError: The quota is not of a day or a week, or there is no such time zone.
    """

    quota: str
    tz: str = "UTC"
    _limit: Limit = attrs.field(init=False, repr=False)
    _zone: dt.tzinfo = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        limits = parse_limits(self.quota)
        if len(limits) != 1 or limits[0].period not in _DAYS or limits[0].burst is not None:
            raise ConfigurationError(
                f'a calendar\'s quota is one of a day or a week, such as "10000/day", '
                f"not {self.quota!r}"
            )
        object.__setattr__(self, "_limit", limits[0])
        object.__setattr__(self, "_zone", _zone(self.tz))

    def __str__(self) -> str:
        return f"{self._limit} from midnight in {self.tz}"

    @property
    def capacity(self) -> int:
        """The whole quota."""
        return self._limit.amount

    def meter(self, clock: Clock) -> _Quota:
        """Return a new quota, of the day or week that it is now."""
        return _Quota(self._limit.amount, _DAYS[self._limit.period], self._zone, clock)


@attrs.define
class _Quota:
    """One quota; its end is read from the wall clock once, so that setting that changes nothing."""

    amount: int
    days: int
    zone: dt.tzinfo
    clock: Clock
    used: int = attrs.field(default=0, init=False)
    _began_at: float = attrs.field(default=-math.inf, init=False)
    _ends_at: float = attrs.field(default=-math.inf, init=False)

    def wait_time(self, now: float, cost: int) -> float:
        """Return the seconds until the quota begins anew, if `cost` is more than is left."""
        return 0.0 if cost <= self.remaining(now) else until(now, self._ends_at)

    def add(self, now: float, cost: int) -> None:
        """Charge `cost`."""
        self._renew(now)
        self.used += cost

    def refund(self, charged_at: float, cost: int) -> None:
        """Take back a charge of the quota that runs now."""
        if charged_at >= self._began_at:
            self.used -= cost

    def remaining(self, now: float) -> int:
        """Return what is left of today's quota, or of this week's."""
        self._renew(now)
        return self.amount - self.used

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing was used since the last midnight."""
        self._renew(now)
        return self.used == 0

    def _renew(self, now: float) -> None:
        if now >= self._ends_at:
            self.used = 0
            self._began_at = now
            self._ends_at = now + self._seconds_left()

    def _seconds_left(self) -> float:
        wall = self.clock.now()
        today = wall.astimezone(self.zone).date()
        days = 1 if self.days == 1 else 7 - today.weekday()
        midnight = dt.datetime.combine(today + dt.timedelta(days=days), dt.time(), self.zone)
        return (midnight.astimezone(dt.timezone.utc) - wall).total_seconds()
