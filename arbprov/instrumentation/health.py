"""Whether a provider lives, is ready and has started, from what was last seen of its workers."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

__all__ = ["SILENCE", "Answer", "WorkerHealth", "livez", "readyz", "startupz"]

# Seconds without a turn of its event loop after which a worker is taken as hung.
SILENCE = 5.0

# The status of an HTTP response, and its text.
Answer = tuple[int, str]


@attrs.frozen
class WorkerHealth:
    """What was last seen of a worker.

    Args:
        name: The worker, as in ``worker 2 (pid 4711)``; empty if there are no others.
        has_started: Whether its startup hooks have run.
        unready: Why it gets no task, such as ``it is draining``; empty if it may get one.
        silent_for: Seconds for which its event loop has not turned.
    """

    name: str
    has_started: bool
    unready: str
    silent_for: float

    @property
    def hung(self) -> str:
        """Why it is taken as hung; empty if it is not."""
        if self.silent_for <= SILENCE:
            return ""
        return f"the event loop has not turned for {self.silent_for:.0f} s"

    def describe(self, reason: str) -> str:
        """Return a reason with the worker's name before it."""
        return f"{self.name}: {reason}" if self.name else reason


def livez(workers: Sequence[WorkerHealth]) -> Answer:
    """Answer whether the event loops of all workers turn.

    >>> livez([WorkerHealth("", has_started=True, unready="", silent_for=7.0)])
    (503, 'the event loop has not turned for 7 s')
    """
    hung = [worker.describe(worker.hung) for worker in workers if worker.hung]
    return (503, "; ".join(hung)) if hung else (200, "ok")


def readyz(workers: Sequence[WorkerHealth]) -> Answer:
    """Answer whether at least one worker may get a task.

    >>> readyz([WorkerHealth("", True, "", 0.0)])
    (200, 'ok')
    >>> readyz([])
    (503, 'no worker runs')
    """
    reasons = [worker.describe(worker.hung or worker.unready) for worker in workers]
    if any(not (worker.hung or worker.unready) for worker in workers):
        return 200, "ok"
    return 503, "; ".join(reasons) or "no worker runs"


def startupz(workers: Sequence[WorkerHealth]) -> Answer:
    """Answer whether at least one worker has started.

    >>> startupz([WorkerHealth("", False, "it starts", 0.0)])
    (503, 'the startup hooks have not ended')
    """
    if any(worker.has_started for worker in workers):
        return 200, "ok"
    return 503, "the startup hooks have not ended"
