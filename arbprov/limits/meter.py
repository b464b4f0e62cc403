"""What a kind of limit has to offer: the algorithm of its meters, and the state of each key.

A meter is shared by all keys of a limit. What one key has used is a `State`: an array of doubles,
so that a hundred thousand keys stay small, and so that another store can keep the same figures.
"""

from __future__ import annotations

from array import array
from datetime import datetime
from typing import Protocol, TypeAlias

from arbprov._types import Clock

__all__ = ["Debt", "Meter", "Rule", "State"]

# What stands where is the meter's own business.
State: TypeAlias = "array[float]"
# How many seconds a charge will count yet, and how much it is.
Debt = tuple[float, int]


class Meter(Protocol):
    """How one limit counts. Times are in seconds of one clock and never go back."""

    @property
    def kind(self) -> str:
        """The algorithm's name, for stores that have it in another language."""
        ...

    @property
    def size(self) -> int:
        """The most that is ever admitted at once."""
        ...

    @property
    def horizon(self) -> float:
        """Seconds after which a state that is not used any more is idle."""
        ...

    def fresh(self) -> State:
        """Return the state of a key that has used nothing."""
        ...

    def look(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Return the seconds until `cost` would be admitted, 0 if it is now, and what is left.

        More than `size` is admitted in parts, one after the other: the wait is the last part's.
        """
        ...

    def add(self, state: State, now: float, cost: int) -> None:
        """Charge `cost`."""
        ...

    def take(self, state: State, now: float, cost: int) -> tuple[float, int]:
        """Charge `cost` if it is admitted now; return what `look` does, and what is left then."""
        wait, left = self.look(state, now, cost)
        if wait:
            return wait, left
        self.add(state, now, cost)
        return 0.0, left - cost

    def refund(self, state: State, charged_at: float, cost: int) -> None:
        """Take back what `add` has charged at that time, as if it had never been."""
        ...

    def report(self, state: State, now: float, used: int, reset_in: float) -> None:
        """Note that at least `used` is gone, whoever took it, and comes back in `reset_in`."""
        ...

    def is_idle(self, state: State, now: float) -> bool:
        """Tell whether a fresh state would do as well."""
        ...

    def debts(self, state: State, now: float) -> list[Debt]:
        """Return all that still counts, to be told to another store."""
        ...

    def figures(self, wall: datetime) -> tuple[float, float, float]:
        """Return the numbers that make the algorithm this limit's, at a wall clock's time."""
        ...


class Rule(Protocol):
    """A limit as its author wrote it: frozen, and equal to another that means the same."""

    @property
    def capacity(self) -> int:
        """The most that is ever admitted at once; a call that costs more never runs."""
        ...

    def meters(self, clock: Clock) -> tuple[Meter, ...]:
        """Return the meters that all have to admit a call; the first one has the quota."""
        ...
