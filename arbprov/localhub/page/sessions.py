"""Who is signed in: a browser has a random text, and the hub keeps the token for it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

import attrs

__all__ = ["Sessions"]

# Seconds without a request until a browser is signed out.
_MAX_IDLE = 12 * 3600.0
_MAX_SESSIONS = 1_000


@attrs.define
class _Session:
    token: str = attrs.field(repr=False)
    used_at: float


class Sessions:
    """Keeps the tokens of the browsers that are signed in, in memory.

    Args:
        clock: Returns a time in seconds that never goes back.

    >>> sessions = Sessions()
    >>> name = sessions.begin("a token")
    >>> sessions.find(name)
    'a token'
    >>> sessions.end(name)
    >>> sessions.find(name) is None
    True
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By the hash of the browser's text; the session used last is the last.
        self._sessions: dict[str, _Session] = {}

    def begin(self, token: str) -> str:
        """Sign a browser in, and return the text that it sends from now on."""
        while len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_urlsafe(24)
        self._sessions[_digest(name)] = _Session(token, self._clock())
        return name

    def find(self, name: str) -> str | None:
        """Return the token of a browser; None if it is not signed in, or was for too long."""
        digest = _digest(name)
        session = self._sessions.pop(digest, None)
        now = self._clock()
        if session is None or now - session.used_at >= _MAX_IDLE:
            return None
        session.used_at = now
        self._sessions[digest] = session
        return session.token

    def end(self, name: str) -> None:
        """Sign a browser out; nothing happens if it is not signed in."""
        self._sessions.pop(_digest(name), None)


def _digest(name: str) -> str:
    # How long a look-up takes tells nothing about a text whose hash is looked up.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
