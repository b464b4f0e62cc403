"""The exact rolling window: no period ever holds more than the limit. Pure.

A charge is kept with the time at which it leaves the window, rounded up to a thousandth of the
period, so that a key costs at most 1,001 entries. Rounding up only delays, and never admits early.
"""

from __future__ import annotations

import math
from array import array
from datetime import datetime

import attrs

from arbprov.limits.meter import Debt, State

__all__ = ["RollingWindow", "until"]

_STEPS = 1000
# Of a state: the sum, and two numbers for each entry.
_MOST = 1 + 2 * (_STEPS + 1)


@attrs.frozen
class RollingWindow:
    """At most `amount` in any `period`; see `arbprov.limits.meter.Meter`.

    A state is the sum of what counts, and then an end and a cost for each entry, by their ends.
    """

    amount: int
    period: float
    kind: str = attrs.field(default="window", init=False)
    # How far away the last end is while it is surely that of a charge made now as well.
    _least_ahead: float = attrs.field(init=False, repr=False, eq=False)

    @_least_ahead.default
    def _surely_ahead(self) -> float:
        return self.period * (1 + 0.01 / _STEPS)

    @property
    def size(self) -> int:
        """The whole amount."""
        return self.amount

    @property
    def horizon(self) -> float:
        """A period, and the step by which its end is rounded."""
        return self.period * (1 + 1 / _STEPS)

    def fresh(self) -> State:
        """Return an empty window."""
        return array("d", (0.0,))

    def look(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until `cost` would be admitted, 0 if it is now, and what is left."""
        if len(state) > 1 and state[1] <= now:
            self._expire(state, now)
        left = self.amount - state[0]
        if cost <= left:
            return 0.0, int(left)
        return self._wait(state, now, cost), max(0, int(left))

    def add(self, state: State, now: float, cost: int) -> None:
        """Charge `cost`."""
        state[0] = state[0] + cost
        if len(state) > 1 and state[-2] - now > self._least_ahead:
            state[-1] = state[-1] + cost
            return
        end = self._end(now)
        if len(state) == 1 or state[-2] < end:
            state.append(end)
            state.append(cost)
            if len(state) > _MOST:
                # Floats had one step too many: the oldest two leave as one.
                state[4] += state[2]
                del state[1:3]
        else:
            self._insert(state, end, cost)

    def take(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Charge `cost` if it is admitted now; return what `look` does, and what is left then."""
        if len(state) > 1 and state[1] <= now:
            self._expire(state, now)
        used = state[0] + cost
        if used > self.amount:
            return self._wait(state, now, cost), max(0, int(self.amount - state[0]))
        # Most calls of a busy key: the same step as the call before, and nothing to work out.
        if len(state) > 1 and state[-2] - now > self._least_ahead:
            state[0] = used
            state[-1] = state[-1] + cost
        else:
            self.add(state, now, cost)
        return 0.0, int(self.amount - used)

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Take back a charge; one that has left the window already is none any more."""
        end = self._end(charged_at)
        for at in range(len(state) - 2, 0, -2):
            if state[at] == end:
                taken = min(cost, state[at + 1])
                state[0] -= taken
                state[at + 1] -= taken
                if not state[at + 1]:
                    del state[at : at + 2]
                return

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Have at least `used` count until the reset, but no longer than a period."""
        self._expire(state, now)
        step = math.ceil((now + min(reset_in, self.period)) * _STEPS / self.period)
        self._hold(state, step * self.period / _STEPS, min(used, self.amount))

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether nothing counts any more."""
        return state[-2] <= now if len(state) > 1 else True

    def debts(self, state: State, now: float) -> list[Debt]:
        """Return each entry."""
        self._expire(state, now)
        entries = zip(state[1::2], state[2::2], strict=True)
        return [(end - now, int(cost)) for end, cost in entries]

    def figures(self, wall: datetime) -> tuple[float, float, float]:
        """Return the amount and the period."""
        return self.amount, self.period, 0

    def _insert(self, state: State, end: float, cost: int) -> None:
        at = len(state)
        # Only what was reported from outside may end after a new charge.
        while at > 1 and state[at - 2] > end:
            at -= 2
        if at > 1 and state[at - 2] == end:
            state[at - 1] += cost
        else:
            state[at:at] = array("d", (end, cost))

    def _hold(self, state: State, end: float, used: int) -> None:
        """Have at least `used` count until `end`."""
        at = len(state)
        while at > 1 and state[at - 2] >= end:
            at -= 2
            used -= int(state[at + 1])
        if used > 0:
            state[0] += used - self._take(state, at, used)
            self._insert(state, end, used)

    def _take(self, state: State, at: int, most: int) -> int:
        """Remove up to `most` from the last entries before `at`, and return how much it was."""
        lacking = most
        while at > 1 and lacking > 0:
            taken = min(lacking, int(state[at - 1]))
            lacking -= taken
            state[at - 1] -= taken
            at -= 2
            if not state[at + 1]:
                del state[at : at + 2]
        return most - lacking

    def _end(self, now: float) -> float:
        """Return when a charge leaves the window."""
        step = math.ceil(now * _STEPS / self.period) + _STEPS
        end = step * self.period / _STEPS
        # Floats may have rounded the quotient down; what counts is the time between two calls.
        return end if end - now >= self.period else (step + 1) * self.period / _STEPS

    def _expire(self, state: State, now: float) -> None:
        at, gone = 1, 0.0
        while at < len(state) and state[at] <= now:
            gone += state[at + 1]
            at += 2
        if gone:
            state[0] -= gone
            del state[1:at]

    def _wait(self, state: State, now: float, cost: int) -> float:
        if cost <= self.amount:
            return self._wait_for_room(state, now, cost)
        later = math.ceil((cost - self.amount) / self.amount)
        return self._wait_for_room(state, now, cost - later * self.amount) + later * self.period

    def _wait_for_room(self, state: State, now: float, cost: int) -> float:
        lacking = state[0] + cost - self.amount
        at = 1
        while lacking > 0:
            lacking -= state[at + 1]
            at += 2
        return until(now, state[at - 2]) if at > 1 else 0.0


def until(now: float, then: float) -> float:
    """Return the least wait after which a clock at `now` shows `then` or later."""
    wait = then - now
    while now + wait < then:
        wait = math.nextafter(wait, math.inf)
    return wait
