"""The decision after a worker's exit: a new worker after a delay, or the end of all. No IO."""

from __future__ import annotations

import enum

import attrs

from arbprov.backoff import Backoff
from arbprov.cli.exit_codes import FINAL, HUB_NEVER_REACHED

__all__ = ["RestartDelays", "Stage", "final_exit_code"]

# In seconds. Without jitter, since workers share no server that restarts together could overload.
_DELAYS = (0.5, 30.0)
# A worker that ran this long had started well; its exit says nothing about the next start.
_STABLE_AFTER = 60.0


class Stage(enum.IntEnum):
    """The stages of a worker's start."""

    STARTING = 0
    RUNNING = 1
    CONNECTED = 2


def final_exit_code(code: int, stage: Stage, furthest: Stage) -> int | None:
    """Return the exit code of all workers if the exit of this worker ends them, else None.

    Args:
        code: The worker's exit code; if a signal killed it, the signal's negative number.
        stage: The stage that the worker reached.
        furthest: The furthest stage that any worker has reached.

    >>> final_exit_code(77, Stage.RUNNING, Stage.CONNECTED)
    77
    >>> final_exit_code(-9, Stage.RUNNING, Stage.CONNECTED) is None
    True
    """
    if code in FINAL or (code > 0 and stage is Stage.STARTING):
        return code
    if furthest is Stage.STARTING:
        return 1 if code else 0
    # Once any worker has reached the hub, the hub is retried for ever.
    return code if code == HUB_NEVER_REACHED and furthest < Stage.CONNECTED else None


@attrs.define
class RestartDelays:
    """The delays before the restarts of a worker.

    >>> delays = RestartDelays()
    >>> [delays.next(ran_for) for ran_for in (5, 5, 5, 3600)]
    [0.5, 1.0, 2.0, 0.5]
    """

    _backoff: Backoff = attrs.field(
        init=False, factory=lambda: Backoff(*_DELAYS, jitter=lambda: 1.0)
    )

    def next(self, ran_for: float) -> float:
        """Return the seconds to wait before the next restart.

        Args:
            ran_for: Seconds that the last worker ran.
        """
        if ran_for >= _STABLE_AFTER:
            self._backoff.reset()
        return self._backoff.next()
