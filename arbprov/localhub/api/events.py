"""The changes of tasks as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.queue import Change
from arbprov.localhub.tasks import State
from arbprov.payload.json import dumps

__all__ = ["EventEndpoints"]

_MEDIA_TYPE = "text/event-stream"
# Seconds between two lines that keep a quiet stream open, and notice a reader who has gone.
_HEARTBEAT = 15.0
_MAX_STREAMS = 100


class EventEndpoints:
    """The endpoint of the events.

    Args:
        hub: The hub.
        heartbeat: Seconds of silence until a comment is sent.
    """

    def __init__(self, hub: ApiHub, heartbeat: float = _HEARTBEAT) -> None:
        self._hub = hub
        self._heartbeat = heartbeat
        self._open = 0

    async def stream(self, request: Request) -> Response:
        """Send each change of a task from now on."""
        if request.method == "HEAD":
            return Response(media_type=_MEDIA_TYPE)
        if self._open >= _MAX_STREAMS:
            raise ApiProblem(503, f"{_MAX_STREAMS} streams of events are open; close a stream")
        return StreamingResponse(self._events(), media_type=_MEDIA_TYPE)

    async def _events(self) -> AsyncIterator[bytes]:
        self._open += 1
        stopping = asyncio.ensure_future(self._hub.stopping.wait())
        waiting: list[asyncio.Future[Any]] = [stopping]
        try:
            with self._hub.queue.changes() as changes:
                # The reader knows now that no later change is missed.
                yield b": open\n\n"
                while not stopping.done():
                    if len(waiting) == 1:
                        waiting.append(asyncio.ensure_future(changes.get()))
                    await asyncio.wait(
                        waiting, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED
                    )
                    if waiting[-1].done():
                        yield _format(waiting.pop().result())
                    elif not stopping.done():
                        yield b": quiet\n\n"
        finally:
            self._open -= 1
            for future in waiting:
                future.cancel()


def _format(change: Change) -> bytes:
    """Return an event: ``task`` with its id and state, or ``all`` if any task may have changed."""
    if not change.id:
        return b"event: all\ndata: {}\n\n"
    data = dumps({"id": change.id, "state": str(State(change.state).value)})
    return f"event: task\ndata: {data}\n\n".encode()
