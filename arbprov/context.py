"""`TaskContext`: the running task, for handlers and hooks."""

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
    """The running task; a parameter annotated with this class takes it, in handlers and hooks.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> @app.action(timeout=10)
    ... def order(ctx: TaskContext, item: str) -> dict:
    ...     ctx.logger.info("ordering %s", item)
    ...     return {"task": ctx.id, "by": ctx.now.isoformat(), "seconds": ctx.remaining}
    >>> app.test_client().call("order", {"item": "tea"}, id="7").data
    {'task': '7', 'by': '2026-01-01T00:00:00+00:00', 'seconds': 10.0}

    Attributes:
        id: The task's id.
        action: The action's name.
        deadline: The end of the handler's time, in seconds of the app's monotonic clock; see
            `remaining`.
        logger: The action's logger.
        payload: The payload as JSON, before any typing; empty if it could not be read.
        account: The account, likewise.
        limits: The limits of this call: what is left, ``refund()`` and ``report()``.
        cancelled: True once the result can no longer be sent, because the deadline has passed or
            a stop has taken `drain_timeout`. A long plain handler checks it and returns early.
    """

    id: str
    action: str
    deadline: float
    logger: logging.Logger
    payload: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    account: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    limits: CallLimits = attrs.field(default=None, repr=False)
    cancelled: bool = False
    _clock: Clock = attrs.field(kw_only=True, repr=False)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, never below 0: a good timeout for requests."""
        return max(0.0, self.deadline - self._clock.monotonic())

    @property
    def now(self) -> datetime:
        """The time of the app's clock, aware and in UTC; a test advances it."""
        return self._clock.now()
