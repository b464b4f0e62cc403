"""The stores that keep the contract of `arbprov.limits.Store`, each on a clock of the test's own.

The laws of `support.laws` hold for each of them: a new store is one more class in `BENCHES`.
"""

from __future__ import annotations

import attrs

from arbprov.limits import Limiter
from arbprov.testing import VirtualClock


@attrs.frozen
class Call:
    """What a limit sees of a call."""

    payload: dict = attrs.field(factory=dict)
    account: dict = attrs.field(factory=dict)
    action: str = "work"


class MemoryBench:
    """Limiters that keep what was used in memory, all on one clock."""

    def __init__(self):
        self.clock = VirtualClock()

    def limiter(self):
        """Return a limiter that shares nothing with the others but the clock."""
        return Limiter(self.clock)

    def now(self):
        """Return the time that the stores go by."""
        return self.clock.monotonic()

    def advance(self, seconds):
        """Let time pass for the stores."""
        self.clock.advance(seconds)

    def close(self):
        """Give back what was taken for the bench."""


BENCHES = {"memory": MemoryBench}
