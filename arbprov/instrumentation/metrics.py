"""Metrics of a run, by prometheus-client, which the extra `metrics` installs.

Counters and histograms are told by the worker's event loop. Gauges, and the counts of limits, are
read on another thread: before a page is rendered, or each two seconds for a supervisor. No label
comes from a payload or an account: an action that does not exist counts as ``(unknown)``, and a
limit is labelled by its text, its owner and the path of its key.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from arbprov.instrumentation.observer import Observer
from arbprov.instrumentation.status import WorkerStatus
from arbprov.limits import LimitCounts, LimitStats
from arbprov.task import Task, TaskKey, TaskResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    Observe = Callable[[float], None]
    Combine = Literal["livesum", "livemax", "livemin"]


__all__ = ["UNKNOWN_ACTION", "Metrics"]

# The label of all actions that the provider does not have: a hub can send any name.
UNKNOWN_ACTION = "(unknown)"

# Seconds: from a handler that only computes to the longest timeouts, and to the longest polls.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Durations that wait to be observed together.
_BATCH = 500
_LIMIT_LABELS = ("limit", "scope", "key")
# By the fields of `LimitCounts`.
_DECISIONS = {
    "allowed": "Calls that a limit has admitted.",
    "denied": "Calls that a limit has refused.",
    "gated": "Calls that a limit has refused because of a cooldown.",
    "waited": "Calls that a limit has admitted after a wait.",
    "fallback": "Decisions that were made while the limit's store was away.",
}


class Metrics(Observer):
    """The metrics of a run.

    With the variable ``PROMETHEUS_MULTIPROC_DIR``, prometheus-client keeps them in files, which a
    supervisor adds up.

    Without that, durations are observed in batches, which takes less time than one by one between
    the steps of tasks; all of them are observed before a page is rendered. A process whose metrics
    are in files may be killed, and loses none.

    Args:
        actions: The names of the actions.
        limits: The limits.
    """

    def __init__(self, actions: Collection[str], limits: LimitStats) -> None:
        self._actions = frozenset(actions)
        self._limits = limits
        # Its own: one process may run several providers, one after another or at once.
        self._registry = registry = CollectorRegistry()
        self._tasks = Counter(
            "arbprov_tasks", "Tasks that have ended.", ["action", "status"], registry=registry
        )
        self._task_seconds = Histogram(
            "arbprov_task_duration_seconds",
            "Time from a task's arrival to its result, waits for limits included.",
            ["action"],
            buckets=_BUCKETS,
            registry=registry,
        )
        polls = Histogram(
            "arbprov_poll_duration_seconds",
            "Time that the hub took to answer a poll.",
            ["outcome"],
            buckets=_BUCKETS,
            registry=registry,
        )
        submissions = Histogram(
            "arbprov_submission_duration_seconds",
            "Time that an attempt to send a result took.",
            ["outcome"],
            buckets=_BUCKETS,
            registry=registry,
        )
        # With zeros, so that a rate is right from the first event on. A histogram has a count, so
        # each task need not pay for a counter beside it.
        self._polls = {of: polls.labels(of) for of in ("task", "empty", "failed")}
        self._submissions = {of: submissions.labels(of) for of in ("ok", "failed")}
        self._batch_size = 1 if os.environ.get("PROMETHEUS_MULTIPROC_DIR") else _BATCH
        # By action and status.
        self._ended: dict[tuple[str, str], Observe] = {}
        # Both the event loop and the thread that updates take from its left end.
        self._batch: deque[tuple[Observe, float]] = deque()
        self._gauges = _WorkerGauges(registry)
        self._limit_metrics = _LimitMetrics(limits, registry)

    def polled(self, seconds: float, task: Task | None, error: Exception | None) -> None:
        """Count a poll."""
        outcome = "failed" if error is not None else "empty" if task is None else "task"
        self._keep(self._polls[outcome].observe, seconds)

    def task_ended(self, result: TaskResult, seconds: float, error: BaseException | None) -> None:
        """Count a task."""
        key = (result.task.action, result.status.value)
        ended = self._ended.get(key)
        if ended is None:
            # Looked up by each task: only names that the provider has may be remembered.
            key = (key[0] if key[0] in self._actions else UNKNOWN_ACTION, key[1])
            ended = self._ended[key] = self._make_ended(*key)
        self._keep(ended, seconds)

    def _make_ended(self, action: str, status: str) -> Observe:
        tasks, durations = self._tasks.labels(action, status), self._task_seconds.labels(action)

        def observe(seconds: float) -> None:
            tasks.inc()
            durations.observe(seconds)

        return observe

    def submitted(self, key: TaskKey, seconds: float, error: Exception | None) -> None:
        """Count an attempt to send a result."""
        self._keep(self._submissions["ok" if error is None else "failed"].observe, seconds)

    def _keep(self, observe: Observe, seconds: float) -> None:
        batch = self._batch
        batch.append((observe, seconds))
        if len(batch) >= self._batch_size:
            self._observe_batch()

    def _observe_batch(self) -> None:
        batch = self._batch
        # The other thread may take the last.
        with contextlib.suppress(IndexError):
            while True:
                observe, seconds = batch.popleft()
                observe(seconds)

    def update(self, status: WorkerStatus, lag: float, silent_for: float) -> None:
        """Set the gauges, and count what has happened; stores of limits may block.

        Args:
            status: What was last seen of the worker.
            lag: Seconds by which its event loop was late at most.
            silent_for: Seconds for which its event loop has not turned.
        """
        self._gauges.set(status, lag, silent_for)
        self.count()
        self._limit_metrics.set_gauges()

    def count(self) -> None:
        """Count the tasks and the decisions of limits since the last time; this never blocks."""
        self._observe_batch()
        self._limit_metrics.count()

    def render(self) -> bytes:
        """Return all metrics of this process, the author's own too, in Prometheus's format."""
        return generate_latest(self._registry) + generate_latest(REGISTRY)


class _WorkerGauges:
    """What a worker does now; a supervisor adds up the workers, or takes the worst."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._made_at = time.monotonic()

        def gauge(name: str, help: str, combine: Combine = "livesum") -> Gauge:
            return Gauge(f"arbprov_{name}", help, registry=registry, multiprocess_mode=combine)

        self._connected = gauge("hub_connected", "Workers that the hub answers.")
        self._slots = gauge("slots", "Tasks that can run at once.")
        self._free = gauge("slots_free", "Tasks that could begin now.")
        self._in_flight = gauge("tasks_in_flight", "Tasks that run or wait for limits.")
        self._waiting = gauge("tasks_waiting", "Tasks that wait for limits.")
        self._stuck = gauge("stuck_handlers", "Handlers that run on after their timeouts.")
        self._results = gauge("outbox_results", "Results that wait for the hub.")
        self._bytes = gauge("outbox_bytes", "Bytes of the results that wait for the hub.")
        self._oldest = gauge(
            "outbox_oldest_seconds", "Age of the oldest result that waits for the hub.", "livemax"
        )
        self._since_poll = gauge(
            "since_poll_seconds",
            "Time since the hub has answered a poll, or since the start.",
            "livemax",
        )
        self._lag = gauge(
            "loop_lag_seconds",
            "The longest time in the last half minute for which code kept the event loop busy.",
            "livemax",
        )

    def set(self, status: WorkerStatus, lag: float, silent_for: float) -> None:
        self._connected.set(status.is_connected)
        self._slots.set(status.slots)
        self._free.set(status.free_slots)
        self._in_flight.set(status.in_flight)
        self._waiting.set(status.waiting)
        self._stuck.set(status.stuck)
        self._results.set(status.undelivered)
        self._bytes.set(status.undelivered_bytes)
        # While the loop hangs, the status is old.
        self._oldest.set(status.oldest_undelivered + (silent_for if status.undelivered else 0.0))
        since_start = time.monotonic() - self._made_at
        since_poll = status.since_poll
        self._since_poll.set(since_start if since_poll is None else since_poll + silent_for)
        self._lag.set(max(lag, silent_for))


class _LimitMetrics:
    """The decisions of limits, and what is left of them."""

    def __init__(self, limits: LimitStats, registry: CollectorRegistry) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._counted = limits.counts()
        self._counters = {
            decision: Counter(f"arbprov_limit_{decision}", text, _LIMIT_LABELS, registry=registry)
            for decision, text in _DECISIONS.items()
        }

        def gauge(name: str, help: str, combine: Combine) -> Gauge:
            return Gauge(
                f"arbprov_limit_{name}",
                help,
                _LIMIT_LABELS,
                registry=registry,
                multiprocess_mode=combine,
            )

        self._headroom = gauge("headroom", "Units that are left of a limit.", "livemin")
        self._cooldowns = gauge("cooldowns", "Keys that a cooldown refuses now.", "livemax")
        self._held = gauge("held", "Units that calls in flight hold.", "livesum")
        self._add(self._counted)

    def count(self) -> None:
        with self._lock:
            before, self._counted = self._counted, self._limits.counts()
            self._add(self._counted, before)

    def _add(self, counts: Sequence[LimitCounts], before: Sequence[LimitCounts] = ()) -> None:
        for index, now in enumerate(counts):
            labels = (now.limit, now.scope, now.key)
            for decision, counter in self._counters.items():
                total = getattr(now, decision)
                known = getattr(before[index], decision) if before else total
                counter.labels(*labels).inc(total - known)

    def set_gauges(self) -> None:
        for usage in self._limits.usage():
            labels = (usage.limit, usage.scope, usage.key)
            self._cooldowns.labels(*labels).set(usage.cooldowns)
            self._held.labels(*labels).set(usage.held)
            if usage.headroom is not None:
                self._headroom.labels(*labels).set(usage.headroom)
