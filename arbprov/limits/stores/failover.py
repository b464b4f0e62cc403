"""A stand-in for a shared store while that is away; it reports to the store afterwards."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs

from arbprov._types import Clock
from arbprov.limits.algorithms import Gcra, State, Usage
from arbprov.limits.declaration import OnStoreError
from arbprov.limits.stores.base import (
    BucketKey,
    Charge,
    CountsDroppedError,
    DataLostError,
    Receipt,
    RecoveringError,
    StoreError,
)
from arbprov.limits.stores.leases import Leases, held_charges, timed_charges
from arbprov.limits.stores.memory import MemoryStore
from arbprov.limits.stores.outage_file import OutageFile, OutageRecord, OutageStart

if TYPE_CHECKING:
    from arbprov.limits.stores.redis import RedisStore

__all__ = ["FailoverStore"]

logger = logging.getLogger("arbprov")

T = TypeVar("T")

# Seconds between two attempts to reach a store that is away.
_RETRY_INTERVAL = 0.5
_MIN_SIZE_TO_SWEEP = 1024
# Seconds of wait in a refusal while the store is away: how long that takes is unknown.
_CLOSED_WAIT = 1.0
# Seconds by which this process notes a call later than the store: an answer takes a while.
_DELAY_TOLERANCE = 1.0
# Seconds by which the store's wall clock may differ from this machine's.
_CLOCK_TOLERANCE = 60.0
# Seconds between two warnings of dropped counts.
_WARN_INTERVAL = 60.0
_MEANWHILE = {
    "local": "each process keeps to its share of the limits, one of {peers}",
    "closed": "every call is refused",
    "open": "every call is admitted",
}


@attrs.define(eq=False)
class _Outage:
    """The time while the store is away.

    Args:
        started_at: Its start.
        peers: The number of processes that share the limits.
        names: The names of the processes that may have calls to report afterwards.
        view: The usage of all processes together, as this process estimates it.
        unreported: The calls that were admitted here, and that the store does not know yet.
        log_level: The level of the log lines about it.
        has_lost_data: Whether the store knows none of the calls of this process.
        has_reported: Whether the store is back, and knows all calls of this process.
        is_expected: Whether the processes that came back before knew of this one.
    """

    started_at: float
    peers: int
    names: Sequence[str]
    view: MemoryStore
    unreported: MemoryStore
    log_level: int
    has_lost_data: bool = False
    has_reported: bool = False
    is_expected: bool = True


class FailoverStore:
    """A shared store that always answers; see `Store`.

    It remembers the calls that this process made, and the usage by all processes as of the store's
    last answer. While the store is away, this memory decides: each call counts once for every
    process, as if the other processes made the same calls. When the store is back, this process
    reports the calls of the outage to it; or all calls that it remembers, if the store has lost its
    data. Then the store recovers until all processes that are known have reported: a call must fit
    both the store's count and the share, and a process that the others did not know has to wait.

    Args:
        store: The shared store.
        clock: Tells the time of calls that are remembered.
        on_store_error: The decision while the store is away: ``"local"`` as above, ``"closed"``
            refuses all calls, ``"open"`` admits all.
        name: The name of the store in log lines.
        workers: The processes that are known to share the limits, also before the first answer.
        file: Where a worker finds the counts of its predecessor, if that ended in an outage, and
            keeps its own for a successor.
    """

    blocks = True

    def __init__(
        self,
        store: RedisStore,
        clock: Clock,
        on_store_error: OnStoreError,
        name: str,
        workers: int = 1,
        file: OutageFile | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._mode = on_store_error
        self._name = name
        self._workers = workers
        self._own = MemoryStore(clock)
        self._leases = Leases(store)
        self._last_seen = _LastSeen()
        self._lock = threading.Lock()
        self._recovering = threading.Lock()
        self._refunding_or_restoring = threading.Lock()
        self._outage: _Outage | None = None
        self._retry_at = 0.0
        self._next_beat_at = -math.inf
        self._has_asked_policy = False
        # Whether the store may drop leases.
        self._may_evict = False
        self._warns_at = -math.inf
        self._file = file
        if file is not None and (records := file.load()):
            self._outage = self._take_over(records)

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Make all charges or none; see `Store.acquire`."""
        return self._with_fallback(
            lambda: self._acquire(charges), lambda outage: self._acquire_away(outage, charges)
        )

    def peek(
        self, charges: Sequence[Charge], demand_ahead: Mapping[BucketKey, int] | None = None
    ) -> None:
        """Answer without charging; see `Store.peek`."""
        self._with_fallback(
            lambda: self._store.peek(charges, demand_ahead),
            lambda outage: self._peek_away(outage, charges, demand_ahead),
        )

    def refund(self, receipt: Receipt) -> None:
        """Undo charges; while the store is away that is impossible, and only delays calls.

        Units that the call has held are free in any case: the store hears of it afterwards.
        """
        held = receipt.part(held=True)
        if held.charges:
            self._with_fallback(
                lambda: self._leases.release(held.charges),
                lambda outage: self._end_away(outage, held.charges),
            )
            receipt = receipt.part(held=False)
        if not receipt.charges:
            return
        with self._refunding_or_restoring:
            for copy in receipt.copies:
                copy.refund()
            if not any(charge.fallback for charge in receipt.charges):
                self._with_fallback(lambda: self._store.refund(receipt), lambda outage: None)

    def move(self, receipt: Receipt) -> None:
        """Count charges as of now, unless they were made while the store was away."""
        if any(charge.fallback for charge in receipt.charges):
            return
        # First there: what this process notes must never be more than what the store counts.
        self._with_fallback(lambda: self._store.move(receipt), lambda outage: None)
        for copy in receipt.copies:
            copy.store.move(copy)

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Raise a bucket's usage; see `Store.report`."""
        self._last_seen.update(charge, used, self._clock.monotonic())
        self._with_fallback(
            lambda: self._store.report(charge, used, reset_in),
            lambda outage: self._report_away(outage, charge, used, reset_in),
        )

    def start_cooldown(
        self, charges: Sequence[Charge], seconds: float, probe_timeout: float
    ) -> None:
        """Start cooldowns; in other processes as soon as the store is there."""
        self._own.start_cooldown(charges, seconds, probe_timeout)
        self._with_fallback(
            lambda: self._store.start_cooldown(charges, seconds, probe_timeout),
            lambda outage: self._start_cooldown_away(outage, charges, seconds, probe_timeout),
        )

    def pass_probe(self, charges: Sequence[Charge]) -> None:
        """Make the next call the probe; see `Store.pass_probe`."""
        self._with_fallback(
            lambda: self._store.pass_probe(charges), lambda outage: outage.view.pass_probe(charges)
        )

    def cooldowns(self) -> Mapping[str, int]:
        """Return how many keys cooldowns refuse that this process has heard of."""
        return self._own.cooldowns()

    def end_cooldown(self, charges: Sequence[Charge]) -> None:
        """End cooldowns; see `Store.end_cooldown`."""
        self._own.end_cooldown(charges)
        self._with_fallback(
            lambda: self._store.end_cooldown(charges),
            lambda outage: outage.view.end_cooldown(charges),
        )

    def upkeep(self) -> float:
        """Give a heartbeat, or find out whether the store is back."""
        return self._with_fallback(self._beat, lambda outage: _RETRY_INTERVAL)

    def _with_fallback(self, ask: Callable[[], T], fallback: Callable[[_Outage], T]) -> T:
        """Ask the store; call `fallback` while it is away."""
        while True:
            if self._reach_store():
                try:
                    # Outside of a run, only calls give the heartbeat.
                    if ask != self._beat and self._clock.monotonic() >= self._next_beat_at:
                        self._beat()
                    return ask()
                except StoreError as error:
                    self._mark_down(error)
                except (DataLostError, RecoveringError) as error:
                    self._mark_down(error)
                    continue  # the store is there, so this process can report to it at once
            with self._lock:
                # The store may be back by now; notes of an outage that is over would be lost.
                if self._outage is not None:
                    return fallback(self._outage)

    # While the store is there.

    def _acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        generation = self._store.generation
        # Read first: another thread's call is counted by the store before it is noted here.
        noted = [self._own.used(charge) for charge in charges]
        receipt = self._leases.acquire(charges, lambda: self._acquire_noted(charges, noted))
        self._note_usage(charges)
        if receipt is None:
            return None
        copies = [self._own.record(timed_charges(receipt.charges))]
        if generation not in ("", self._store.generation):
            # Since then, another thread has noticed that the data were lost, and has reported.
            late = MemoryStore(self._clock)
            late.record(timed_charges(receipt.charges))
            self._store.merge(late.outstanding())
        return attrs.evolve(receipt, store=self, copies=copies)

    def _acquire_noted(self, charges: Sequence[Charge], noted: Sequence[int]) -> Receipt | None:
        try:
            return self._store.acquire(charges, noted)
        except CountsDroppedError:
            return self._acquire_restored(charges)

    def _note_usage(self, charges: Sequence[Charge]) -> None:
        now = self._clock.monotonic()
        for charge in charges:
            used = charge.algorithm.capacity - charge.remaining
            if charge.algorithm.holds:
                used -= self._leases.units(charge)  # the rest is held by other processes
            self._last_seen.update(charge, used, now)
        # A process has joined, and the heartbeat's answer has its name; or leases have lapsed.
        if self._store.peers != len(self._store.names) or self._store.has_lapsed:
            self._next_beat_at = -math.inf

    def _acquire_restored(self, charges: Sequence[Charge]) -> Receipt | None:
        """Charge buckets of which the store counts too little: restore it first."""
        # A refund on another thread would be taken off a count that does not have its call.
        with self._refunding_or_restoring:
            known = [self._noted_units(charge) for charge in charges]
            try:
                return self._store.acquire(charges, known)
            except CountsDroppedError:
                self._restore(charges, known)
            try:
                return self._store.acquire(charges, known)
            except CountsDroppedError:
                raise StoreError("it drops counts as soon as they are written") from None

    def _noted_units(self, charge: Charge) -> int:
        """Return the units of this process's calls that surely still count."""
        algorithm = charge.algorithm
        tolerance = _CLOCK_TOLERANCE if algorithm.kind == "quota" else _DELAY_TOLERANCE
        noted = [(s - tolerance, u) for s, u in self._own.outstanding_of(charge) if s > tolerance]
        if isinstance(algorithm, Gcra):
            return sum(int(seconds / algorithm.interval) for seconds, _ in noted)
        return sum(units for _, units in noted)

    def _restore(self, charges: Sequence[Charge], known: Sequence[int]) -> None:
        for charge, units in zip(charges, known, strict=True):
            asked = attrs.evolve(charge)
            self._store.peek([asked])
            if charge.algorithm.capacity - asked.remaining < units:
                for seconds, used in self._known_usage(charge):
                    self._store.report(charge, used, seconds)
        now = self._clock.monotonic()
        if now >= self._warns_at:
            self._warns_at = now + _WARN_INTERVAL
            logger.warning(
                "%s has dropped counts that still hold, and they are restored from this process; "
                "give it more memory, and the maxmemory-policy noeviction",
                self._name,
            )

    def _beat(self) -> float:
        pause = self._store.upkeep()
        if self._store.recovering:
            raise RecoveringError
        if self._store.has_lapsed or self._may_evict:
            self._leases.tell()
        if not self._has_asked_policy:
            self._has_asked_policy = True
            policy = self._store.eviction_policy()
            self._may_evict = bool(policy)
            if policy:
                logger.warning(
                    "%s drops keys when its memory is full (maxmemory-policy %s), and limits whose "
                    "counts are dropped admit too many calls; set the policy noeviction, or use a "
                    "server of its own",
                    self._name,
                    policy,
                )
        self._next_beat_at = self._clock.monotonic() + pause
        return pause

    # When it goes away, and comes back.

    def _mark_down(self, error: Exception) -> None:
        with self._lock:
            now = self._clock.monotonic()
            is_away = isinstance(error, StoreError)
            # Lost data can be restored at once.
            self._retry_at = now + _RETRY_INTERVAL if is_away else now
            if self._outage is not None:
                # Another thread's call may not have heard yet that the store recovers.
                self._outage.has_reported &= isinstance(error, RecoveringError)
                return
            peers = max(self._workers, self._store.peers)
            views = MemoryStore(self._clock), MemoryStore(self._clock)
            recovers = isinstance(error, RecoveringError)
            level = logging.INFO if recovers else logging.WARNING
            self._outage = _Outage(now, peers, self._store.names, *views, level)
            for charge, seconds, probe_timeout in self._own.running_cooldowns():
                self._outage.view.start_cooldown([charge], seconds, probe_timeout)
            if self._file is not None and not self._store.peers:
                # The last worker may have ended before it noticed that the store is away.
                self._last_seen.used.update(self._file.last_seen_by_others())
            if not recovers:
                self._save_all(self._outage)
        problem = "recovers" if recovers else "is away"
        meanwhile = _MEANWHILE["local" if recovers else self._mode].format(peers=peers)
        logger.log(level, "%s %s; meanwhile %s: %s", self._name, problem, meanwhile, error)

    def _reach_store(self) -> bool:
        """Return whether the store decides, after an attempt to recover if that is due."""
        with self._lock:
            if self._outage is None:
                return True
            now = self._clock.monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + _RETRY_INTERVAL
        return self._try_recover()

    def _try_recover(self) -> bool:
        """Report to the store; return whether it decides from now on."""
        if not self._recovering.acquire(blocking=False):
            return False
        try:
            outage = self._outage
            if outage is None:
                return True
            try:
                self._rejoin(outage)
                with self._lock:
                    # No call is admitted here during the report.
                    return self._report(outage)
            except (StoreError, DataLostError):
                outage.has_reported, outage.is_expected = False, True
                return False
        finally:
            self._recovering.release()

    def _rejoin(self, outage: _Outage) -> None:
        """Ask the store to recover, or whether it has."""
        try:
            if outage.has_reported:
                self._store.upkeep()
            elif not self._store.rejoin(outage.names) and outage.is_expected:
                outage.is_expected = False
                logger.warning(
                    "%s recovers, and the other processes have not expected this one: its calls "
                    "are refused until they all have reported, for half a minute at most",
                    self._name,
                )
        except DataLostError as lost:
            outage.has_lost_data, outage.has_reported = True, False
            self._store.generation = lost.generation
            self._store.rejoin(outage.names)

    def _report(self, outage: _Outage) -> bool:
        # Each time: calls end during a recovery too.
        self._leases.tell()
        if not outage.has_reported:
            calls = self._own if outage.has_lost_data else outage.unreported
            self._store.merge(calls.outstanding())
            outage.unreported, outage.has_lost_data = MemoryStore(self._clock), False
            for charge, seconds, probe_timeout in self._own.running_cooldowns():
                self._store.start_cooldown([charge], seconds, probe_timeout)
            self._store.finish_report()
            outage.has_reported = True
            self._save_all(outage)
        if self._store.recovering:
            return False
        self._outage = None
        self._has_asked_policy = False  # it may be another server by now
        self._next_beat_at = -math.inf  # the last answer may not have had all names
        if self._file is not None:
            self._file.remove()
        seconds = self._clock.monotonic() - outage.started_at
        logger.log(outage.log_level, "%s decides again, after %.1f s", self._name, seconds)
        return True

    # While it is away.

    def _acquire_away(self, outage: _Outage, charges: Sequence[Charge]) -> Receipt | None:
        """Decide without the store, and remember the charges for it."""
        receipt = self._decide_away(outage, charges)
        for charge in charges:
            charge.fallback = True
        if receipt is None:
            return None
        if outage.has_reported:
            return self._acquire_recovering(outage, charges, receipt)
        admitted = [charge for charge in charges if not charge.wait_time]
        self._leases.add(held_charges(admitted))
        timed = timed_charges(admitted)
        copies = [receipt, self._own.record(timed), outage.unreported.record(timed)]
        self._save(outage, timed)
        return attrs.evolve(receipt, store=self, charges=admitted, copies=copies)

    def _acquire_recovering(
        self, outage: _Outage, charges: Sequence[Charge], share: Receipt
    ) -> Receipt | None:
        """Have the store decide over a call that this process's share admits."""
        try:
            receipt = self._leases.acquire(
                charges, lambda: self._store.acquire(charges, recovering=True)
            )
        except (StoreError, DataLostError):
            outage.has_reported = False
            share.refund()
            return self._acquire_away(outage, charges)
        if not self._store.recovering:
            self._retry_at = self._clock.monotonic()
        self._note_usage(charges)
        if receipt is None:
            share.refund()
            return None
        timed = timed_charges(receipt.charges)
        copies = [share, self._own.record(timed)]
        self._save(outage, timed)
        return attrs.evolve(receipt, store=self, copies=copies)

    def _decide_away(self, outage: _Outage, charges: Sequence[Charge]) -> Receipt | None:
        is_closed = self._mode == "closed" and not outage.has_reported
        if is_closed or not outage.is_expected:
            for charge in charges:
                charge.wait_time, charge.remaining = _CLOSED_WAIT, 0
            return None
        if self._mode == "open":
            return outage.view.record(timed_charges(charges))
        charges_of_all = self._multiply(outage, charges)
        waits = [(self._wait_for_held(outage, c), c.shadow) for c in held_charges(charges)]
        if any(wait and not shadow for wait, shadow in waits):
            outage.view.peek(charges_of_all)
            receipt = None
        else:
            receipt = outage.view.acquire(charges_of_all)
        self._copy_answers(outage, charges_of_all, charges)
        return receipt

    def _wait_for_held(self, outage: _Outage, charge: Charge, demand_ahead: int = 0) -> float:
        """Set the answer of a charge of units that a call holds; return its wait."""
        own, others = self._leases.units(charge), self._last_seen.units(charge, self._clock)
        used: State = array("d", (max(own * outage.peers, own + others),))
        algorithm = charge.algorithm
        of_all = min((charge.cost + demand_ahead) * outage.peers, algorithm.capacity)
        cost = max(charge.cost + demand_ahead, of_all)
        charge.wait_time, charge.remaining = algorithm.peek(used, 0.0, cost)
        return charge.wait_time

    def _end_away(self, outage: _Outage, charges: Sequence[Charge]) -> None:
        """Note that a call has ended which held some units."""
        if outage.has_reported or not all(charge.fallback for charge in charges):
            self._leases.forget(charges)
        else:
            # The store has never known of it; a long outage may have any number of such calls.
            self._leases.remove(charges)

    def _report_away(self, outage: _Outage, charge: Charge, used: int, reset_in: float) -> None:
        outage.view.report(charge, used, reset_in)
        self._save(outage, [charge])

    def _start_cooldown_away(
        self, outage: _Outage, charges: Sequence[Charge], seconds: float, probe_timeout: float
    ) -> None:
        outage.view.start_cooldown(charges, seconds, probe_timeout)
        self._save_all(outage)

    def _peek_away(
        self,
        outage: _Outage,
        charges: Sequence[Charge],
        demand_ahead: Mapping[BucketKey, int] | None,
    ) -> None:
        charges_of_all = self._multiply(outage, charges)
        outage.view.peek(charges_of_all, demand_ahead)
        for charge in held_charges(charges):
            self._wait_for_held(outage, charge, (demand_ahead or {}).get(charge.bucket, 0))
        self._copy_answers(outage, charges_of_all, charges)
        for charge in charges:
            charge.fallback = True

    def _multiply(self, outage: _Outage, charges: Sequence[Charge]) -> list[Charge]:
        """Return the charges as if each process made them; a single call always fits.

        For units that a call holds, the charges are of 0 units, and ask only for cooldowns.
        """
        multiplied = []
        for charge in charges:
            if charge.algorithm.holds:
                multiplied.append(attrs.evolve(charge, cost=0))
                continue
            if not outage.view.has_state(charge):
                outage.view.raise_usage(charge, self._known_usage(charge))
            most = min(charge.cost * outage.peers, charge.algorithm.capacity)
            multiplied.append(attrs.evolve(charge, cost=max(charge.cost, most)))
        return multiplied

    def _copy_answers(
        self, outage: _Outage, charges_of_all: Sequence[Charge], charges: Sequence[Charge]
    ) -> None:
        """Set the answers of the charges from the answers for all processes."""
        for answered, charge in zip(charges_of_all, charges, strict=True):
            own_wait, remaining = 0.0, answered.remaining
            if charge.algorithm.holds:
                own_wait, remaining = charge.wait_time, charge.remaining
            charge.in_cooldown = answered.wait_time > own_wait and answered.in_cooldown
            charge.awaits_probe = charge.in_cooldown and answered.awaits_probe
            charge.wait_time = max(own_wait, answered.wait_time)
            charge.cooldown_action = answered.cooldown_action
            charge.remaining = remaining // outage.peers

    def _known_usage(self, charge: Charge) -> list[Usage]:
        """Return known usage as (seconds left, units used)."""
        own = sorted(self._own.outstanding_of(charge), reverse=True)
        levels = itertools.accumulate(cost for _, cost in own)
        usage = [(seconds, level) for (seconds, _), level in zip(own, levels, strict=True)]
        return usage + self._last_seen.usage(charge, self._clock.monotonic())

    # When this worker is replaced meanwhile.

    def _save(self, outage: _Outage, charges: Sequence[Charge]) -> None:
        """Keep the counts of some charges for a successor."""
        if self._file is not None and self._file.append(self._record(outage, charges)):
            self._save_all(outage)

    def _save_all(self, outage: _Outage) -> None:
        """Keep all that a successor has to know."""
        if self._file is None:
            return
        now = self._clock.monotonic()
        start = OutageStart(
            outage.started_at,
            outage.peers,
            outage.names,
            self._store.generation,
            self._last_seen.used.copy(),  # other threads change it
            [(c, now + seconds, t) for c, seconds, t in self._own.running_cooldowns()],
        )
        self._file.rewrite(attrs.evolve(self._record(outage), start=start))

    def _record(self, outage: _Outage, charges: Sequence[Charge] | None = None) -> OutageRecord:
        return OutageRecord(
            self._own.states(charges),
            outage.view.states(charges),
            outage.unreported.states(charges),
        )

    def _take_over(self, records: Sequence[OutageRecord]) -> _Outage:
        """Return the outage in which the predecessor of this worker has ended."""
        start = records[0].start
        assert start is not None
        views = MemoryStore(self._clock), MemoryStore(self._clock)
        outage = _Outage(start.started_at, start.peers, start.names, *views, logging.WARNING)
        for record in records:
            self._own.set_states(record.own)
            outage.view.set_states(record.view)
            outage.unreported.set_states(record.unreported)
        self._last_seen.used = dict(start.last_seen)
        self._store.generation = start.generation
        for charge, ends_at, probe_timeout in start.cooldowns:
            seconds = ends_at - self._clock.monotonic()
            for store in (self._own, outage.view):
                store.start_cooldown([charge], seconds, probe_timeout)
        self._save_all(outage)
        logger.info("%s was away when the last worker ended: its counts go on here", self._name)
        return outage


class _LastSeen:
    """The usage of each bucket by all processes, as of the store's last answer."""

    def __init__(self) -> None:
        # The units, and the time when none of them can count any more.
        self.used: dict[BucketKey, tuple[int, float]] = {}
        self._sweeps_beyond = _MIN_SIZE_TO_SWEEP

    def update(self, charge: Charge, used: int, now: float) -> None:
        """Remember the usage of a bucket."""
        self.used[charge.bucket] = (used, now + charge.algorithm.ttl)
        if len(self.used) > self._sweeps_beyond:
            # A copy, since other threads update too.
            self.used = {b: seen for b, seen in self.used.copy().items() if seen[1] > now}
            self._sweeps_beyond = max(_MIN_SIZE_TO_SWEEP, 2 * len(self.used))

    def units(self, charge: Charge, clock: Clock) -> int:
        """Return the units that may still count."""
        return sum(used for _, used in self.usage(charge, clock.monotonic()))

    def usage(self, charge: Charge, now: float) -> list[Usage]:
        """Return the usage that may still count: at worst, all of it for a whole period more."""
        used, until = self.used.get(charge.bucket, (0, now))
        return [(until - now, used)] if until > now and used else []
