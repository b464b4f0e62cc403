"""Handlers that run on after their deadlines, and so take slots from the worker."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from arbprov._utils import quote
from arbprov.dispatcher import Call
from arbprov.errors import ProviderError, TaskTimeoutError

__all__ = ["StuckHandlers"]

logger = logging.getLogger("arbprov")

# Seconds that handlers may take all slots before the worker gives up.
_GIVE_UP_AFTER = 10.0
# Errors of calls that were cancelled, or whose process was killed, at their deadlines.
_ENDED_AT_DEADLINE = (asyncio.CancelledError, TaskTimeoutError)


class StuckHandlers:
    """Waits for handlers that outlive their deadlines, and gives up when they take all slots.

    A handler that is stuck keeps its slot, or such handlers would pile up. It belongs to the event
    loop that runs when it is made.

    Args:
        slots: How many slots the worker has.
        stopping: Is done when the worker stops, and waits for no handler any more.
        give_up: Called with the error that the worker is to end with.
    """

    def __init__(
        self,
        slots: int,
        stopping: asyncio.Future[None],
        give_up: Callable[[ProviderError], object],
    ) -> None:
        self._slots = slots
        self._stopping = stopping
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._stuck_since: dict[Call, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._stuck_since)

    @property
    def unhealthy_reason(self) -> str:
        """Why the worker can run no task, if stuck handlers have all slots; else an empty text."""
        if len(self._stuck_since) < self._slots:
            return ""
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        for call, since in self._stuck_since.items():
            seconds[call.task.action].append(self._loop.time() - since)
        stuck = ", ".join(
            f"{action!r} ({len(times)}, for up to {max(times):.0f} s)"
            for action, times in sorted(seconds.items())
        )
        return f"no slot is left of {self._slots}: handlers have outlived their time: {stuck}"

    async def wait_for(self, call: Call) -> None:
        """Wait until a call whose time was up has really ended, or the worker stops."""

        def log_late_end(ended: asyncio.Future[Any]) -> None:
            if not (ended.cancelled() or issubclass(type(call.error), _ENDED_AT_DEADLINE)):
                logger.warning(
                    "task %s of action %r ended after its timeout of %g s; its result is dropped",
                    quote(call.task.id),
                    call.task.action,
                    call.route.timeout,
                )

        call.ended.add_done_callback(log_late_end)
        if not call.ended.done():
            either: list[asyncio.Future[Any]] = [call.ended, self._stopping]
            with self.track(call):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    @contextmanager
    def track(self, call: Call) -> Iterator[None]:
        """Count a call as stuck."""

        def give_up() -> None:
            message = (
                f"{self.unhealthy_reason}; they can't be ended, so the provider ends, for its "
                f'supervisor to start it again; with isolation="process" they could be killed'
            )
            self._give_up(ProviderError(message))

        self._stuck_since[call] = self._loop.time()
        if self.unhealthy_reason:
            self._timer = self._loop.call_later(_GIVE_UP_AFTER, give_up)
        try:
            yield
        finally:
            del self._stuck_since[call]
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
