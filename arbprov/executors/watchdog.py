"""Naming the handler that keeps the event loop, and so every other handler, from going on."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from arbprov import dispatcher as dispatcher_module
from arbprov._utils import indent_lines, quote
from arbprov.dispatcher import Call, Dispatcher

__all__ = ["Watchdog"]

logger = logging.getLogger("arbprov")

# In seconds: how long is too long, and how often to look.
_PATIENCE = 1.0
_LOOK_EVERY = 0.1


class Watchdog:
    """Looks, from a thread of its own, whether the event loop goes on while handlers run on it.

    It belongs to the event loop that runs when it is made.

    Args:
        dispatcher: Takes the secrets out of what is logged.
        clock: Returns seconds that only ever grow.
    """

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._calls: dict[asyncio.Task[object], Call] = {}
        self._thread: threading.Thread | None = None
        self._has_calls = threading.Event()
        self._closed = threading.Event()
        # Of the looks: whether the loop has gone on since the last one, and who was seen since.
        self._went_on = True
        self._suspect: asyncio.Task[object] | None = None
        self._since = 0.0
        self._told = False

    def watch(self, task: asyncio.Task[object], call: Call) -> None:
        """Watch a call that runs in a task on the loop, until `unwatch`."""
        self._calls[task] = call
        if not self._has_calls.is_set():
            self._has_calls.set()
            self._thread = self._thread or self._started()

    def unwatch(self, task: asyncio.Task[object]) -> None:
        """Watch a task's call no more."""
        del self._calls[task]

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._has_calls.set()

    def look(self) -> None:
        """See whether the loop has gone on since the last look, and tell who keeps it if not."""
        if self._went_on:
            self._ask()
            return
        task = asyncio.current_task(self._loop)
        if task is not self._suspect:
            self._suspect, self._since = task, self._clock()
        elif task and not self._told and self._clock() - self._since >= _PATIENCE:
            self._tell(task)

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._watch, name="arbprov-watchdog", daemon=True)
        thread.start()
        return thread

    def _watch(self) -> None:
        while self._has_calls.wait() and not self._closed.wait(_LOOK_EVERY):
            # Cleared first: a call that comes in between sets it again.
            self._has_calls.clear()
            if self._calls:
                self._has_calls.set()
            self.look()

    def _ask(self) -> None:
        self._went_on, self._suspect, self._told = False, None, False
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._closed.set()

    def _answer(self) -> None:
        self._went_on = True

    def _tell(self, task: asyncio.Task[object]) -> None:
        stack = self._stack()
        # It may have gone on while the stack was read.
        if self._went_on or asyncio.current_task(self._loop) is not task:
            return
        self._told = True
        call = self._calls.get(task)
        known = [call] if call else self._calls.copy().values()
        logger.warning(
            "%s has kept the event loop, and with it all other tasks, from going on for more than "
            "%g s; await what takes long, or make it a plain def\n%s",
            _name(task, call),
            _PATIENCE,
            indent_lines(self._dispatcher.redacted(stack, *known)),
        )

    def _stack(self) -> str:
        frames = traceback.extract_stack(sys._current_frames().get(self._loop_thread))
        own = [n for n, frame in enumerate(frames) if frame.filename == dispatcher_module.__file__]
        return "".join(traceback.format_list(frames[own[-1] + 1 if own else 0 :])).rstrip()


def _name(task: asyncio.Task[object], call: Call | None) -> str:
    if call is None:
        return f"a task of {getattr(task.get_coro(), '__qualname__', 'somebody')}"
    return f"action {call.task.action!r} (task {quote(call.task.id)})"
