"""A pause between calls."""

from __future__ import annotations

import attrs

from arbprov._types import Clock
from arbprov._utils import format_number, is_positive_number
from arbprov.errors import ConfigurationError
from arbprov.limits.window import RollingWindow

__all__ = ["MinDelay"]


@attrs.frozen
class MinDelay:
    """At least `seconds` between the starts of two calls.

    >>> str(MinDelay(0.5))
    'a delay of 0.5s'

    Raises:
        ConfigurationError: They are not a number above 0.
    """

    seconds: float

    def __attrs_post_init__(self) -> None:
        if not is_positive_number(self.seconds):
            raise ConfigurationError(
                f"a delay is a number of seconds above 0, not {self.seconds!r}"
            )

    def __str__(self) -> str:
        return f"a delay of {format_number(self.seconds)}s"

    @property
    def capacity(self) -> int:
        """One call at a time."""
        return 1

    def meters(self, clock: Clock) -> tuple[RollingWindow]:
        """Return a window that holds one call."""
        return (RollingWindow(1, self.seconds),)
