"""Counting the handlers that go on after their deadlines, and so take slots from the worker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from arbprov.dispatcher import Call
from arbprov.errors import ProviderError

__all__ = ["StuckHandlers"]

# Seconds that all slots may be lost, before it is no more likely that any of them comes back.
_PATIENCE = 10.0


class StuckHandlers:
    """Knows which handlers hang, and has the worker given up once they leave it no slot.

    It belongs to the event loop that runs when it is made.

    Args:
        slots: How many handlers can hang before no task can be run.
        give_up: Called with the error to end with.
    """

    def __init__(self, slots: int, give_up: Callable[[ProviderError], object]) -> None:
        self._slots = slots
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._since: dict[Call, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def reason(self) -> str:
        """Why no task can be run, if they leave no slot, else an empty text."""
        if len(self._since) < self._slots:
            return ""
        longest: defaultdict[str, list[float]] = defaultdict(list)
        for call, since in self._since.items():
            longest[call.task.action].append(self._loop.time() - since)
        hanging = ", ".join(
            f"{action!r} ({len(times)}, for up to {max(times):.0f} s)"
            for action, times in sorted(longest.items())
        )
        return f"no slot is left of {self._slots}: handlers have outlived their time: {hanging}"

    @contextmanager
    def counted(self, call: Call) -> Iterator[None]:
        """Count a call while it hangs."""
        self._since[call] = self._loop.time()
        if self.reason:
            self._timer = self._loop.call_later(_PATIENCE, self._give_up_now)
        try:
            yield
        finally:
            del self._since[call]
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _give_up_now(self) -> None:
        self._give_up(
            ProviderError(
                f"{self.reason}; they can't be ended, so the provider ends for whoever starts it "
                f'again; with isolation="process" they could be killed'
            )
        )
