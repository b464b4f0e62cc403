"""Renewing the leases of a worker's tasks, so that the hub gives them to no other provider."""

from __future__ import annotations

import logging

from arbprov._utils import quote
from arbprov.dispatcher import Call
from arbprov.errors import HubError
from arbprov.outbox.outbox import Outbox
from arbprov.task import TaskKey
from arbprov.wire.hub import Hub
from arbprov.worker.background import Background
from arbprov.worker.recurring import Recurring

__all__ = ["Leases"]

logger = logging.getLogger("arbprov")


class Leases:
    """Renews the leases of the outbox's tasks while the hub asks for it, and hears of lost tasks.

    A renewal that fails changes nothing, and neither does a lost lease: each result is sent, and
    the hub decides what it is worth. It belongs to the event loop that runs when it is made.

    Args:
        hub: Has the leases.
        outbox: Knows the tasks.
        tasks: Runs the renewals.

    Attributes:
        calls: The calls that run now; `ctx.cancelled` is set if the hub has cancelled their task.
    """

    def __init__(self, hub: Hub, outbox: Outbox, tasks: Background) -> None:
        self.calls: set[Call] = set()
        self._hub = hub
        self._outbox = outbox
        self._renewals = Recurring(self._renew, lambda: hub.renew_interval, tasks)
        self._suspects: frozenset[TaskKey] = frozenset()
        self._lost: frozenset[TaskKey] = frozenset()
        self._has_failed = False

    def start(self) -> None:
        """Renew the leases from now on, until the hub asks for no renewals any more."""
        self._renewals.start()

    async def close(self) -> None:
        """Renew no lease any more."""
        await self._renewals.close()

    async def _renew(self) -> None:
        if not (keys := self._outbox.keys):
            return
        try:
            renewal = await self._hub.renew(keys)
        except HubError as error:
            # Also if the hub does not know the method: it has asked for it, and may know it later.
            level = logging.DEBUG if self._has_failed else logging.WARNING
            logger.log(level, "the leases of tasks were not renewed, retrying: %s", error)
            self._has_failed = True
            return
        self._has_failed = False
        for call in self.calls:
            if call.task.key in renewal.cancelled and not call.ctx.cancelled:
                logger.info("the hub has cancelled task %s", quote(call.task.id))
                call.ctx.cancelled = True
        # The hub may have recorded a result whose submission it has not answered yet: a task is
        # lost if it says so twice.
        lost = renewal.lost.intersection(self._outbox.keys)
        lost_again = lost & self._suspects
        for name, _ in sorted(lost_again - self._lost):
            logger.warning(
                "the hub has given task %s to another provider; its result is sent nevertheless",
                quote(name),
            )
        self._suspects, self._lost = lost, lost_again
