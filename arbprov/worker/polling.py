"""When to ask the hub for a task: many polls at once while tasks flow, one when idle."""

from __future__ import annotations

import asyncio
from collections import deque

from arbprov.backoff import Backoff

__all__ = ["PollThrottle"]

# A hub that holds a poll this long is a long poll: its answer was worth waiting for.
_HELD = 0.1
# So long after the last task, the next is likely near, and the pauses do not grow yet.
_BUSY = 5.0


class PollThrottle:
    """Lets slots poll, as many at once as seem worth it.

    Args:
        most: Polls at once while tasks flow.
        idle: The pauses while there is nothing to do.
    """

    def __init__(self, most: int, idle: Backoff) -> None:
        self._most = most
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._allowed = 1
        self._polling = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        # What ends a pause, and when; a loop need not say when, if that is almost now.
        self._timer: asyncio.Handle | None = None
        self._until = 0.0
        self._found_at = 0.0
        self.closed = False
        self._blocked = False

    async def acquire(self) -> bool:
        """Wait until one more poll may go out; return False when there will be none."""
        while not self.closed and not self._is_open():
            turn = self._loop.create_future()
            self._waiting.append(turn)
            await turn
        self._polling += not self.closed
        return not self.closed

    def task_received(self) -> None:
        """Leave after a poll that brought a task."""
        self._polling -= 1
        self._found_at = self._loop.time()
        self._idle.reset()
        self._allowed = min(self._most, self._allowed * 2)
        self._wake()

    def poll_empty(self, held: float) -> None:
        """Leave after a poll that brought nothing, and that the hub held for `held` seconds."""
        self._polling -= 1
        self._allowed = 1
        if held >= _HELD:
            self._wake()
        elif self._timer is None:
            self._pause(self._next_pause())

    def pause(self, seconds: float) -> None:
        """Leave, and let nobody poll for `seconds`."""
        self._polling -= 1
        self._allowed = 1
        self._pause(seconds)

    def set_blocked(self, blocked: bool) -> None:
        """Let nobody poll until this is called again with False."""
        self._blocked = blocked
        self._wake()

    @property
    def is_pausing(self) -> bool:
        """Whether nobody may poll for some time."""
        return self._timer is not None

    def close(self) -> None:
        """Let nobody poll any more."""
        self.closed = True
        self._wake()

    def _is_open(self) -> bool:
        free = self._polling < self._allowed
        return free and self._timer is None and not self._blocked

    def _next_pause(self) -> float:
        if self._loop.time() - self._found_at < _BUSY:
            self._idle.reset()
        return self._idle.next()

    def _pause(self, seconds: float) -> None:
        until = self._loop.time() + seconds
        if self._timer is not None:
            if self._until >= until:
                return
            self._timer.cancel()
        self._until = until
        self._timer = self._loop.call_at(until, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        free = len(self._waiting) if self.closed else self._allowed - self._polling
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
