"""The task that log records belong to."""

from __future__ import annotations

from contextvars import ContextVar

from arbprov.task import Task

__all__ = ["current_task"]

# Set where a task begins. Its handler and hooks inherit it: on the event loop, on threads, and in
# `asyncio.to_thread`. Our formatter reads it for each record; nothing is added to the records.
current_task: ContextVar[Task | None] = ContextVar("arbprov_task", default=None)
