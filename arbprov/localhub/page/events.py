"""Tells browsers that something has changed: at most once a second, whatever the hub does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.page.hub import PageHub

__all__ = ["PageEvents"]

_MAX_STREAMS = 100
# Seconds between two events, and between two lines that notice a browser that has gone.
_PAUSE = 1.0
_HEARTBEAT = 15.0


class PageEvents:
    """The stream of events.

    Args:
        hub: The hub.
        pause: Seconds between two events.
        heartbeat: Seconds of silence until a comment is sent.
    """

    def __init__(self, hub: PageHub, pause: float = _PAUSE, heartbeat: float = _HEARTBEAT) -> None:
        self._hub = hub
        self._pause = pause
        self._heartbeat = heartbeat
        self._open = 0

    async def stream(self, request: Request) -> Response:
        """Send an event after each change, or after many of them."""
        if self._open >= _MAX_STREAMS:
            raise ApiProblem(503, f"{_MAX_STREAMS} pages are open; close a page")
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        self._open += 1
        stopping = asyncio.ensure_future(self._hub.api.stopping.wait())
        waiting: list[asyncio.Future[Any]] = [stopping]
        try:
            with self._hub.queue.changes() as changes:
                yield b"retry: 2000\n\n"
                while not stopping.done():
                    if len(waiting) == 1:
                        waiting.append(asyncio.ensure_future(changes.get()))
                    await asyncio.wait(
                        waiting, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED
                    )
                    if waiting[-1] is stopping or not waiting[-1].done():
                        yield b": quiet\n\n"
                        continue
                    waiting.pop()
                    yield b"event: change\ndata: 1\n\n"
                    await asyncio.wait([stopping], timeout=self._pause)
                    # All changes meanwhile are a single event, at once.
                    while changes.qsize() > 1:
                        changes.get_nowait()
        finally:
            self._open -= 1
            for future in waiting:
                future.cancel()
