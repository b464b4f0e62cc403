"""Polling stops while too many results wait for the hub, or the journal cannot store more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from arbprov._utils import format_count
from arbprov.outbox.journal import Journal

__all__ = ["Capacity"]

logger = logging.getLogger("arbprov")


class Capacity:
    """Counts the results that wait for the hub, and reports when no more fit.

    Args:
        journal: While it is not ready, nothing fits.
        on_change: Called with whether more results fit, when that changes.
        max_results: How many results may wait before no more fit.
        max_bytes: Bytes of all waiting results before no more fit.

    Attributes:
        bytes: The bytes of all waiting results.

    >>> from arbprov.outbox.journal import MemoryJournal
    >>> capacity = Capacity(MemoryJournal(), print, max_results=2, max_bytes=1000)
    >>> capacity.update(results=1, size=10)
    >>> capacity.update(results=1, size=10)
    False
    >>> capacity.update(results=-1, size=-10)
    True
    """

    def __init__(
        self,
        journal: Journal,
        on_change: Callable[[bool], object],
        max_results: int,
        max_bytes: int,
    ) -> None:
        self._journal = journal
        self._on_change = on_change
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._results = 0
        self.bytes = 0
        self._available = True
        self._reported_full = False
        self._changed = asyncio.Event()
        journal.on_change = self.update

    def update(self, results: int = 0, size: int = 0) -> None:
        """Count results and their bytes that came, or that left (negative), and report a change."""
        self._results += results
        self.bytes += size
        full = self._results >= self._max_results or self.bytes >= self._max_bytes
        if full and not self._reported_full:
            logger.warning(
                "polling stops until the hub accepts results: %s wait, of %d bytes in all",
                format_count(self._results, "result"),
                self.bytes,
            )
        # Once per outage, not after each result that makes space for the next.
        self._reported_full = full or (self._reported_full and self._results > 0)
        self._changed.set()
        available = not full and self._journal.ready
        if available != self._available:
            self._available = available
            self._on_change(available)

    async def wait_below(self, max_results: int) -> None:
        """Wait until more results fit and fewer than `max_results` wait for the hub."""
        while not self._available or self._results >= max_results:
            self._changed.clear()
            await self._changed.wait()
