"""Calls that arrive together go to the store together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Batches"]

ItemT = TypeVar("ItemT")
ReturnT = TypeVar("ReturnT")


class Batches(Generic[ItemT, ReturnT]):
    """Calls a function with all items that have arrived while its last call was on its way.

    It belongs to the event loop that runs when `add` is called.

    Args:
        function: Gets a batch, and returns a value for each of its items. Its error is raised by
            `add` for each item of the batch.
        most: The most items in a batch.

    >>> async def double(numbers: Sequence[int]) -> list[int]:
    ...     print(numbers)
    ...     return [2 * number for number in numbers]
    >>> async def run() -> list[int]:
    ...     batches = Batches(double, most=10)
    ...     return await asyncio.gather(*map(batches.add, (1, 2, 3)))
    >>> asyncio.run(run())
    [1, 2, 3]
    [2, 4, 6]
    """

    def __init__(
        self, function: Callable[[Sequence[ItemT]], Awaitable[Sequence[ReturnT]]], most: int
    ) -> None:
        self._function = function
        self._most = most
        self._waiting: list[tuple[ItemT, asyncio.Future[ReturnT]]] = []
        self._running: asyncio.Task[None] | None = None

    async def add(self, item: ItemT) -> ReturnT:
        """Return the function's value for an item."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[ReturnT] = loop.create_future()
        self._waiting.append((item, outcome))
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run())
        return await outcome

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                values = await self._function([item for item, _ in batch])
            except Exception as error:
                for _, outcome in batch:
                    if not outcome.done():
                        outcome.set_exception(error)
                continue
            for (_, outcome), value in zip(batch, values, strict=True):
                # A caller that was cancelled does not wait any more.
                if not outcome.done():
                    outcome.set_result(value)

    async def finish(self) -> None:
        """Wait until no batch is on its way."""
        if self._running is not None:
            await asyncio.wait([self._running])
