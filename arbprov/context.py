"""What a handler or a hook may know of the task it runs for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._types import Clock

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from arbprov.limits import CallLimits

__all__ = ["TaskContext"]


@attrs.define(eq=False)
class TaskContext:
    """The task at hand; a handler gets it by annotating a parameter with this class.

    `payload` and `account` are the task's JSON objects before any typing, and empty if they
    could not be read. `logger` is the action's own. `deadline` is in seconds of the app's
    monotonic clock; ask `remaining` instead.
    """

    id: str
    action: str
    deadline: float
    logger: logging.Logger
    payload: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    account: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    limits: CallLimits = attrs.field(default=None, repr=False)
    # True once nobody waits for this call any more: its deadline has passed, or the worker ends.
    # A long plain `def` handler looks at it and returns early.
    cancelled: bool = False
    _clock: Clock = attrs.field(kw_only=True, repr=False)

    @property
    def remaining(self) -> float:
        """Seconds left until the deadline, never below 0: a fit timeout for calls of one's own."""
        return max(0.0, self.deadline - self._clock.monotonic())

    @property
    def now(self) -> datetime:
        """The time as the app's clock has it, aware and in UTC; a test's clock can turn it."""
        return self._clock.now()
