"""The cost of one decision over a rate limit, beside other limiters for Python.

All contenders run in this process and in memory, in rounds that take turns, and the medians are
shown. Machines differ and are noisy, so each figure is also shown as a multiple of a bare function
call that was measured in the same rounds. Run it with ``tox -e bench``.

The contenders promise different things: arbprov and limits admit exactly N in any period, pyrate's
log does too, throttled-py's sliding window and GCRA admit more at times.
"""

from __future__ import annotations

import gc
import platform
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import attrs

from arbprov.clock import SystemClock
from arbprov.limits import Charge, Limiter, MemoryStore, declare, parse_limits

ROUNDS = 9
CALLS = 10_000
KEYS = 100_000

# (amount, period in seconds) of each of a contender's limits.
ADMITS_ALL = [(1_000_000, 3600)]
REFUSES = [(100, 3600)]
ONE_PER_KEY = [(1000, 3600)]
STACKED = [(1_000_000, 3600), (100_000, 60)]

Limits = list[tuple[int, int]]
# Decides over a call by a key.
Decide = Callable[[str], Any]


@attrs.define
class Call:
    """The part of a task that arbprov's limits see."""

    account: dict[str, Any]
    payload: dict[str, Any] = attrs.field(factory=dict)
    action: str = "work"


def arbprov_limiter(limits: Limits) -> Decide:
    """The whole decision over a task: its key read and hashed, all or nothing."""
    limiter = Limiter(SystemClock())
    text = "; ".join(f"{amount}/{period}s" for amount, period in limits)
    stack = limiter.compile([declare(text, key="account.id")], action="work")
    if limits is ONE_PER_KEY:
        return lambda key: limiter.acquire(stack, Call({"id": key}))
    call = Call({"id": "account-1"})
    return lambda key: limiter.acquire(stack, call)


def arbprov_store(limits: Limits) -> Decide:
    """The store alone, for charges that are ready."""
    store, texts = MemoryStore(SystemClock()), [f"{amount}/{period}s" for amount, period in limits]
    counting = [(text, parse_limits(text)[0].algorithms(SystemClock())[0]) for text in texts]

    def charges(key: bytes) -> list[Charge]:
        return [Charge(text, key, algorithm, 1) for text, algorithm in counting]

    if limits is ONE_PER_KEY:
        return lambda key: store.acquire(charges(key.encode()))
    prepared = charges(b"account-1")
    return lambda key: store.acquire(prepared)


def limits_moving_window(limits: Limits) -> Decide:
    """The package ``limits``: its moving window; several limits are asked in turn."""
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(MemoryStorage())
    items = [RateLimitItemPerSecond(amount, period) for amount, period in limits]
    if len(items) == 1:
        (item,) = items
        return lambda key: limiter.hit(item, key)
    return lambda key: all(limiter.hit(item, key) for item in items)


def throttled(using: str) -> Callable[[Limits], Decide]:
    """throttled-py, with one of its algorithms."""

    def make(limits: Limits) -> Decide:
        from datetime import timedelta

        from throttled import MemoryStore as Store
        from throttled import Throttled, rate_limiter

        # By default it forgets all but the last 1,024 keys.
        store = Store(options={"MAX_SIZE": 4 * KEYS})
        asked = [
            Throttled(
                using=using,
                quota=rate_limiter.per_duration(timedelta(seconds=period), amount, burst=amount),
                store=store,
                key_prefix=f"limit{number}",
            )
            for number, (amount, period) in enumerate(limits)
        ]
        if len(asked) == 1:
            return asked[0].limit
        return lambda key: all(not one.limit(key).limited for one in asked)

    return make


def pyrate(limits: Limits) -> Decide:
    """pyrate-limiter: a bucket in memory for each key."""
    from pyrate_limiter import BucketFactory, InMemoryBucket, MonotonicClock, Rate, RateItem
    from pyrate_limiter import Limiter as PyrateLimiter

    clock = MonotonicClock()
    # A bucket refuses rates that do not loosen as their periods grow, so the shortest comes first.
    rates = [
        Rate(amount, 1000 * period) for amount, period in sorted(limits, key=lambda limit: limit[1])
    ]

    class Buckets(BucketFactory):
        def __init__(self) -> None:
            self.buckets: dict[str, InMemoryBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> RateItem:
            return RateItem(name, clock.now(), weight=weight)

        def get(self, item: RateItem) -> InMemoryBucket:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = InMemoryBucket(rates)
            return bucket

    limiter = PyrateLimiter(Buckets(), buffer_ms=0)
    return lambda key: limiter.try_acquire(key, blocking=False)


CONTENDERS: dict[str, Callable[[Limits], Decide]] = {
    "arbprov, whole decision": arbprov_limiter,
    "arbprov, store alone": arbprov_store,
    "limits, moving window": limits_moving_window,
    "throttled-py, sliding window": throttled("sliding_window"),
    "throttled-py, GCRA": throttled("gcra"),
    "pyrate-limiter, in memory": pyrate,
}


def bare(key: str) -> None:
    """Do nothing, to be called."""


def seconds_per_call(decide: Decide, keys: Iterable[str], calls: int) -> float:
    """Return the mean seconds of processor time of a decision."""
    gc.collect()
    # The time of this thread, so that other work of the machine counts less.
    started_at = time.thread_time()
    for key in keys:
        decide(key)
    return (time.thread_time() - started_at) / calls


def hot(decide: Decide) -> float:
    """Measure calls by one key."""
    return seconds_per_call(decide, ["account-1"] * CALLS, CALLS)


def cold(decide: Decide) -> float:
    """Measure calls by keys that were never seen before."""
    return seconds_per_call(decide, [f"account-{number}" for number in range(KEYS)], KEYS)


def measured(limits: Limits, measure: Callable[[Decide], float], rounds: int) -> dict[str, float]:
    """Return the median seconds of each contender's decision, and of a bare call."""
    found: dict[str, list[float]] = {"a bare function call": [], **{n: [] for n in CONTENDERS}}
    for _ in range(rounds):
        found["a bare function call"].append(measure(bare))
        for name, make in CONTENDERS.items():
            decide = make(limits)
            if limits is REFUSES:
                seconds_per_call(decide, ["account-1"] * 100, 100)
            found[name].append(measure(decide))
    return {name: statistics.median(times) for name, times in found.items()}


SCENARIOS = {
    "one hot key, all admitted": (ADMITS_ALL, hot, ROUNDS),
    "one hot key, nearly all refused": (REFUSES, hot, ROUNDS),
    "two stacked limits, all admitted": (STACKED, hot, ROUNDS),
    f"{KEYS:,} keys, once each": (ONE_PER_KEY, cold, 3),
}


def memory_of(name: str) -> None:
    """Print the bytes of a key: by Python's allocations, and by the growth of the process."""
    for traced in (False, True):
        decide = CONTENDERS[name](ONE_PER_KEY)
        decide("warm up")
        gc.collect()
        if traced:
            tracemalloc.start()
        before = _resident()
        for number in range(KEYS):
            decide(f"account-{number}")
        gc.collect()
        if traced:
            print(tracemalloc.get_traced_memory()[0] / KEYS)
        else:
            print((_resident() - before) / KEYS)


def _resident() -> float:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return float("nan")


def show_memory() -> None:
    """Print the bytes of a key for each contender, each in its own process."""
    print(f"\nbytes for each of {KEYS:,} keys          allocated by Python   growth of the process")
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--memory", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        grown, traced = map(float, output.split())
        print(f"  {name:<32}{traced:>16,.0f} B{grown:>20,.0f} B")


def show(scenario: str, times: dict[str, float]) -> None:
    """Print one scenario's figures."""
    bare_call = times["a bare function call"]
    print(f"\n{scenario:<36}        time    bare calls")
    for name, seconds in times.items():
        print(f"  {name:<32}{seconds * 1e6:>9.3f} µs{seconds / bare_call:>12.1f}")


def main() -> None:
    """Measure everything."""
    versions = [f"{name} {version(name)}" for name in ("limits", "throttled-py", "pyrate-limiter")]
    print(f"Python {platform.python_version()}, {', '.join(versions)}; medians of rounds")
    for scenario, (limits, measure, rounds) in SCENARIOS.items():
        times = measured(limits, measure, rounds)
        show(scenario, times)
        for own in list(CONTENDERS)[:2]:
            faster = times["limits, moving window"] / times[own]
            print(f"  ({own}: {faster:.1f} times as fast as limits' moving window)")
    show_memory()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory_of(sys.argv[2])
    else:
        main()
