"""The hooks around a worker's life, none of which may hold up a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from arbprov._types import Hook
from arbprov._utils import describe_handler
from arbprov.dispatcher import run_hooks
from arbprov.errors import ProviderError

__all__ = ["LifeHooks"]


class LifeHooks:
    """Runs startup and shutdown hooks; from a stop on, they have to end in time.

    Startup hooks may take as long as they need before that. A plain hook that blocks the event
    loop can't be cancelled here.

    Args:
        stopping: Done once the worker is to stop.
        timeout: Seconds that a stop leaves to the hooks.
    """

    def __init__(self, stopping: asyncio.Future[None], timeout: float) -> None:
        self._stopping = stopping
        self._timeout = timeout
        self._loop = stopping.get_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_overdue = False

    async def run_startup(self, hooks: Sequence[Hook]) -> None:
        """Run the startup hooks.

        Raises:
            ProviderError: A hook has not ended `timeout` seconds after the stop.
            Exception: A hook has failed.
        """
        self._stopping.add_done_callback(self._start_timer)
        try:
            await self._run("on_startup", hooks)
        finally:
            self._stopping.remove_done_callback(self._start_timer)

    async def run_shutdown(self, hooks: Sequence[Hook], seconds: float) -> None:
        """Run the shutdown hooks.

        Args:
            hooks: The hooks.
            seconds: The time for all of them.

        Raises:
            ProviderError: A hook has not ended in time.
            Exception: A hook has failed.
        """
        self._timer = self._loop.call_later(seconds, self._cancel)
        await self._run("on_shutdown", hooks)

    def _start_timer(self, stopping: asyncio.Future[None]) -> None:
        if self._task is not None:  # the hooks have not ended since the stop
            self._timer = self._loop.call_later(self._timeout, self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None  # with it, the timer is cancelled
        self._is_overdue = True
        self._task.cancel()

    async def _run(self, kind: str, hooks: Sequence[Hook]) -> None:
        # In this task, not in a new one: the slots see the context variables that hooks set.
        self._task = asyncio.current_task()
        hook: Hook | None = None
        try:
            for hook in hooks:
                await run_hooks([hook])
        except asyncio.CancelledError:
            if not self._is_overdue or hook is None:
                raise
            raise ProviderError(
                f"the {kind} hook {describe_handler(hook)} has not ended in the time that a stop "
                f"leaves to it, and is cancelled; make it quicker, or raise drain_timeout"
            ) from None
        finally:
            self._task = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
