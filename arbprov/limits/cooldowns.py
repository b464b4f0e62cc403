"""Gates: buckets that are closed for a while, since the API behind them said so. Pure."""

from __future__ import annotations

import math

import attrs

from arbprov.limits.stores.base import Bucket
from arbprov.limits.window import until

__all__ = ["Gates"]

# Seconds after which a gate that nobody has tried again is forgotten.
_REMEMBERED = 3600.0


@attrs.define
class _Gate:
    closed_until: float
    lease: float
    probing_until: float = -math.inf

    @property
    def forgotten_at(self) -> float:
        return self.closed_until + _REMEMBERED


class Gates:
    """Closed buckets; times are in seconds and never go back."""

    def __init__(self) -> None:
        # Whether there are any is asked for each decision, so it is asked of the dict itself.
        self.known: dict[Bucket, _Gate] = {}

    def wait_time(self, bucket: Bucket, now: float) -> float:
        """Return the seconds until the gate lets a call through; 0 if it does now."""
        gate = self._gate(bucket, now)
        if gate is None:
            return 0.0
        opens = max(gate.closed_until, gate.probing_until)
        return until(now, opens) if opens > now else 0.0

    def close(self, bucket: Bucket, now: float, seconds: float, lease: float) -> None:
        """Close a gate until ``now + seconds``, or leave it closed if it is for longer.

        Nobody waits any more for whoever went through first: the next one does.
        """
        gate = self._gate(bucket, now)
        if gate is None:
            gate = self.known[bucket] = _Gate(-math.inf, lease)
        gate.closed_until = max(gate.closed_until, now + seconds)
        gate.lease = lease
        gate.probing_until = -math.inf

    def closed(self, now: float) -> list[tuple[Bucket, float, float]]:
        """Return the gates that are closed: each bucket, the seconds yet, and the lease."""
        return [
            (bucket, gate.closed_until - now, gate.lease)
            for bucket, gate in self.known.items()
            if gate.closed_until > now
        ]

    def enter(self, bucket: Bucket, now: float) -> bool:
        """Go through an open gate; return whether that is a probe, which the others wait for."""
        gate = self._gate(bucket, now)
        if gate is None:
            return False
        gate.probing_until = now + gate.lease
        return True

    def pass_on(self, bucket: Bucket, now: float) -> None:
        """Wait no longer for whoever went through first: the next one does."""
        gate = self._gate(bucket, now)
        if gate is not None:
            gate.probing_until = -math.inf

    def reopen(self, bucket: Bucket, now: float) -> None:
        """Let everybody through again, unless it was closed anew in the meantime."""
        gate = self.known.get(bucket)
        if gate is not None and gate.closed_until <= now:
            del self.known[bucket]

    def forget(self, now: float) -> None:
        """Drop the gates that have been open for long."""
        self.known = {b: g for b, g in self.known.items() if g.forgotten_at > now}

    def _gate(self, bucket: Bucket, now: float) -> _Gate | None:
        gate = self.known.get(bucket)
        return None if gate is None or gate.forgotten_at <= now else gate
