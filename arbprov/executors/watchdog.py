"""Logging the handler that blocks the event loop, and every other handler with it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable

from arbprov._utils import format_user_stack, indent_lines, quote
from arbprov.dispatcher import Call, Dispatcher
from arbprov.logs.current import current_task

__all__ = ["Watchdog"]

logger = logging.getLogger("arbprov")

# In seconds: how long a task may block the loop, and how often the thread checks.
_BLOCK_TIMEOUT = 1.0
_CHECK_INTERVAL = 0.1


class Watchdog:
    """Checks, from a thread of its own, that the event loop keeps running while handlers run on it.

    Each check pings the loop. A loop that does not answer, and stays in the same task for a second,
    is blocked by that task: the watchdog logs its handler with the stack, once.

    It belongs to the event loop that is running when it is made. The thread starts with the first
    call and sleeps while there are none.

    Args:
        dispatcher: Redacts the secrets in the logged stack.
        clock: Returns monotonic seconds.

    Attributes:
        calls: The calls to watch, by the tasks that run them.
        awake: Is set while there are checks; a first call has to `wake` them.
    """

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self.calls: dict[asyncio.Task[object], Call] = {}
        self._thread: threading.Thread | None = None
        self.awake = threading.Event()
        self._closed = threading.Event()
        self._answered = threading.Event()
        self._answered.set()
        # The task that the loop is in since the last answer, since when, and whether it is logged.
        self._suspect: asyncio.Task[object] | None = None
        self._suspected_at = 0.0
        self._is_logged = False

    def wake(self) -> None:
        """Go on with the checks, since there are calls again."""
        self.awake.set()
        if self._thread is None:
            name = "arbprov-watchdog"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self.awake.set()

    def check(self) -> None:
        """Ping the loop; if it has not answered for too long, log the task that it is in."""
        if self._answered.is_set():
            self._answered.clear()
            self._suspect, self._is_logged = None, False
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # the loop is closed
                self._closed.set()
            return
        task = asyncio.current_task(self._loop)
        if task is not self._suspect:
            self._suspect, self._suspected_at = task, self._clock()
        elif task and not self._is_logged and self._clock() - self._suspected_at >= _BLOCK_TIMEOUT:
            self._log(task)

    def _run(self) -> None:
        while self.awake.wait() and not self._closed.wait(_CHECK_INTERVAL):
            # Cleared first: a call that starts in between sets it again.
            self.awake.clear()
            if self.calls:
                self.awake.set()
            self.check()

    def _log(self, task: asyncio.Task[object]) -> None:
        stack = format_user_stack(sys._current_frames().get(self._loop_thread))
        # The task may have gone on while its stack was read.
        if self._answered.is_set() or asyncio.current_task(self._loop) is not task:
            return
        self._is_logged = True
        call = self.calls.get(task)
        if call is None:
            name = f"a task of {getattr(task.get_coro(), '__qualname__', 'an unknown coroutine')}"
        else:
            name = f"action {call.task.action!r} (task {quote(call.task.id)})"
        # A task that a handler started may hold the secrets of any call.
        calls = self.calls.copy().values() if call is None else [call]
        restored = current_task.set(None if call is None else call.task)
        logger.warning(
            "%s has blocked the event loop, and with it every other task, for more than %g s; "
            "await slow operations, or make the handler a plain def\n%s",
            name,
            _BLOCK_TIMEOUT,
            indent_lines(self._dispatcher.redact(stack, *calls)),
        )
        current_task.reset(restored)
