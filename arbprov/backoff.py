"""Delays between retries: exponential, with full jitter.

The algorithm is "Full Jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS
Architecture Blog, 2015): a random share of a ceiling that doubles with each retry.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

__all__ = ["Backoff"]


@attrs.define
class Backoff:
    """The delays of one series of retries, in seconds.

    Args:
        first: Ceiling of the first delay.
        cap: Maximum of every ceiling.
        jitter: Returns the share of the ceiling to wait, from 0 to 1.

    >>> backoff = Backoff(first=0.5, cap=3.0, jitter=lambda: 1.0)
    >>> [backoff.next() for _ in range(4)]
    [0.5, 1.0, 2.0, 3.0]
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
        """Start again with `first`."""
        self._ceiling = 0.0
