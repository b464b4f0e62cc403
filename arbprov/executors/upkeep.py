"""The regular work of the limits' stores, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["StoreUpkeep"]


class StoreUpkeep:
    """Shows the stores of limits that this process lives, from `start` until `close`.

    Not on the event loop: while a handler blocks that, other processes would take this one for
    dead, and the places of its calls for free.

    Args:
        upkeep: Does the work; returns in how many seconds to call it again, None for never.
        on_error: Called on the thread with an error of `upkeep`, which ends the work.
    """

    def __init__(
        self, upkeep: Callable[[], float | None], on_error: Callable[[BaseException], object]
    ) -> None:
        self._upkeep = upkeep
        self._on_error = on_error
        self._ended = threading.Event()

    def start(self, pause: float = 0.0) -> None:
        """Begin in `pause` seconds."""
        thread = threading.Thread(
            target=self._run, args=[pause], name="arbprov-upkeep", daemon=True
        )
        thread.start()

    def close(self) -> None:
        """End the work, after the piece of it that is under way."""
        self._ended.set()

    def _run(self, pause: float | None) -> None:
        try:
            while pause is not None and not self._ended.wait(pause):
                pause = self._upkeep()
        except BaseException as error:
            self._on_error(error)
