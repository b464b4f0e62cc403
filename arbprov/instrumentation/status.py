"""What a worker is doing now, for health checks and metrics."""

from __future__ import annotations

import attrs

__all__ = ["WorkerStatus"]


@attrs.frozen(kw_only=True)
class WorkerStatus:
    """A worker's state at a moment; times are in seconds.

    Args:
        has_started: Whether the startup hooks have run, and its slots are open.
        is_connected: Whether the last answer of the hub was no error, or the hub holds a poll now.
        is_draining: Whether it stops.
        unhealthy_reason: Why it can run no task, though it should; empty if it can.
        slots: How many tasks it can run at once.
        in_flight: How many tasks run now, tasks that wait for limits included.
        waiting: How many tasks wait for limits.
        stuck: How many handlers run on after their timeouts.
        undelivered: How many results wait for the hub.
        undelivered_bytes: Their bytes.
        oldest_undelivered: The age of the oldest of them; 0 if there are none.
        since_poll: Since the hub has last answered a poll; None if it never has.
    """

    has_started: bool
    is_connected: bool
    is_draining: bool
    unhealthy_reason: str
    slots: int
    in_flight: int
    waiting: int
    stuck: int
    undelivered: int
    undelivered_bytes: int
    oldest_undelivered: float
    since_poll: float | None

    @property
    def unready(self) -> str:
        """Why it gets no task now; empty if it may get one, once a slot is free."""
        if self.is_draining:
            return "it is draining"
        if not self.has_started:
            return "the startup hooks have not ended"
        return self.unhealthy_reason or ("" if self.is_connected else "the hub does not answer")

    @property
    def free_slots(self) -> int:
        """How many tasks could begin now."""
        return max(0, self.slots - self.in_flight - self.stuck)
