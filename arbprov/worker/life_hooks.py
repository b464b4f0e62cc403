"""The lifespan and the hooks around a worker's life, none of which may hold up a stop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Any

from arbprov._types import Hook
from arbprov._utils import describe_handler
from arbprov.context import NO_LIFESPAN
from arbprov.dispatcher import call_life_hook
from arbprov.errors import ProviderError
from arbprov.hooks import Hooks, Lifespan

__all__ = ["LifeHooks"]

# Seconds that the lifespan has to end if the shutdown hooks have taken all the time.
_LAST_MOMENT = 0.25


class LifeHooks:
    """Enters the lifespan and runs the startup hooks, and the reverse; a stop bounds their time.

    The start may take as long as it needs before that. Plain code that blocks the event loop can't
    be cancelled here.

    Args:
        stopping: Done once the worker is to stop.
        timeout: Seconds that a stop leaves to the start.
    """

    def __init__(self, stopping: asyncio.Future[None], timeout: float) -> None:
        self._stopping = stopping
        self._timeout = timeout
        self._loop = stopping.get_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._state: Any = NO_LIFESPAN
        # Leaves the lifespan; None if it was not entered.
        self._leave: Hook | None = None

    async def run_startup(self, hooks: Hooks) -> Any:
        """Enter the lifespan, and run the startup hooks.

        Returns:
            What the lifespan has yielded.

        Raises:
            ProviderError: The lifespan or a hook has not ended `timeout` seconds after the stop.
            Exception: The lifespan or a hook has failed.
        """
        steps = [("on_startup hook", hook) for hook in hooks.on_startup]
        if hooks.lifespan is not None:
            steps.insert(0, ("lifespan", self._enter(hooks.lifespan)))
        self._stopping.add_done_callback(self._start_timer)
        try:
            await self._run(steps)
        finally:
            self._stopping.remove_done_callback(self._start_timer)
        return self._state

    async def run_shutdown(self, hooks: Hooks, seconds: float) -> None:
        """Run the shutdown hooks, and leave the lifespan if it was entered.

        Args:
            hooks: The hooks.
            seconds: The time for all of them.

        Raises:
            ProviderError: The lifespan or a hook has not ended in time.
            Exception: The lifespan or a hook has failed.
        """
        ends_at = self._loop.time() + seconds
        try:
            self._timer = self._loop.call_at(ends_at, self._cancel)
            await self._run([("on_shutdown hook", hook) for hook in hooks.on_shutdown])
        finally:
            leave, self._leave = self._leave, None
            if leave is not None:
                ends_at = max(ends_at, self._loop.time() + _LAST_MOMENT)
                self._timer = self._loop.call_at(ends_at, self._cancel)
                await self._run([("lifespan", leave)])

    def _enter(self, lifespan: Lifespan) -> Hook:
        @functools.wraps(lifespan.function)
        async def enter() -> None:
            manager = lifespan.open()
            entered = manager.__aenter__() if lifespan.is_async else manager.__enter__()
            self._state = await entered if lifespan.is_async else entered
            end = manager.__aexit__ if lifespan.is_async else manager.__exit__
            # Without the worker's error: what follows the `yield` runs, and can't hide the error.
            self._leave = functools.wraps(lifespan.function)(lambda: end(None, None, None))

        return enter

    def _start_timer(self, stopping: asyncio.Future[None]) -> None:
        if self._task is not None:  # the hooks have not ended since the stop
            self._timer = self._loop.call_later(self._timeout, self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None  # with it, the timer is cancelled
        self._is_overdue = True
        self._task.cancel()

    async def _run(self, steps: Iterable[tuple[str, Hook]]) -> None:
        # In this task, not in a new one: the slots see the context variables that hooks set, and a
        # task group of the lifespan has to be left by the task that has entered it.
        self._task = asyncio.current_task()
        self._is_overdue = False
        step: tuple[str, Hook] | None = None
        try:
            for step in steps:
                await call_life_hook(*step)
        except asyncio.CancelledError:
            if not self._is_overdue or step is None:
                raise
            raise ProviderError(
                f"the {step[0]} {describe_handler(step[1])} has not ended in the time that "
                f"drain_timeout leaves to it, and is cancelled; make it quicker, or raise "
                f"drain_timeout"
            ) from None
        finally:
            self._task = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
