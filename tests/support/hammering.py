"""Processes that ask for as much as they can get of a limit that they share."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import attrs

from arbprov.clock import SystemClock
from arbprov.limits import Limiter, StoreOpener, declare


@attrs.frozen
class Admission:
    """One call that was admitted: when it was asked for and answered, and by the store's time."""

    asked: float
    answered: float
    charged_at: float
    fallback: bool


@attrs.frozen
class Report:
    """What one process has got, and the longest time that one answer took."""

    admissions: list[Admission]
    asked: int
    slowest: float


def hammer(url, limit, begin, seconds, options):
    """Ask from `begin` on, a time of the machine's monotonic clock."""
    clock = SystemClock()
    limiter = Limiter(clock, StoreOpener(clock, "hammer", url))
    stack = limiter.compile([declare(limit, warn_at=(), **options)], action="work")
    limiter.upkeep()
    admissions, asked, slowest, upkeep_at = [], 0, 0.0, begin
    while time.monotonic() < begin:
        time.sleep(0.001)
    while (now := time.monotonic()) < begin + seconds:
        if now >= upkeep_at:
            upkeep_at = now + min(0.5, limiter.upkeep())
            now = time.monotonic()
        decision = limiter.acquire(stack, None)
        answered = time.monotonic()
        asked, slowest = asked + 1, max(slowest, answered - now)
        if decision.allowed:
            (receipt,) = decision.receipts
            fallback = decision.charges[0].fallback
            admissions.append(Admission(now, answered, receipt.charged_at, fallback))
    return Report(admissions, asked, slowest)


def start_hammering(pool, url, limit, *, processes, seconds, **options):
    """Return the futures of the reports, and when they begin."""
    # Time to start them all.
    begin = time.monotonic() + 2.0
    arguments = (url, limit, begin, seconds, options)
    return begin, [pool.submit(hammer, *arguments) for _ in range(processes)]


def process_pool(processes):
    # Spawned: a fork would share connections.
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


def most_in_any(times, period):
    """Return the largest number of sorted times in any half-open period."""
    most, first = 0, 0
    for last, time_ in enumerate(times):
        while times[first] + period <= time_:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_for_certain(admissions, period):
    """Return the largest number of calls that were admitted in one period beyond any doubt."""
    ordered = sorted(admissions, key=lambda one: one.asked)
    return max(
        (
            sum(one.answered < begin.asked + period for one in ordered[first:])
            for first, begin in enumerate(ordered)
        ),
        default=0,
    )
