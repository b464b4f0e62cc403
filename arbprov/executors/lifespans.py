"""An app's lifespan around calls that run in the calling thread."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from arbprov.executors.contexts import adopt_variables
from arbprov.hooks import Lifespan

if TYPE_CHECKING:
    import asyncio

__all__ = ["EnteredLifespan"]


class EnteredLifespan:
    """Enters a lifespan once, and leaves it in the end.

    A plain one runs in the calling thread. An asynchronous one runs in an asyncio task of its own,
    for the loop may run a task for each of the two steps, and a task group in the lifespan has to
    be left by the task that has entered it.

    Args:
        lifespan: The lifespan.

    >>> import asyncio, contextlib
    >>> @contextlib.asynccontextmanager
    ... async def connect():
    ...     yield "connection"
    ...     print("closed")
    >>> async def main():
    ...     entered = EnteredLifespan(Lifespan(connect))
    ...     print(await entered.enter())
    ...     await entered.leave()
    >>> asyncio.run(main())
    connection
    closed
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._manager: Any = None
        self._task: asyncio.Task[None] | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._variables: contextvars.Context | None = None

    def enter(self) -> Any:
        """Enter it.

        Returns:
            What it has yielded, or an awaitable of that.
        """
        self._manager = self._lifespan.open()
        return self._start() if self._lifespan.is_async else self._manager.__enter__()

    def leave(self) -> Any:
        """Leave it.

        It sees no error of what it was around: what follows its `yield` runs in any case.

        Returns:
            None, or an awaitable of None.
        """
        return self._end() if self._lifespan.is_async else self._manager.__exit__(None, None, None)

    async def _start(self) -> Any:
        import asyncio

        class Leaving(asyncio.Future[None]):
            # As `asyncio.gather` has it: a test's event loop sees that no bytes are waited for.
            _children = ()

        loop = asyncio.get_running_loop()
        entered, self._leaving = loop.create_future(), Leaving(loop=loop)
        self._task = loop.create_task(self._live(entered, self._leaving))
        try:
            await asyncio.wait([self._task, entered], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        if self._task.done():
            self._task.result()
        assert self._variables is not None
        adopt_variables(self._variables)
        return entered.result()

    async def _live(self, entered: asyncio.Future[Any], leaving: asyncio.Future[None]) -> None:
        state = await self._manager.__aenter__()
        self._variables = contextvars.copy_context()
        entered.set_result(state)
        try:
            await leaving
        finally:
            await self._manager.__aexit__(None, None, None)

    async def _end(self) -> None:
        assert self._task is not None
        assert self._leaving is not None
        if not self._leaving.done():
            self._leaving.set_result(None)
        await self._task
