"""Processes that ask for as much as they can get of a limit that they share."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import attrs

from arbprov.clock import SystemClock
from arbprov.limits import Limiter, StoreFactory, declare
from arbprov.limits.stores.redis import RedisStore

from .stopwatch import Stopwatch
from .waiting import TIMEOUT

# Often enough for any limit here; a process that always ran would keep the others from running.
_ASK_EVERY = 0.001


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
    slowest: float


@attrs.frozen
class Hammers:
    """The processes, since when they ask, and their reports."""

    begin: float
    _reports: list[Future[Report]]
    _limit: str

    def wait_until(self, seconds):
        """Wait until they have asked for so many seconds."""
        time.sleep(max(0.0, self.begin + seconds - time.monotonic()))

    def wait_until_used_up(self, client):
        """Wait until the limit has been used up for a while, so that all processes have seen that.

        Just after a window has begun anew, a process may have seen less used than the others have
        used since.
        """
        (charge,) = (
            Limiter(SystemClock()).compile([declare(self._limit)], action="work").charges(None)
        )
        store = RedisStore(client, "hammer")
        while not (charge.remaining == 0 and 0.2 < charge.wait_time < 0.5):
            time.sleep(0.005)
            store.peek([charge])

    def reports(self):
        """Wait for the end, and return the reports."""
        return [report.result(TIMEOUT) for report in self._reports]


@contextmanager
def hammering(url, limit, *, processes, seconds, **options):
    """Have some processes ask for some seconds, from the same moment on.

    They begin when the store has heard of all of them, and each has heard how many there are.
    """
    # Spawned: a fork would share connections.
    context = multiprocessing.get_context("spawn")
    together, begin = context.Barrier(processes + 1, timeout=TIMEOUT), context.Value("d")
    with ProcessPoolExecutor(processes, context, _share, (together, begin)) as pool:
        work = (url, limit, seconds, options)
        reports = [pool.submit(_hammer, *work) for _ in range(processes)]
        together.wait()
        begin.value = time.monotonic() + 0.1
        together.wait()
        yield Hammers(begin.value, reports, limit)


def _share(*shared):
    global _together, _begin
    _together, _begin = shared


def _hammer(url, limit, seconds, options):
    clock = SystemClock()
    limiter = Limiter(clock, StoreFactory(clock, "hammer", url).open_store)
    stack = limiter.compile([declare(limit, warn_at=(), **options)], action="work")
    limiter.upkeep()
    _together.wait()
    limiter.upkeep()
    _together.wait()
    begin = upkeep_at = _begin.value
    admissions, slowest = [], 0.0
    while (now := time.monotonic()) < begin + seconds:
        if now >= upkeep_at:
            upkeep_at = now + min(0.5, limiter.upkeep())
        time.sleep(max(_ASK_EVERY, begin - now))
        asked, stopwatch = time.monotonic(), Stopwatch()
        decision = limiter.acquire(stack, None)
        answered, slowest = time.monotonic(), max(slowest, stopwatch.seconds)
        if decision.allowed:
            (receipt,) = decision.receipts
            fallback = decision.charges[0].fallback
            admissions.append(Admission(asked, answered, receipt.charged_at, fallback))
    return Report(admissions, slowest)


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
