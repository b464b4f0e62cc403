"""An event loop whose time jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any

# A real loop's time never begins at 0 either.
BEGIN = 1000.0


class _JumpingSelector(selectors.DefaultSelector):
    """Where a real selector would wait, advances the time."""

    now = BEGIN

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits, and nothing will ever happen"
            self.now += max(0.0, timeout)
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    """Runs hours in milliseconds, without threads. It can be arbprov's clock too."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def monotonic(self) -> float:
        return self.time()

    def keep(self, seconds: float) -> None:
        """Let time pass as if the caller blocked the loop."""
        self._jumping.now += seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.time() - BEGIN)


def run_jumping(main: Coroutine[Any, Any, Any], loop: JumpingLoop) -> Any:
    """Run a coroutine and the tasks that it leaves behind; return its result."""
    try:
        return loop.run_until_complete(main)
    finally:
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest, timeout=60))
        loop.close()
