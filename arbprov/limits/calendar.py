"""Quotas that begin anew at midnight, wherever midnight is."""

from __future__ import annotations

import datetime as dt
import math
from array import array

import attrs

from arbprov._types import Clock
from arbprov._utils import find_timezone
from arbprov.errors import ConfigurationError
from arbprov.limits.grammar import Limit, parse_limits
from arbprov.limits.meter import Debt, Meter, State
from arbprov.limits.window import until

__all__ = ["Calendar", "Quota"]

_HOUR = 3600.0
_DAY = 86_400.0
_DAYS = {_DAY: 1, 7 * _DAY: 7}


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

    def meters(self, clock: Clock) -> tuple[Quota]:
        """Return the quota of the day or week that it is now."""
        return (Quota(self._limit.amount, _DAYS[self._limit.period], self._zone, clock),)


@attrs.frozen
class Quota(Meter):
    """`amount` until midnight in `zone`; see `arbprov.limits.meter.Meter`.

    A state is what was used, and when that began and ends. The end is read from the wall clock
    once, so that setting that changes nothing.
    """

    amount: int
    days: int
    zone: dt.tzinfo
    clock: Clock
    kind: str = attrs.field(default="quota", init=False)

    @property
    def size(self) -> int:
        """The whole quota."""
        return self.amount

    @property
    def horizon(self) -> float:
        """The longest day or week there is."""
        return self.days * _DAY + _HOUR

    def fresh(self) -> State:
        """Return a quota of which nothing was used."""
        return array("d", (0.0, -math.inf, -math.inf))

    def look(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until a quota begins that has `cost`, 0 if this has, and its rest."""
        self._renew(state, now)
        left = self.amount - int(state[0])
        if cost <= left:
            return 0.0, left
        later = max(0, math.ceil((cost - self.amount) / self.amount))
        return until(now, state[2]) + later * self.days * _DAY, max(0, left)

    def add(self, state: State, now: float, cost: int) -> None:
        """Charge `cost`."""
        self._renew(state, now)
        state[0] += cost

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Take back a charge of the quota that runs now."""
        if charged_at >= state[1]:
            state[0] = max(0.0, state[0] - cost)

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Have at least `used` count until midnight."""
        self._renew(state, now)
        state[0] = max(state[0], min(used, self.amount))

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether nothing was used since the last midnight."""
        return state[0] == 0 or state[2] <= now

    def debts(self, state: State, now: float) -> list[Debt]:
        """Return what was used, and how long the quota runs yet."""
        return [] if self.is_idle(state, now) else [(state[2] - now, int(state[0]))]

    def figures(self, wall: dt.datetime) -> tuple[float, float, float]:
        """Return the amount, the next midnight in seconds of the epoch, and the usual length."""
        return self.amount, wall.timestamp() + self._seconds_left(wall), self.days * _DAY

    def _renew(self, state: State, now: float) -> None:
        if now >= state[2]:
            state[0] = 0.0
            state[1] = now
            state[2] = now + self._seconds_left(self.clock.now())

    def _seconds_left(self, wall: dt.datetime) -> float:
        today = wall.astimezone(self.zone).date()
        days = 1 if self.days == 1 else 7 - today.weekday()
        midnight = dt.datetime.combine(today + dt.timedelta(days=days), dt.time(), self.zone)
        return (midnight.astimezone(dt.timezone.utc) - wall).total_seconds()
