"""Results on their way to the hub: sent until the hub has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from arbprov.backoff import Backoff
from arbprov.errors import HubError
from arbprov.hub import Hub, ResultRefused
from arbprov.printable import quoted
from arbprov.task import TaskResult

__all__ = ["Outbox"]

logger = logging.getLogger("arbprov")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Outbox:
    """Keeps results that the hub has not acknowledged, in memory, and sends them again.

    Args:
        hub: Where they go.
        on_refused: Called with a result that the hub will never take, and its error.
        on_trouble: Called with each error of a try.
    """

    def __init__(
        self,
        hub: Hub,
        on_refused: Callable[[TaskResult, HubError], object],
        on_trouble: Callable[[HubError], object],
    ) -> None:
        self._hub = hub
        self._on_refused = on_refused
        self._on_trouble = on_trouble
        self.undelivered: dict[str, TaskResult] = {}

    async def deliver(self, result: TaskResult) -> None:
        """Send `result`, always the same, until the hub has it or has refused it for good."""
        self.undelivered[result.id] = result
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not await self._try(result):
            await asyncio.sleep(backoff.next())
        del self.undelivered[result.id]

    async def _try(self, result: TaskResult) -> bool:
        try:
            await self._hub.submit(result)
        except ResultRefused as error:
            task = quoted(result.id)
            logger.error("the hub refuses the result of task %s for good: %s", task, error)
            self._on_refused(result, error)
        except HubError as error:
            self._on_trouble(error)
            return False
        return True
