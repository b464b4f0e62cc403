"""How limits count: a rolling window, a token bucket, a calendar quota, and calls in flight. Pure.

All keys of a limit share an `Algorithm`. The usage of one key is a `State`: an array of doubles, so
that 100,000 keys stay small, and so that `stores/decide.lua` can keep the same numbers on a server.

To add an algorithm, subclass `Algorithm`, return it from a policy's `algorithms`, write it in
``decide.lua`` too, and add its policy to ``tests/support/laws.py``, so that tests try to break it.
"""

from __future__ import annotations

import datetime as dt
import math
from abc import ABC, abstractmethod
from array import array
from typing import ClassVar, TypeAlias

import attrs

from arbprov._types import Clock

__all__ = [
    "Algorithm",
    "CalendarWindow",
    "Gcra",
    "Semaphore",
    "SlidingWindow",
    "State",
    "Usage",
    "seconds_until",
]

# Each algorithm has its own order of the numbers.
State: TypeAlias = "array[float]"
# Seconds for which a charge still counts, and its units.
Usage = tuple[float, int]

# A window rounds up the end of a charge to this share of its period.
_STEPS = 1000
# A window's state at its longest: the sum, and two numbers for each entry.
_MAX_WINDOW = 1 + 2 * (_STEPS + 1)
# A token lacking less than this share is whole: floats are not exact. Charges are added up without
# this tolerance, so a bucket is early by this share of an interval at most, however long it runs.
_ROUNDING = 1e-6
# Seconds until a call asks again for a place: when a call in flight will end is unknown.
_ASK_AGAIN_AFTER = 0.2
_HOUR = 3600.0
_DAY = 86_400.0


class Algorithm(ABC):
    """How a limit counts; times are seconds of a clock that never goes back."""

    __slots__ = ()

    kind: ClassVar[str]
    """The name of the algorithm in ``decide.lua``. It is part of Redis keys: never change it."""
    capacity: int
    """The most units that are ever admitted at once."""
    holds: ClassVar[bool] = False
    """Whether a call holds its units until it has ended, whatever time that takes."""

    @property
    @abstractmethod
    def ttl(self) -> float:
        """Seconds after which a state that no call has changed is idle."""

    @abstractmethod
    def initial_state(self) -> State:
        """Return the state of a key that has used nothing."""

    @abstractmethod
    def peek(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until `cost` is admitted, 0 for now, and the units that are left.

        A cost above `capacity` is admitted in parts: the wait is for the last part.
        """

    @abstractmethod
    def charge(self, state: State, now: float, cost: int) -> None:
        """Add `cost` to the usage, whether it fits or not."""

    def try_charge(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Charge `cost` if it is admitted now; return the answer of `peek`, after the charge."""
        wait, left = self.peek(state, now, cost)
        if wait:
            return wait, left
        self.charge(state, now, cost)
        return 0.0, left - cost

    @abstractmethod
    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Undo a charge that was made at `charged_at`."""

    def move(self, state: State, charged_at: float, now: float, cost: int) -> None:
        """Count a charge that was made at `charged_at` as of now."""
        self.refund(state, charged_at, cost)
        self.charge(state, now, cost)

    @abstractmethod
    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Raise the usage to at least `used` units, for `reset_in` seconds."""

    @abstractmethod
    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether the state equals an initial state by now, so that it can be dropped."""

    @abstractmethod
    def outstanding(self, state: State, now: float) -> list[Usage]:
        """Return all usage that still counts, to copy it to another store."""

    @abstractmethod
    def parameters(self, wall: dt.datetime) -> tuple[float, float, float]:
        """Return the three numbers that ``decide.lua`` counts by, as of the wall clock's time."""


@attrs.frozen
class SlidingWindow(Algorithm):
    """At most `capacity` units in any `period`, exactly.

    An entry is the end of a charge and its units. Ends are rounded up to a thousandth of the
    period, so that a key has at most 1,001 entries; a charge may leave late, but never early.
    A state is the sum of all units, and then the entries in the order of their ends.

    Args:
        capacity: Units.
        period: Seconds.
    """

    kind: ClassVar[str] = "window"
    capacity: int
    period: float
    # If the last entry ends further ahead than this many seconds, a charge made now ends with it.
    _same_step: float = attrs.field(init=False, repr=False, eq=False)

    @_same_step.default
    def _default_same_step(self) -> float:
        return self.period * (1 + 0.01 / _STEPS)

    @property
    def ttl(self) -> float:
        """A period, and the step by which ends are rounded up."""
        return self.period * (1 + 1 / _STEPS)

    def initial_state(self) -> State:
        """Return an empty window."""
        return array("d", (0.0,))

    def peek(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until `cost` is admitted, 0 for now, and the units that are left."""
        if len(state) > 1 and state[1] <= now:
            self._expire(state, now)
        left = self.capacity - state[0]
        if cost <= left:
            return 0.0, int(left)
        return self._wait(state, now, cost), max(0, int(left))

    def charge(self, state: State, now: float, cost: int) -> None:
        """Add an entry, or add to the last one if that ends in the same step."""
        state[0] = state[0] + cost
        if len(state) > 1 and state[-2] - now > self._same_step:
            state[-1] = state[-1] + cost
            return
        end = self._end(now)
        if len(state) == 1 or state[-2] < end:
            state.append(end)
            state.append(cost)
            if len(state) > _MAX_WINDOW:
                # Floats made a step too many: merge the two oldest entries.
                state[4] += state[2]
                del state[1:3]
        else:
            self._insert(state, end, cost)

    def try_charge(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Charge `cost` if it is admitted now; see `Algorithm.try_charge`."""
        if len(state) > 1 and state[1] <= now:
            self._expire(state, now)
        used = state[0] + cost
        if used > self.capacity:
            return self._wait(state, now, cost), max(0, int(self.capacity - state[0]))
        # Most calls of a busy key end in the same step as the call before them.
        if len(state) > 1 and state[-2] - now > self._same_step:
            state[0] = used
            state[-1] = state[-1] + cost
        else:
            self.charge(state, now, cost)
        return 0.0, int(self.capacity - used)

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Undo a charge, unless it has left the window already."""
        end = self._end(charged_at)
        for at in range(len(state) - 2, 0, -2):
            if state[at] == end:
                units = min(cost, state[at + 1])
                state[0] -= units
                state[at + 1] -= units
                if not state[at + 1]:
                    del state[at : at + 2]
                return

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Raise the usage to at least `used` until the reset, but for a period at most."""
        self._expire(state, now)
        end = self._round_up(now + min(reset_in, self.period))
        at, missing = len(state), min(used, self.capacity)
        while at > 1 and state[at - 2] >= end:
            at -= 2
            missing -= int(state[at + 1])
        if missing > 0:
            state[0] += missing - self._remove(state, at, missing)
            self._insert(state, end, missing)

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether all entries have left the window."""
        return state[-2] <= now if len(state) > 1 else True

    def outstanding(self, state: State, now: float) -> list[Usage]:
        """Return each entry."""
        self._expire(state, now)
        entries = zip(state[1::2], state[2::2], strict=True)
        return [(end - now, int(cost)) for end, cost in entries]

    def parameters(self, wall: dt.datetime) -> tuple[float, float, float]:
        """Return the capacity and the period."""
        return self.capacity, self.period, 0

    def _end(self, now: float) -> float:
        """Return when a charge leaves the window."""
        step = math.ceil(now * _STEPS / self.period) + _STEPS
        end = step * self.period / _STEPS
        # The division may have rounded down, but two calls must be a whole period apart.
        return end if end - now >= self.period else (step + 1) * self.period / _STEPS

    def _round_up(self, moment: float) -> float:
        """Return the end of the step that a moment is in."""
        step = math.ceil(moment * _STEPS / self.period)
        end = step * self.period / _STEPS
        # The division may have rounded down.
        return end if end >= moment else (step + 1) * self.period / _STEPS

    def _insert(self, state: State, end: float, cost: int) -> None:
        """Add an entry in its place; only reports end after a charge that is made now."""
        at = len(state)
        while at > 1 and state[at - 2] > end:
            at -= 2
        if at > 1 and state[at - 2] == end:
            state[at - 1] += cost
        else:
            state[at:at] = array("d", (end, cost))

    def _remove(self, state: State, at: int, units: int) -> int:
        """Remove up to `units` from the last entries before `at`; return how many were there."""
        lacking = units
        while at > 1 and lacking > 0:
            removed = min(lacking, int(state[at - 1]))
            lacking -= removed
            state[at - 1] -= removed
            at -= 2
            if not state[at + 1]:
                del state[at : at + 2]
        return units - lacking

    def _expire(self, state: State, now: float) -> None:
        at, units = 1, 0.0
        while at < len(state) and state[at] <= now:
            units += state[at + 1]
            at += 2
        if units:
            state[0] -= units
            del state[1:at]

    def _wait(self, state: State, now: float, cost: int) -> float:
        if cost > self.capacity:
            periods = math.ceil((cost - self.capacity) / self.capacity)
            rest = cost - periods * self.capacity
            return self._wait(state, now, rest) + periods * self.period
        lacking = state[0] + cost - self.capacity
        at = 1
        while lacking > 0:
            lacking -= state[at + 1]
            at += 2
        return seconds_until(now, state[at - 2]) if at > 1 else 0.0


@attrs.frozen
class Gcra(Algorithm):
    """A token bucket: `capacity` tokens at once, and another each `interval`.

    This is ATM's generic cell rate algorithm. A state is the time when the bucket will be full
    again, and the time of the last charge.

    Args:
        capacity: Tokens in a full bucket.
        interval: Seconds until the next token.
    """

    kind: ClassVar[str] = "bucket"
    capacity: int
    interval: float

    @property
    def ttl(self) -> float:
        """Seconds until an empty bucket is full."""
        return self.capacity * self.interval

    def initial_state(self) -> State:
        """Return a full bucket."""
        return array("d", (-math.inf, -math.inf))

    def peek(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until there are `cost` tokens, 0 for now, and the whole tokens."""
        full_at = max(state[0], now)
        ready_at = full_at - (self.capacity - cost) * self.interval
        is_ready = ready_at - now <= self.interval * _ROUNDING
        missing = math.ceil((full_at - now) / self.interval - _ROUNDING)
        wait = 0.0 if is_ready else seconds_until(now, ready_at)
        return wait, max(0, self.capacity - missing)

    def charge(self, state: State, now: float, cost: int) -> None:
        """Take `cost` tokens."""
        state[0] = max(state[0], now) + cost * self.interval
        state[1] = now

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Put tokens back, except those that were refilled before the last charge."""
        state[0] -= max(0.0, cost * self.interval - (state[1] - charged_at))

    def move(self, state: State, charged_at: float, now: float, cost: int) -> None:
        """Do nothing: a bucket keeps to a pace, and knows only its last charge."""

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Leave at most ``capacity - used`` tokens; they return at the usual pace."""
        state[0] = max(state[0], now + min(used, self.capacity) * self.interval)

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether the bucket is full."""
        return state[0] <= now

    def outstanding(self, state: State, now: float) -> list[Usage]:
        """Return the missing tokens, and the seconds until they are back."""
        missing = state[0] - now
        return [(missing, math.ceil(missing / self.interval))] if missing > 0 else []

    def parameters(self, wall: dt.datetime) -> tuple[float, float, float]:
        """Return the capacity and the interval."""
        return self.capacity, self.interval, 0


@attrs.frozen
class CalendarWindow(Algorithm):
    """At most `capacity` units from midnight to midnight in `zone`, or from Monday to Monday.

    A state is the units used, and when that day or week began and ends. The wall clock is read once
    for each end: setting the clock later does not move it.

    Args:
        capacity: Units.
        days: 1 or 7.
        zone: The time zone of midnight.
        clock: Returns the wall clock's time.
    """

    kind: ClassVar[str] = "quota"
    capacity: int
    days: int
    zone: dt.tzinfo
    clock: Clock

    @property
    def ttl(self) -> float:
        """The longest day or week: an hour more, when the clocks change."""
        return self.days * _DAY + _HOUR

    def initial_state(self) -> State:
        """Return an unused quota that has ended."""
        return array("d", (0.0, -math.inf, -math.inf))

    def peek(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until a quota has `cost`, 0 for now, and the units left."""
        self._renew(state, now)
        left = self.capacity - int(state[0])
        if cost <= left:
            return 0.0, left
        later = max(0, math.ceil((cost - self.capacity) / self.capacity))
        return seconds_until(now, state[2]) + later * self.days * _DAY, max(0, left)

    def charge(self, state: State, now: float, cost: int) -> None:
        """Add `cost` to the units used since the last midnight."""
        self._renew(state, now)
        state[0] += cost

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Undo a charge, unless midnight has passed since."""
        if charged_at >= state[1]:
            state[0] = max(0.0, state[0] - cost)

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Raise the usage to at least `used`, until midnight."""
        self._renew(state, now)
        state[0] = max(state[0], min(used, self.capacity))

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether nothing was used since the last midnight."""
        return state[0] == 0 or state[2] <= now

    def outstanding(self, state: State, now: float) -> list[Usage]:
        """Return the units used, and the seconds until midnight."""
        return [] if self.is_idle(state, now) else [(state[2] - now, int(state[0]))]

    def parameters(self, wall: dt.datetime) -> tuple[float, float, float]:
        """Return the capacity, the next midnight in seconds of the epoch, and the usual length."""
        return self.capacity, wall.timestamp() + self._seconds_left(wall), self.days * _DAY

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


@attrs.frozen
class Semaphore(Algorithm):
    """At most `capacity` units at the same time: a call gives them back when it has ended.

    A state is the units in use. How long a refused call would have to wait is unknown: the answer
    is when to ask again.

    Args:
        capacity: Units.
    """

    kind: ClassVar[str] = "semaphore"
    holds: ClassVar[bool] = True
    capacity: int

    @property
    def ttl(self) -> float:
        """A minute: the units of a call in flight may change at any time."""
        return 60.0

    def initial_state(self) -> State:
        """Return no units in use."""
        return array("d", (0.0,))

    def peek(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until it is worth asking again, 0 if `cost` fits, and the units."""
        left = self.capacity - int(state[0])
        return 0.0 if cost <= left else _ASK_AGAIN_AFTER, max(0, left)

    def charge(self, state: State, now: float, cost: int) -> None:
        """Add `cost` to the units in use."""
        state[0] += cost

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Take `cost` from the units in use."""
        state[0] = max(0.0, state[0] - cost)

    def move(self, state: State, charged_at: float, now: float, cost: int) -> None:
        """Do nothing: the units are in use until they are given back."""

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Do nothing: an API does not know which calls are in flight here."""

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether no units are in use."""
        return state[0] == 0

    def outstanding(self, state: State, now: float) -> list[Usage]:
        """Return the units in use, without an end."""
        return [(math.inf, int(state[0]))] if state[0] else []

    def parameters(self, wall: dt.datetime) -> tuple[float, float, float]:
        """Return the capacity, and when to ask again."""
        return self.capacity, _ASK_AGAIN_AFTER, 0


def seconds_until(now: float, moment: float) -> float:
    """Return the shortest wait after which a clock at `now` shows `moment` or later."""
    wait = moment - now
    while now + wait < moment:
        wait = math.nextafter(wait, math.inf)
    return wait
