"""The buckets of one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from arbprov._types import Clock
from arbprov.limits.meter import Meter
from arbprov.limits.store import Charge, Headroom

__all__ = ["MemoryStore"]

_FEWEST_TO_SWEEP = 1024


class MemoryStore:
    """Keeps the buckets in a dict, under one lock; idle buckets are forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._meters: dict[str, Meter] = {}
        self._sweep_at = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        return len(self._meters)

    def acquire(self, charges: Sequence[Charge]) -> list[Headroom]:
        """Charge all or none; see `Store.acquire`."""
        with self._lock:
            now = self._clock.monotonic()
            # Before any bucket is looked up: a sweep forgets those that are still empty.
            if len(self._meters) + len(charges) > self._sweep_at:
                self._sweep(now)
            pairs = [(charge, self._meter(charge)) for charge in charges]
            waits = [meter.wait_time(now, charge.cost) for charge, meter in pairs]
            charged_at = None if any(waits) else now
            if charged_at is not None:
                for charge, meter in pairs:
                    meter.add(now, charge.cost)
            return [
                Headroom(charge.limit, meter.remaining(now), wait, charged_at)
                for (charge, meter), wait in zip(pairs, waits, strict=True)
            ]

    def peek(self, charges: Sequence[Charge]) -> list[Headroom]:
        """Look without charging; see `Store.peek`."""
        with self._lock:
            now = self._clock.monotonic()
            pairs = [(charge, self._known_or_new(charge)) for charge in charges]
            return [
                Headroom(charge.limit, meter.remaining(now), meter.wait_time(now, charge.cost))
                for charge, meter in pairs
            ]

    def refund(self, charges: Sequence[Charge], charged_at: float) -> None:
        """Take back a charge; see `Store.refund`."""
        with self._lock:
            for charge in charges:
                # One that is forgotten by now was idle, so there is nothing left of the charge.
                if meter := self._meters.get(charge.bucket):
                    meter.refund(charged_at, charge.cost)

    def _meter(self, charge: Charge) -> Meter:
        return self._meters.setdefault(charge.bucket, self._known_or_new(charge))

    def _known_or_new(self, charge: Charge) -> Meter:
        return self._meters.get(charge.bucket) or charge.limit.meter(self._clock)

    def _sweep(self, now: float) -> None:
        self._meters = {b: m for b, m in self._meters.items() if not m.is_idle(now)}
        # Only after as many new ones again, so that a sweep costs each of them the same.
        self._sweep_at = max(_FEWEST_TO_SWEEP, 2 * len(self._meters))
