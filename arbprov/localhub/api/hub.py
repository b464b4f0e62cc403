"""`ApiHub`: what the endpoints share: the hub's tasks and tokens, and its stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import attrs

from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.rates import Rates
from arbprov.localhub.queue import TaskQueue
from arbprov.localhub.reports import Reports
from arbprov.localhub.tokens import Tokens

__all__ = ["ApiHub"]

ReturnT = TypeVar("ReturnT")


@attrs.define(eq=False)
class ApiHub:
    """The hub as the endpoints see it.

    Attributes:
        queue: The hub's tasks.
        tokens: The hub's tokens.
        reports: The providers' reports.
        rates: How many tasks have ended lately.
        stopping: Set when the hub stops.
    """

    queue: TaskQueue
    tokens: Tokens
    reports: Reports = attrs.field(factory=Reports)
    rates: Rates = attrs.field(factory=Rates)
    stopping: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def count_ends(self) -> None:
        """Count the tasks that end, until it is cancelled."""
        with self.queue.changes() as changes:
            while True:
                self.rates.add(await changes.get())

    async def or_stop(self, work: Awaitable[ReturnT]) -> ReturnT:
        """Return the value of an awaitable.

        Raises:
            ApiProblem: The hub stops before.
        """
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            done, _ = await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            working.cancel()
        if working in done:
            return working.result()
        raise ApiProblem(503, "the hub stops; ask again when it has started")
