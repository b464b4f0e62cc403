"""What a kind of limit has to offer: how much it ever admits, and a meter for each key."""

from __future__ import annotations

from typing import Protocol

from arbprov._types import Clock

__all__ = ["Meter", "Rule"]


class Meter(Protocol):
    """What one key has used of one limit. Times are in seconds and never go back."""

    def wait_time(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` would be admitted; 0 if it is now."""
        ...

    def add(self, now: float, cost: int) -> None:
        """Charge `cost`, which `wait_time` has admitted."""
        ...

    def refund(self, charged_at: float, cost: int) -> None:
        """Take back what `add` has charged at that time, as if it had never been."""
        ...

    def remaining(self, now: float) -> int:
        """Return how much is left right now."""
        ...

    def is_idle(self, now: float) -> bool:
        """Tell whether a new meter would do as well."""
        ...


class Rule(Protocol):
    """A limit as its author wrote it: frozen, and equal to another that means the same."""

    @property
    def capacity(self) -> int:
        """The most that is ever admitted at once; a call that costs more never runs."""
        ...

    def meter(self, clock: Clock) -> Meter:
        """Return a new meter."""
        ...
