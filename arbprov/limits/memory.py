"""The buckets of one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from arbprov._types import Clock
from arbprov.limits.store import Charge, Headroom
from arbprov.limits.window import RollingWindow

__all__ = ["MemoryStore"]

_FEWEST_TO_SWEEP = 1024


class MemoryStore:
    """Keeps the buckets in a dict, under one lock; idle buckets are forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, RollingWindow] = {}
        self._sweep_at = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        return len(self._windows)

    def acquire(self, charges: Sequence[Charge]) -> list[Headroom]:
        """Charge all or none; see `Store.acquire`."""
        with self._lock:
            now = self._clock.monotonic()
            # Before any bucket is looked up: a sweep forgets those that are still empty.
            if len(self._windows) + len(charges) > self._sweep_at:
                self._sweep(now)
            windows = [self._window(charge) for charge in charges]
            pairs = list(zip(charges, windows, strict=True))
            waits = [window.wait_time(now, charge.cost) for charge, window in pairs]
            if not any(waits):
                for charge, window in pairs:
                    window.add(now, charge.cost)
            return [
                Headroom(charge.limit, window.remaining(now), wait)
                for (charge, window), wait in zip(pairs, waits, strict=True)
            ]

    def _window(self, charge: Charge) -> RollingWindow:
        window = self._windows.get(charge.bucket)
        return window or self._windows.setdefault(charge.bucket, RollingWindow(charge.limit))

    def _sweep(self, now: float) -> None:
        self._windows = {b: w for b, w in self._windows.items() if not w.is_idle(now)}
        # Only after as many new ones again, so that a sweep costs each of them the same.
        self._sweep_at = max(_FEWEST_TO_SWEEP, 2 * len(self._windows))
