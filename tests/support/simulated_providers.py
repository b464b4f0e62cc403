"""Providers whose tasks meet a limit, against a real store in simulated time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from typing import Protocol

import attrs

from arbprov.localhub.tasks import ReceivedResult

from .task_stores import Bench, new_task

# Seconds between the hub and the provider, there and back.
ROUND_TRIP = 0.002
LEASE = 1e6


class Quota(Protocol):
    """What an API lets through."""

    def admit(self, now: float) -> float:
        """Count a call, and return 0; or return the seconds to wait until one may pass."""
        ...


@attrs.define
class FixedWindow:
    """So many calls in each period, counted from second 0: a quota of many APIs."""

    amount: int
    period: float
    number: int = -1
    used: int = 0

    def admit(self, now: float) -> float:
        number = int(now / self.period)
        if number != self.number:
            self.number, self.used = number, 0
        if self.used == self.amount:
            return (number + 1) * self.period - now
        self.used += 1
        return 0.0


@attrs.define
class RollingWindow:
    """So many calls in a period, wherever it begins: a limit of arbprov's."""

    amount: int
    period: float
    calls: deque[float] = attrs.field(factory=deque)

    def admit(self, now: float) -> float:
        while self.calls and self.calls[0] <= now - self.period:
            self.calls.popleft()
        if len(self.calls) == self.amount:
            return self.calls[0] + self.period - now
        self.calls.append(now)
        return 0.0


@attrs.define
class Tally:
    """When tasks succeeded, when they were over the limit, and when episodes began, in seconds."""

    successes: list[float] = attrs.field(factory=list)
    limits: list[float] = attrs.field(factory=list)
    episodes: list[float] = attrs.field(factory=list)

    def limits_by_episode(self) -> list[int]:
        """Return the number of limits of each episode but the last, which has not ended."""
        return [
            sum(begin <= at < end for at in self.limits)
            for begin, end in itertools.pairwise(self.episodes)
        ]


async def run_throttled(
    bench: Bench, quota: Quota, *, slots: int, duration: float, seconds: float, jitter: float = 0.0
) -> Tally:
    """Run a provider whose tasks, all of one group, meet a quota before their work begins.

    Args:
        bench: A store in memory, whose time is simulated.
        quota: The quota.
        slots: How many tasks the provider runs at the same time.
        duration: How long a task works, in seconds.
        seconds: For how long to run it.
        jitter: By which part the duration varies.
    """
    store, tally = bench.store, Tally()
    numbers, rng, now = itertools.count(), random.Random(0), 0.0
    running: list[tuple[float, int, ReceivedResult]] = []
    waiting = 0
    while now < seconds:
        if waiting <= slots:
            await store.submit([new_task(f"t{next(numbers)}") for _ in range(100)])
            waiting += 100
        due = await store.upkeep()
        tally.episodes += [now] * due.ready
        for task in await store.claim("p", slots - len(running), LEASE):
            wait = quota.admit(now)
            work = 0.0 if wait else duration * rng.uniform(1 - jitter, 1 + jitter)
            result = ReceivedResult(
                id=task.id,
                attempt=task.attempt,
                status="limit" if wait else "success",
                result=f"{next(numbers)}",
                wait_time=wait,
            )
            heapq.heappush(running, (now + work + ROUND_TRIP, next(numbers), result))
        events = [running[0][0]] if running else []
        if due.next_in is not None:
            events.append(now + due.next_in + 1e-6)
        await bench.advance(min(events) - now)
        now = min(events)
        while running and running[0][0] <= now:
            *_, result = heapq.heappop(running)
            await store.record([result])
            (tally.limits if result.wait_time else tally.successes).append(now)
            waiting -= not result.wait_time
    return tally
