"""Ends spans on a thread, since what exports them may block."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["SpanQueue"]

logger = logging.getLogger("arbprov")

# Spans that wait for their ends; as many as the SDK's own queue keeps by default.
_MAX_SPANS = 2048
# Seconds for which the end of a run waits for the ends of its last spans.
_CLOSE_TIMEOUT = 1.0


class SpanQueue:
    """Ends spans in their order, on a daemon thread that begins with the first of them.

    It belongs to the thread that puts spans into it.
    """

    def __init__(self) -> None:
        # None is the last.
        self._queue: SimpleQueue[tuple[Span, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_dropped = False

    def put(self, span: Span, ended_at: int) -> None:
        """End a span soon; while too many spans wait, it is dropped, which the log says once.

        Args:
            span: The span; nothing else may end it.
            ended_at: When it has ended, in nanoseconds since 1970.
        """
        if self._queue.qsize() >= _MAX_SPANS:
            if not self._has_dropped:
                self._has_dropped = True
                logger.warning(
                    "spans are dropped: OpenTelemetry's span processor has %d waiting", _MAX_SPANS
                )
            return
        self._queue.put((span, ended_at))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="arbprov-spans", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the ends of the spans; spans that take longer than a second end later."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(_CLOSE_TIMEOUT)
        if self._thread.is_alive():
            logger.warning(
                "after %g s, OpenTelemetry's span processor still holds up the last spans",
                _CLOSE_TIMEOUT,
            )

    def _run(self) -> None:
        has_failed = False
        while (item := self._queue.get()) is not None:
            span, ended_at = item
            try:
                span.end(ended_at)
            except Exception:
                if not has_failed:
                    has_failed = True
                    logger.exception("a span could not be ended; this is logged only once")
