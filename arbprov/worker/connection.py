"""Whether the hub is there, and when to give it up."""

from __future__ import annotations

from arbprov.errors import AuthenticationError, HubConnectionError, HubError

__all__ = ["HubConnection"]

# A token may be in the middle of a rotation, but not for longer, in seconds.
_REFUSED_FOR = 60.0


class HubConnection:
    """What is known of the hub: once it was reached, it is never given up."""

    def __init__(self, began: float, start_timeout: float) -> None:
        self._gives_up_at = began + start_timeout
        self._start_timeout = start_timeout
        self._ever = False
        self._failed = False
        self._now = False
        self._refused_since: float | None = None

    def reached(self) -> bool:
        """Note an answer; return whether the hub was away before."""
        was_away = not self._now
        self._ever = self._now = True
        self._refused_since = None
        return was_away

    def lost(self) -> bool:
        """Note an error; return whether the hub was there before."""
        was_there, self._now = self._now, False
        return was_there

    def failed_first(self) -> bool:
        """Note an error; return whether it is the first one of a hub that was never there."""
        first, self._failed = not (self._failed or self._ever), True
        return first

    def limited(self, pause: float, now: float) -> float:
        """Return a pause that does not reach beyond the start's budget."""
        return pause if self._ever else min(pause, max(0.0, self._gives_up_at - now))

    def verdict(self, error: HubError, now: float) -> HubError | None:
        """Return what to end with, if it is time to."""
        if isinstance(error, AuthenticationError):
            self._refused_since = self._refused_since or now
            given_up = not self._ever or now - self._refused_since >= _REFUSED_FOR
            return error if given_up else None
        if self._ever or now < self._gives_up_at:
            return None
        return HubConnectionError(
            f"not reached within {self._start_timeout:g} s, last error: {error}; "
            f"is HUB_GRPC_URL right, and does the hub run?"
        )
