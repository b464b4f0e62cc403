"""The buckets of one process."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence

import attrs

from arbprov._types import Clock
from arbprov.limits.cooldowns import Gates
from arbprov.limits.meter import Debt, Meter, State
from arbprov.limits.stores.base import Bucket, Charge, Receipt
from arbprov.limits.window import RollingWindow

__all__ = ["MemoryStore"]

_FEWEST_TO_SWEEP = 1024
# Looking at all keys of a limit each second would cost more than it frees.
_SHORTEST_SWEEP = 10.0
# Of a charge that stands for its bucket only.
_ANY_METER = RollingWindow(1, 1.0)


@attrs.define
class _Table:
    """The keys of one limit."""

    meter: Meter
    swept_at: float
    states: dict[bytes, State] = attrs.field(factory=dict)

    def sweep(self, now: float) -> None:
        """Forget the idle keys."""
        meter = self.meter
        self.states = {k: s for k, s in self.states.items() if not meter.is_idle(s, now)}
        self.swept_at = now

    @property
    def sweeps_at(self) -> float:
        return self.swept_at + max(_SHORTEST_SWEEP, self.meter.horizon)


class MemoryStore:
    """Keeps the buckets in dicts, under one lock; idle buckets are forgotten."""

    blocks = False

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._lock = threading.Lock()
        self._tables: dict[str, _Table] = {}
        self._gates = Gates()
        self._size = 0
        self._sweeps_at = 0.0
        self._sweeps_beyond = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        return self._size

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Charge all or none; see `Store.acquire`."""
        lock = self._lock
        # What `with` does, in half the time: a decision takes little more than that.
        lock.acquire()
        try:
            # As `_now` does, but without a call in between.
            now = self._monotonic()
            if now >= self._sweeps_at:
                self._sweep(now)
            if len(charges) == 1 and not self._gates.known:
                return self._acquire_one(charges, charges[0], now)
            return self._acquire_all(charges, now)
        finally:
            lock.release()

    def _acquire_all(self, charges: Sequence[Charge], now: float) -> Receipt | None:
        states = [self._look(charge, now) for charge in charges]
        for charge in charges:
            if charge.wait_time and not charge.shadow:
                return None
        return self._charge(charges, states, now)

    def _acquire_one(self, charges: Sequence[Charge], charge: Charge, now: float) -> Receipt | None:
        """Do the same for the most common call, without the lists."""
        table = self._tables.get(charge.group)
        known = None if table is None else table.states.get(charge.key)
        state = charge.meter.fresh() if known is None else known
        charge.wait_time, charge.remaining = charge.meter.take(state, now, charge.cost)
        if charge.wait_time:
            return Receipt(self, (), now, False) if charge.shadow else None
        if known is None:
            self._keep(charge, state)
        return Receipt(self, charges, now, False)

    def peek(self, charges: Sequence[Charge], ahead: Mapping[Bucket, int] | None = None) -> None:
        """Look without charging; see `Store.peek`."""
        ahead = ahead or {}
        with self._lock:
            now = self._now()
            for charge in charges:
                self._look(charge, now, ahead.get(charge.bucket, 0))

    def record(self, charges: Sequence[Charge]) -> Receipt:
        """Charge all of `charges`, whether they fit or not: somebody else has admitted them."""
        with self._lock:
            now = self._now()
            for charge in charges:
                state = self._state(charge)
                charge.meter.add(state, now, charge.cost)
                self._keep(charge, state)
            return Receipt(self, charges, now, False)

    def expect(self, charge: Charge, levels: Iterable[Debt]) -> None:
        """Have at least so much count in a bucket: for so many seconds, so much of the limit."""
        with self._lock:
            now, state = self._now(), self._state(charge)
            for seconds, used in levels:
                charge.meter.report(state, now, used, seconds)
            self._keep(charge, state)

    def debts(self) -> list[tuple[Charge, list[Debt]]]:
        """Return all that counts yet, each bucket as a charge of nothing."""
        with self._lock:
            now = self._now()
            return [
                (Charge(group, key, table.meter, 0), debts)
                for group, table in self._tables.items()
                for key, state in table.states.items()
                if (debts := table.meter.debts(state, now))
            ]

    def debts_of(self, charge: Charge) -> list[Debt]:
        """Return what counts yet in one bucket."""
        with self._lock:
            return charge.meter.debts(self._state(charge), self._now())

    def knows(self, charge: Charge) -> bool:
        """Tell whether something was charged in a bucket, and is not forgotten."""
        with self._lock:
            return self._known(charge) is not None

    def refund(self, charges: Sequence[Charge], charged_at: float) -> None:
        """Take back a charge; see `Store.refund`."""
        with self._lock:
            for charge in charges:
                # A key that is forgotten by now was idle: there is nothing left of the charge.
                if (state := self._known(charge)) is not None:
                    charge.meter.refund(state, charged_at, charge.cost)

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Note what others have used; see `Store.report`."""
        with self._lock:
            state = self._state(charge)
            charge.meter.report(state, self._now(), used, reset_in)
            self._keep(charge, state)

    def close_gate(self, charges: Sequence[Charge], seconds: float, lease: float) -> None:
        """Close the gates of some buckets; see `Store.close_gate`."""
        with self._lock:
            now = self._now()
            for charge in charges:
                self._gates.close(charge.bucket, now, seconds, lease)

    def closed_gates(self) -> list[tuple[Charge, float, float]]:
        """Return the buckets that are closed, for how many seconds yet, and the probe's lease."""
        with self._lock:
            now = self._now()
            return [
                (Charge(group, key, _ANY_METER, 0), seconds, lease)
                for (group, key), seconds, lease in self._gates.closed(now)
            ]

    def pass_gate(self, charges: Sequence[Charge]) -> None:
        """Let another one go first through some gates; see `Store.pass_gate`."""
        with self._lock:
            now = self._now()
            for charge in charges:
                self._gates.pass_on(charge.bucket, now)

    def reopen_gate(self, charges: Sequence[Charge]) -> None:
        """Open the gates of some buckets; see `Store.reopen_gate`."""
        with self._lock:
            now = self._now()
            for charge in charges:
                self._gates.reopen(charge.bucket, now)

    def upkeep(self) -> None:
        """Do nothing: the calls themselves see to what has to be forgotten."""

    def _now(self) -> float:
        """Return the time, and forget what is idle if it is time for that."""
        now = self._monotonic()
        # Before any bucket is looked up, so that none is forgotten in the middle of a decision.
        if now >= self._sweeps_at:
            self._sweep(now)
        return now

    def _state(self, charge: Charge) -> State:
        state = self._known(charge)
        return charge.meter.fresh() if state is None else state

    def _known(self, charge: Charge) -> State | None:
        table = self._tables.get(charge.group)
        return None if table is None else table.states.get(charge.key)

    def _look(self, charge: Charge, now: float, ahead: int = 0) -> State:
        """Tell a charge how it stands, and return the state that it would change."""
        table = self._tables.get(charge.group)
        state = None if table is None else table.states.get(charge.key)
        if state is None:
            state = charge.meter.fresh()
        wait, charge.remaining = charge.meter.look(state, now, charge.cost + ahead)
        if self._gates.known:
            closed = self._gates.wait_time(charge.bucket, now)
            charge.gated = closed > wait
            wait = max(closed, wait)
        charge.wait_time = wait
        return state

    def _charge(self, charges: Sequence[Charge], states: Sequence[State], now: float) -> Receipt:
        charged, probing = [], False
        for charge, state in zip(charges, states, strict=True):
            if charge.wait_time:
                continue  # a shadow limit's
            charge.meter.add(state, now, charge.cost)
            self._keep(charge, state)
            charge.remaining -= charge.cost
            charged.append(charge)
            if self._gates.known and self._gates.enter(charge.bucket, now):
                probing = True
        return Receipt(self, charged, now, probing)

    def _keep(self, charge: Charge, state: State) -> None:
        table = self._tables.get(charge.group)
        if table is None:
            table = self._tables[charge.group] = _Table(charge.meter, self._monotonic())
            self._sweeps_at = min(self._sweeps_at, table.sweeps_at)
        if charge.key not in table.states:
            table.states[charge.key] = state
            self._size += 1
            if self._size >= self._sweeps_beyond:
                self._sweeps_at = -math.inf

    def _sweep(self, now: float) -> None:
        crowded = self._size >= self._sweeps_beyond
        for table in self._tables.values():
            if crowded or now >= table.sweeps_at:
                table.sweep(now)
        self._tables = {group: table for group, table in self._tables.items() if table.states}
        self._gates.forget(now)
        self._size = sum(len(table.states) for table in self._tables.values())
        self._sweeps_at = min(
            (t.sweeps_at for t in self._tables.values()), default=now + _SHORTEST_SWEEP
        )
        # Only after as many new ones again, so that a sweep costs each of them the same.
        self._sweeps_beyond = max(_FEWEST_TO_SWEEP, 2 * self._size)
