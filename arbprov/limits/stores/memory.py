"""The store of a single process."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

from arbprov._types import Clock
from arbprov.limits.algorithms import Algorithm, SlidingWindow, State, Usage
from arbprov.limits.cooldowns import Cooldowns
from arbprov.limits.stores.base import BucketKey, Charge, Receipt

__all__ = ["BucketState", "MemoryStore"]

# The group and key of a bucket, and how and what it counts.
BucketState = tuple[str, bytes, Algorithm, State]

_MIN_SIZE_TO_SWEEP = 1024
# A sweep each second over all keys of a limit would cost more than it frees.
_MIN_SWEEP_INTERVAL = 10.0
# For a charge that only names its bucket.
_UNUSED = SlidingWindow(1, 1.0)


@attrs.define
class _Table:
    """The states of an algorithm's keys."""

    algorithm: Algorithm
    swept_at: float
    states: dict[bytes, State] = attrs.field(factory=dict)

    def sweep(self, now: float) -> None:
        """Drop the idle states."""
        algorithm = self.algorithm
        self.states = {k: s for k, s in self.states.items() if not algorithm.is_idle(s, now)}
        self.swept_at = now

    @property
    def sweeps_at(self) -> float:
        return self.swept_at + max(_MIN_SWEEP_INTERVAL, self.algorithm.ttl)


class MemoryStore:
    """Keeps states in dicts, under a lock, and drops them when they are idle; see `Store`.

    Args:
        clock: Tells the time.
    """

    blocks = False

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._lock = threading.Lock()
        self._tables: dict[str, _Table] = {}
        self._cooldowns = Cooldowns()
        self._size = 0
        self._sweeps_at = 0.0
        self._sweeps_beyond = _MIN_SIZE_TO_SWEEP

    def __len__(self) -> int:
        return self._size

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Make all charges or none; see `Store.acquire`."""
        lock = self._lock
        # The same as `with`, in half the time: a decision takes little more than that.
        lock.acquire()
        try:
            # The same as `_now`, without a call.
            now = self._monotonic()
            if now >= self._sweeps_at:
                self._sweep(now)
            if len(charges) == 1 and not self._cooldowns.by_bucket:
                return self._acquire_one(charges, charges[0], now)
            return self._acquire_all(charges, now)
        finally:
            lock.release()

    def _acquire_all(self, charges: Sequence[Charge], now: float) -> Receipt | None:
        states = [self._peek(charge, now) for charge in charges]
        for charge in charges:
            if charge.wait_time and not charge.shadow:
                return None
        charged, probing = [], False
        for charge, state in zip(charges, states, strict=True):
            if charge.wait_time:
                continue  # a shadow limit: it refuses nothing
            charge.algorithm.charge(state, now, charge.cost)
            self._save(charge, state)
            charge.remaining -= charge.cost
            charged.append(charge)
            if self._cooldowns.by_bucket and self._cooldowns.begin_probe(charge.bucket, now):
                probing = True
        return Receipt(self, charged, now, probing)

    def _acquire_one(self, charges: Sequence[Charge], charge: Charge, now: float) -> Receipt | None:
        """Decide over a single charge, the most common call, without lists."""
        table = self._tables.get(charge.group)
        known = None if table is None else table.states.get(charge.key)
        state = charge.algorithm.initial_state() if known is None else known
        charge.wait_time, charge.remaining = charge.algorithm.try_charge(state, now, charge.cost)
        if charge.wait_time:
            return Receipt(self, (), now, False) if charge.shadow else None
        if known is None:
            self._save(charge, state)
        return Receipt(self, charges, now, False)

    def peek(
        self, charges: Sequence[Charge], demand_ahead: Mapping[BucketKey, int] | None = None
    ) -> None:
        """Answer without charging; see `Store.peek`."""
        demand_ahead = demand_ahead or {}
        with self._lock:
            now = self._now()
            for charge in charges:
                self._peek(charge, now, demand_ahead.get(charge.bucket, 0))

    def refund(self, receipt: Receipt) -> None:
        """Undo charges; see `Store.refund`."""
        with self._lock:
            for charge in receipt.charges:
                # A state that was dropped was idle: its charge does not count any more.
                if (state := self._find(charge)) is not None:
                    charge.algorithm.refund(state, receipt.charged_at, charge.cost)

    def move(self, receipt: Receipt) -> None:
        """Count charges as of now; see `Store.move`."""
        with self._lock:
            now = self._now()
            for charge in receipt.charges:
                state = self._state(charge)
                charge.algorithm.move(state, receipt.charged_at, now, charge.cost)
                self._save(charge, state)

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Raise a bucket's usage; see `Store.report`."""
        self.raise_usage(charge, [(reset_in, used)])

    def start_cooldown(
        self, charges: Sequence[Charge], seconds: float, probe_timeout: float
    ) -> None:
        """Start cooldowns; see `Store.start_cooldown`."""
        with self._lock:
            now = self._now()
            for charge in charges:
                action = charge.cooldown_action
                self._cooldowns.start(charge.bucket, now, seconds, probe_timeout, action)

    def pass_probe(self, charges: Sequence[Charge]) -> None:
        """Make the next call the probe; see `Store.pass_probe`."""
        with self._lock:
            now = self._now()
            for charge in charges:
                self._cooldowns.pass_probe(charge.bucket, now)

    def end_cooldown(self, charges: Sequence[Charge]) -> None:
        """End cooldowns; see `Store.end_cooldown`."""
        with self._lock:
            now = self._now()
            for charge in charges:
                self._cooldowns.end(charge.bucket, now)

    def cooldowns(self) -> Mapping[str, int]:
        """Return how many keys cooldowns refuse; see `Store.cooldowns`."""
        return Counter(charge.group for charge, _, _ in self.running_cooldowns())

    def upkeep(self) -> None:
        """Do nothing: the calls themselves sweep idle states."""

    # For a store that keeps copies here.

    def record(self, charges: Sequence[Charge]) -> Receipt:
        """Make all charges, whether they fit or not, because another store has admitted them."""
        with self._lock:
            now = self._now()
            for charge in charges:
                state = self._state(charge)
                charge.algorithm.charge(state, now, charge.cost)
                self._save(charge, state)
            return Receipt(self, charges, now, False)

    def raise_usage(self, charge: Charge, usages: Iterable[Usage]) -> None:
        """Raise a bucket's usage to at least each of (seconds left, units used)."""
        with self._lock:
            now, state = self._now(), self._state(charge)
            for seconds, used in usages:
                charge.algorithm.report(state, now, used, seconds)
            self._save(charge, state)

    def outstanding(self) -> list[tuple[Charge, list[Usage]]]:
        """Return all usage that still counts, with a charge of 0 units for each bucket."""
        with self._lock:
            now = self._now()
            return [
                (Charge(group, key, table.algorithm, 0), usages)
                for group, table in self._tables.items()
                for key, state in table.states.items()
                if (usages := table.algorithm.outstanding(state, now))
            ]

    def outstanding_of(self, charge: Charge) -> list[Usage]:
        """Return the usage of a bucket that still counts."""
        with self._lock:
            return charge.algorithm.outstanding(self._state(charge), self._now())

    def used(self, charge: Charge) -> int:
        """Return the units of a bucket that still count; cheap, unlike `outstanding_of`."""
        with self._lock:
            state = self._find(charge)
            if state is None:
                return 0
            _, remaining = charge.algorithm.peek(state, self._now(), 0)
            return charge.algorithm.capacity - remaining

    def has_state(self, charge: Charge) -> bool:
        """Tell whether a bucket has a state, so that it was charged and is not idle."""
        with self._lock:
            return self._find(charge) is not None

    def states(self, charges: Iterable[Charge] | None = None) -> list[BucketState]:
        """Return copies of the states of some buckets, or of all."""
        with self._lock:
            if charges is not None:
                found = [(charge, self._find(charge)) for charge in charges]
                return [(c.group, c.key, c.algorithm, s[:]) for c, s in found if s is not None]
            return [
                (group, key, table.algorithm, state[:])
                for group, table in self._tables.items()
                for key, state in table.states.items()
            ]

    def set_states(self, states: Iterable[BucketState]) -> None:
        """Set the states of some buckets; they were counted by the same clock."""
        with self._lock:
            for group, key, algorithm, state in states:
                self._save(Charge(group, key, algorithm, 0), state)
                self._tables[group].states[key] = state

    def running_cooldowns(self) -> list[tuple[Charge, float, float]]:
        """Return a charge of 0 units, the seconds left and the probe timeout of each cooldown."""
        with self._lock:
            now = self._now()
            return [
                (
                    Charge(group, key, _UNUSED, 0, cooldown_action=action),
                    seconds,
                    probe_timeout,
                )
                for (group, key), seconds, probe_timeout, action in self._cooldowns.running(now)
            ]

    # Under the lock.

    def _now(self) -> float:
        """Return the time, after a sweep if it is due: not in the middle of a decision."""
        now = self._monotonic()
        if now >= self._sweeps_at:
            self._sweep(now)
        return now

    def _find(self, charge: Charge) -> State | None:
        table = self._tables.get(charge.group)
        return None if table is None else table.states.get(charge.key)

    def _state(self, charge: Charge) -> State:
        state = self._find(charge)
        return charge.algorithm.initial_state() if state is None else state

    def _peek(self, charge: Charge, now: float, demand_ahead: int = 0) -> State:
        """Answer a charge, and return the state that it would change."""
        table = self._tables.get(charge.group)
        state = None if table is None else table.states.get(charge.key)
        if state is None:
            state = charge.algorithm.initial_state()
        wait, charge.remaining = charge.algorithm.peek(state, now, charge.cost + demand_ahead)
        if self._cooldowns.by_bucket:
            cooldown = self._cooldowns.wait_time(charge.bucket, now)
            charge.in_cooldown = cooldown > wait
            if charge.in_cooldown:
                charge.awaits_probe = self._cooldowns.is_probing(charge.bucket, now)
                charge.cooldown_action = self._cooldowns.action(charge.bucket)
            wait = max(cooldown, wait)
        charge.wait_time = wait
        return state

    def _save(self, charge: Charge, state: State) -> None:
        table = self._tables.get(charge.group)
        if table is None:
            table = self._tables[charge.group] = _Table(charge.algorithm, self._monotonic())
            self._sweeps_at = min(self._sweeps_at, table.sweeps_at)
        if charge.key not in table.states:
            table.states[charge.key] = state
            self._size += 1
            if self._size >= self._sweeps_beyond:
                self._sweeps_at = -math.inf

    def _sweep(self, now: float) -> None:
        is_crowded = self._size >= self._sweeps_beyond
        for table in self._tables.values():
            if is_crowded or now >= table.sweeps_at:
                table.sweep(now)
        self._tables = {group: table for group, table in self._tables.items() if table.states}
        self._cooldowns.forget(now)
        self._size = sum(len(table.states) for table in self._tables.values())
        self._sweeps_at = min(
            (t.sweeps_at for t in self._tables.values()), default=now + _MIN_SWEEP_INTERVAL
        )
        # The next sweep for size comes after twice as many keys, so that its cost per key is fixed.
        self._sweeps_beyond = max(_MIN_SIZE_TO_SWEEP, 2 * self._size)
