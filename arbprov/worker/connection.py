"""Whether the hub answers, and when the worker gives it up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import attrs

from arbprov.backoff import Backoff
from arbprov.errors import AuthenticationError, HubConnectionError, HubError

__all__ = ["HubConnection"]

logger = logging.getLogger("arbprov")

# Seconds that the hub may refuse the token: it may be in the middle of a rotation.
_REFUSED_FOR = 60.0
# Seconds without a failed call after which a poll that the hub holds counts as an answer.
_HELD_FOR = 1.0
# Pauses between polls of a hub that does not answer, in seconds.
_TROUBLE = (0.5, 10.0)


@attrs.define(eq=False, kw_only=True)
class HubConnection:
    """Knows whether the hub answers. A hub that has answered once is never given up for silence.

    It belongs to the event loop that runs when it is made.

    Args:
        start_timeout: Seconds that the hub may stay away at the start.
        on_connect: Called when it answers for the first time, or again after an error.
        on_disconnect: Called with the error when it does not answer any more.
        give_up: Called with the error that the worker is to end with.

    Attributes:
        is_up: Whether its last answer was no error.
        answered_at: The event loop's time of its last answer to a poll; None before the first.
    """

    start_timeout: float
    on_connect: Callable[[], object]
    on_disconnect: Callable[[HubError], object]
    give_up: Callable[[HubError], object]
    is_up: bool = attrs.field(default=False, init=False)
    answered_at: float | None = attrs.field(default=None, init=False)
    _was_up: bool = attrs.field(default=False, init=False)
    _has_failed: bool = attrs.field(default=False, init=False)
    _refused_since: float | None = attrs.field(default=None, init=False)
    _failed_at: float = attrs.field(default=-math.inf, init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop, init=False)
    _pauses: Backoff = attrs.field(factory=lambda: Backoff(*_TROUBLE), init=False)
    _start_ends_at: float = attrs.field(init=False)

    @_start_ends_at.default
    def _end_of_start(self) -> float:
        return self._loop.time() + self.start_timeout

    def mark_up(self) -> None:
        """Note that the hub answers for the first time, or again after an error."""
        self.is_up = self._was_up = True
        self._refused_since = None
        self._pauses.reset()
        logger.info("connected to the hub")
        self.on_connect()

    def mark_down(self, error: HubError) -> None:
        """Note that a call of the hub has failed."""
        if self.is_up:
            logger.warning("lost the hub, retrying until it is back: %s", error)
            self.on_disconnect(error)
        elif self.is_first_failure:
            logger.warning("cannot reach the hub yet, retrying: %s", error)
        self.is_up, self._has_failed = False, True
        self._failed_at = self._loop.time()
        if isinstance(error, AuthenticationError) and self._refused_since is None:
            self._refused_since = self._loop.time()
        if (fatal := self.fatal_error(error)) is not None:
            self.give_up(fatal)

    @property
    def has_failed_lately(self) -> bool:
        """Whether a call of the hub has failed in the last second."""
        return self._loop.time() < self._failed_at + _HELD_FOR

    @property
    def is_first_failure(self) -> bool:
        """Whether the hub has never answered and no call of it has failed yet."""
        return not (self._was_up or self._has_failed)

    def fatal_error(self, error: HubError) -> HubError | None:
        """Return the error that the worker is to end with, if it is to end because of `error`."""
        now = self._loop.time()
        if isinstance(error, AuthenticationError):
            refused_for = now - (now if self._refused_since is None else self._refused_since)
            return error if not self._was_up or refused_for >= _REFUSED_FOR else None
        if self._was_up or now < self._start_ends_at:
            return None
        return HubConnectionError(
            f"the hub was not reached within {self.start_timeout:g} s, last error: {error}; "
            f"is HUB_GRPC_URL right, and does the hub run?"
        )

    def next_pause(self) -> float:
        """Return the seconds to wait after a poll that has failed."""
        pause = self._pauses.next()
        if self._was_up:
            return pause
        # The start's last poll comes when its time is over.
        return min(pause, max(0.0, self._start_ends_at - self._loop.time()))
