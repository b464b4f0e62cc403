"""How long to wait before the next try: exponential, with full jitter. Pure.

The algorithm is "Full Jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS
Architecture Blog, 2015): a random share of a ceiling that doubles with each try.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

__all__ = ["Backoff"]


@attrs.define
class Backoff:
    """The delays of one series of tries, in seconds.

    Args:
        first: The first delay's ceiling.
        cap: What no ceiling exceeds.
        jitter: Returns a number from 0 to 1, the share of the ceiling.
    """

    first: float
    cap: float
    jitter: Callable[[], float] = random.random
    _ceiling: float = attrs.field(init=False, default=0.0)

    def next(self) -> float:
        """Return the next delay."""
        self._ceiling = min(self.cap, self._ceiling * 2 or self.first)
        return self.jitter() * self._ceiling

    def reset(self) -> None:
        """Begin again with `first`."""
        self._ceiling = 0.0
