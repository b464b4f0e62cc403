"""When to poll the hub: with many polls at once while tasks flow, with a single poll when idle."""

from __future__ import annotations

import asyncio
from collections import deque

from arbprov.backoff import Backoff

__all__ = ["PollThrottle"]

# A hub that holds a poll for this long is a long-polling hub: the next poll needs no pause.
_LONG_POLL = 0.1
# Seconds after a task in which another task is likely, so that the pauses do not grow yet.
_BUSY_TIME = 5.0


class PollThrottle:
    """Says when a slot may poll.

    It belongs to the event loop that runs when it is made.

    Args:
        max_polls: Polls at once while tasks flow.
        idle: The pauses while the hub has no task.

    Attributes:
        closed: Whether there will be no polls any more.
    """

    def __init__(self, max_polls: int, idle: Backoff) -> None:
        self._max_polls = max_polls
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._allowed = 1
        self._polling = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Ends the pause, at `_pause_ends_at`; uvloop has no timer for a pause of almost nothing.
        self._timer: asyncio.Handle | None = None
        self._pause_ends_at = 0.0
        self._last_task_at = 0.0
        # Whether there was a pause since the last task.
        self._was_idle = False
        self._blocked = False
        self.closed = False

    async def acquire(self) -> bool:
        """Wait until another poll may go out; return False if there will be no polls any more."""
        while not self.closed and (
            self._polling >= self._allowed or self._timer is not None or self._blocked
        ):
            turn = self._loop.create_future()
            self._waiting.append(turn)
            await turn
        self._polling += not self.closed
        return not self.closed

    def task_received(self) -> None:
        """Release a poll that brought a task, and allow twice as many."""
        self._polling -= 1
        self._last_task_at, self._was_idle = self._loop.time(), False
        self._allowed = min(self._max_polls, self._allowed * 2)
        self._wake()

    def poll_empty(self, held: float) -> None:
        """Release a poll that brought no task, after the hub has held it for `held` seconds."""
        self._polling -= 1
        self._allowed = 1
        if held >= _LONG_POLL:
            self._wake()
        elif self._timer is None:
            if not self._was_idle or self._loop.time() - self._last_task_at < _BUSY_TIME:
                self._idle.reset()
                self._was_idle = True
            self._start_pause(self._idle.next())

    def pause(self, seconds: float) -> None:
        """Release a poll, and allow none for some seconds."""
        self._polling -= 1
        self._allowed = 1
        self._start_pause(seconds)

    def set_blocked(self, blocked: bool) -> None:
        """Allow no polls while `blocked`."""
        self._blocked = blocked
        self._wake()

    @property
    def is_pausing(self) -> bool:
        """Whether no poll may go out for some time."""
        return self._timer is not None

    def close(self) -> None:
        """Allow no polls any more."""
        self.closed = True
        self._wake()

    def _start_pause(self, seconds: float) -> None:
        ends_at = self._loop.time() + seconds
        if self._timer is not None:
            if self._pause_ends_at >= ends_at:
                return
            self._timer.cancel()

        def end_pause() -> None:
            self._timer = None
            self._wake()

        self._pause_ends_at = ends_at
        self._timer = self._loop.call_at(ends_at, end_pause)

    def _wake(self) -> None:
        """Let waiting slots check again whether they may poll."""
        free = len(self._waiting) if self.closed else self._allowed - self._polling
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
