"""The exact rolling window: no period ever holds more than the limit. Pure.

Admissions are kept as (time, cost), with the times rounded up to a thousandth of the period so
that a key costs at most 1,001 entries. Rounding up can only delay, never admit too early.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import attrs

__all__ = ["RollingWindow", "WindowLimit", "until"]

_STEPS = 1000


class WindowLimit(Protocol):
    """What a window keeps to: at most `amount` in any `period`, `burst` of it at once."""

    @property
    def amount(self) -> int: ...  # noqa: D102

    @property
    def period(self) -> float: ...  # noqa: D102

    @property
    def burst(self) -> int | None: ...  # noqa: D102


@attrs.define
class RollingWindow:
    """What one key has used of one limit. Times are in seconds and never go back."""

    limit: WindowLimit
    used: int = 0
    # [step, cost]: a step is a thousandth of the period.
    _entries: deque[list[int]] = attrs.field(factory=deque, init=False)
    # When all that was admitted would be through at an even pace.
    _paced_until: float = attrs.field(default=-math.inf, init=False)
    _added_at: float = attrs.field(default=-math.inf, init=False)

    def wait_time(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` would be admitted; 0 if it is now."""
        self._expire(now)
        return max(self._wait_for_room(now, cost), self._wait_for_pace(now, cost))

    def add(self, now: float, cost: int) -> None:
        """Charge `cost`, which `wait_time` has admitted."""
        step = self._step(now)
        if self._entries and self._entries[-1][0] >= step:
            self._entries[-1][1] += cost
        else:
            self._entries.append([step, cost])
        self.used += cost
        self._paced_until = max(self._paced_until, now) + cost * self._interval
        self._added_at = now

    def refund(self, charged_at: float, cost: int) -> None:
        """Take back a charge; one that has left the window already is none any more."""
        step = self._step(charged_at)
        for entry in reversed(self._entries):
            if entry[0] == step:
                entry[1] -= cost
                self.used -= cost
                # But for the time that may have passed unused before the last charge.
                unused = self._added_at - charged_at
                self._paced_until -= max(0.0, cost * self._interval - unused)
                return

    def remaining(self, now: float) -> int:
        """Return how much is left right now."""
        self._expire(now)
        return self.limit.amount - self.used

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing is remembered any more."""
        self._expire(now)
        return not self._entries

    def _step(self, now: float) -> int:
        step = math.ceil(now * _STEPS / self.limit.period)
        # Floats may have rounded the quotient down; what counts is the time between two calls.
        return step if self._end(step) - now >= self.limit.period else step + 1

    def _end(self, step: int) -> float:
        """Return when an admission at `step` leaves the window."""
        return (step + _STEPS) * self.limit.period / _STEPS

    def _expire(self, now: float) -> None:
        while self._entries and self._end(self._entries[0][0]) <= now:
            self.used -= self._entries.popleft()[1]

    def _wait_for_room(self, now: float, cost: int) -> float:
        lacking = self.used + cost - self.limit.amount
        if lacking <= 0:
            return 0.0
        for step, entry_cost in self._entries:
            lacking -= entry_cost
            if lacking <= 0:
                return until(now, self._end(step))
        raise ValueError(f"a cost of {cost} never fits into {self.limit}")

    def _wait_for_pace(self, now: float, cost: int) -> float:
        """Return the wait that spreads calls evenly (ATM's GCRA, with `burst` as its slack)."""
        if self.limit.burst is None:
            return 0.0
        ready = self._paced_until + (cost - self.limit.burst) * self._interval
        return until(now, ready) if ready > now else 0.0

    @property
    def _interval(self) -> float:
        return self.limit.period / self.limit.amount


def until(now: float, then: float) -> float:
    """Return the least wait after which a clock at `now` shows `then` or later."""
    wait = then - now
    while now + wait < then:
        wait = math.nextafter(wait, math.inf)
    return wait
