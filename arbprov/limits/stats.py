"""What is noted of decisions: counters for each limit, and a warning before it is met."""

from __future__ import annotations

import functools
import math
import threading

import attrs

__all__ = ["LimitCounts", "Tally", "crossed"]

Levels = tuple[float, ...]


@attrs.define
class LimitCounts:
    """What one limit has decided since the start, over all keys.

    Args:
        limit: The limit, as in ``"5/second"``.
        key: What it is counted by; empty if all calls share it.
        scope: Whose it is: ``"app"``, ``"action:NAME"``, ``"blueprint:NAME"`` or ``"name:NAME"``.
        allowed: Calls that it admitted, and that were charged.
        denied: Calls that it refused; of a shadow limit, those that it would have refused.
        gated: Those of the denied that a closed gate has refused.
        waited: Those of the allowed that had to wait for it first.
        fallback: Decisions that were made while the store was away.
    """

    limit: str
    key: str
    scope: str
    allowed: int = 0
    denied: int = 0
    gated: int = 0
    waited: int = 0
    fallback: int = 0


class Tally:
    """Counts, from any thread, and tells what it has counted."""

    def __init__(self, limit: str, key: str, scope: str) -> None:
        self._lock = threading.Lock()
        self._counts = LimitCounts(limit, key, scope)

    def allowed(self, *, waited: bool, fallback: bool) -> None:
        """Count a call that was admitted."""
        with self._lock:
            self._counts.allowed += 1
            self._counts.waited += waited
            self._counts.fallback += fallback

    def denied(self, *, gated: bool, fallback: bool) -> None:
        """Count a call that was refused."""
        with self._lock:
            self._counts.denied += 1
            self._counts.gated += gated
            self._counts.fallback += fallback

    def counts(self) -> LimitCounts:
        """Return a copy of what was counted so far."""
        with self._lock:
            return attrs.evolve(self._counts)


@functools.lru_cache(maxsize=1024)
def _thresholds(levels: Levels, size: int) -> tuple[tuple[float, int], ...]:
    counts = [(level, math.ceil(level * size)) for level in sorted(levels)]
    # One that is the whole limit comes too late to be a warning.
    return tuple((level, count) for level, count in counts if count < size)


def crossed(levels: Levels, size: int, used: int, cost: int) -> float | None:
    """Return the highest of `levels` that a charge has reached, if it has reached one.

    Args:
        levels: Shares of `size`.
        size: The whole limit.
        used: What is used after the charge.
        cost: The charge.
    """
    thresholds = _thresholds(levels, size)
    if not thresholds or used < thresholds[0][1]:
        return None
    reached = [level for level, count in thresholds if used - cost < count <= used]
    return max(reached, default=None)
