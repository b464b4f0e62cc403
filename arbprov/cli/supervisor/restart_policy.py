"""What follows the end of a worker: the next one after a pause, or the end of all. Pure."""

from __future__ import annotations

import enum

import attrs

from arbprov.backoff import Backoff
from arbprov.cli.exits import FINAL, UNREACHED

__all__ = ["Pauses", "Stage", "final_code"]

# In seconds. Without jitter: they share no server that they could overrun together.
_PAUSES = (0.5, 30.0)
# One that has run for so long has begun well, and its end is another matter than the last one.
_WELL_AFTER = 60.0


class Stage(enum.IntEnum):
    """How far a worker has come."""

    STARTING = 0
    AT_WORK = 1
    CONNECTED = 2


def final_code(code: int, stage: Stage, furthest: Stage) -> int | None:
    """Return what all have to end with, since one has ended; None if another takes its place.

    Args:
        code: What it ended with; a signal's number below 0 if it was killed.
        stage: How far it had come.
        furthest: How far any worker had, since the start of all.
    """
    if code in FINAL or (code > 0 and stage is Stage.STARTING):
        return code
    if furthest is Stage.STARTING:
        return 1 if code else 0
    # A hub that was reached is tried for ever, by a worker that comes later too.
    return code if code == UNREACHED and furthest < Stage.CONNECTED else None


@attrs.define
class Pauses:
    """The pauses before each worker that takes the place of another, in seconds."""

    _backoff: Backoff = attrs.field(
        init=False, factory=lambda: Backoff(*_PAUSES, jitter=lambda: 1.0)
    )

    def after(self, seconds: float) -> float:
        """Return the pause after a worker that ran for so many seconds."""
        if seconds >= _WELL_AFTER:
            self._backoff.reset()
        return self._backoff.next()
