"""What stands in for a shared store while it is away, and tells it afterwards what happened."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from arbprov._types import Clock
from arbprov.limits.declaration import OnStoreError
from arbprov.limits.meter import Debt
from arbprov.limits.stores.base import Bucket, Charge, Receipt
from arbprov.limits.stores.memory import MemoryStore
from arbprov.limits.stores.redis import DataLostError, RedisStore, StoreError

__all__ = ["FailoverStore"]

logger = logging.getLogger("arbprov")

T = TypeVar("T")

# Seconds between two tries to reach a store that is away.
_TRY_EVERY = 0.5
# So long after it is back, every process has seen that, and has told what it knows.
_SETTLES_IN = 3 * _TRY_EVERY
_FEWEST_TO_SWEEP = 1024
# What a refused call is told to wait, when nobody knows how long the store is away.
_CLOSED_WAIT = 1.0
_MEANWHILE = {
    "local": "each process keeps to its share of the limits, one of {peers}",
    "closed": "every call is refused",
    "open": "every call is admitted",
}


@attrs.define(eq=False)
class _Outage:
    """What happens while the store is away.

    Args:
        began: When it began.
        peers: How many processes share the limits.
        view: What all processes together may have used, as far as this one knows.
        admitted: What was admitted here, and the store does not know yet.
        settled_at: When the store, which is back, knows what all processes have admitted.
    """

    began: float
    peers: int
    view: MemoryStore
    admitted: MemoryStore
    settled_at: float = math.inf


class FailoverStore:
    """A shared store that always answers; see `arbprov.limits.stores.base.Store`.

    It remembers what this process was admitted, and what the others had used when the store last
    told. While the store is away, that decides, and each call counts once for every process, as if
    the others did the same. When the store is back, it is told of the calls that were admitted
    meanwhile, or of all that is remembered, if it has lost its data; and it decides again only when
    all processes have had the time to do that.

    Args:
        store: The shared store.
        clock: Tells the time, to what is remembered.
        on_store_error: What to do while the store is away.
        name: How the log names the store.
    """

    blocks = True

    def __init__(
        self, store: RedisStore, clock: Clock, on_store_error: OnStoreError, name: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._mode = on_store_error
        self._name = name
        self._own = MemoryStore(clock)
        self._told = _Told()
        self._lock = threading.Lock()
        self._coming_back = threading.Lock()
        self._outage: _Outage | None = None
        self._try_at = 0.0
        # When the others next need a sign of life of this process.
        self._beats_at = -math.inf

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Charge all or none; see `Store.acquire`."""
        return self._either(lambda: self._acquire(charges), lambda o: self._admit(o, charges))

    def peek(self, charges: Sequence[Charge], ahead: Mapping[Bucket, int] | None = None) -> None:
        """Look without charging; see `Store.peek`."""
        self._either(
            lambda: self._store.peek(charges, ahead), lambda o: self._look(o, charges, ahead)
        )

    def refund(self, charges: Sequence[Charge], charged_at: float) -> None:
        """Take back a charge; while the store is away, it can't be, which only delays."""
        self._either(lambda: self._store.refund(charges, charged_at), lambda outage: None)

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Note what others have used; see `Store.report`."""
        self._told.learn(charge, used, self._clock.monotonic())
        self._either(
            lambda: self._store.report(charge, used, reset_in),
            lambda outage: outage.view.report(charge, used, reset_in),
        )

    def close_gate(self, charges: Sequence[Charge], seconds: float, lease: float) -> None:
        """Close the gates of some buckets, in the other processes as soon as they can be told."""
        self._own.close_gate(charges, seconds, lease)
        self._either(
            lambda: self._store.close_gate(charges, seconds, lease),
            lambda outage: outage.view.close_gate(charges, seconds, lease),
        )

    def pass_gate(self, charges: Sequence[Charge]) -> None:
        """Let another one go first through some gates; see `Store.pass_gate`."""
        self._either(
            lambda: self._store.pass_gate(charges), lambda outage: outage.view.pass_gate(charges)
        )

    def reopen_gate(self, charges: Sequence[Charge]) -> None:
        """Open the gates of some buckets; see `Store.reopen_gate`."""
        self._own.reopen_gate(charges)
        self._either(
            lambda: self._store.reopen_gate(charges),
            lambda outage: outage.view.reopen_gate(charges),
        )

    def upkeep(self) -> float:
        """Give a sign of life, or look whether the store is back."""
        return self._either(self._beat, lambda outage: _TRY_EVERY)

    # While the store is there.

    def _acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        receipt = self._store.acquire(charges)
        now = self._clock.monotonic()
        for charge in charges:
            self._told.learn(charge, charge.meter.size - charge.remaining, now)
        if receipt is None:
            return None
        return attrs.evolve(receipt, store=self, copies=[self._own.record(receipt.charges)])

    def _either(self, ask: Callable[[], T], instead: Callable[[_Outage], T]) -> T:
        """Ask the store, or do something else while it is away."""
        while True:
            if not self._is_away():
                try:
                    return self._asked(ask)
                except (StoreError, DataLostError) as error:
                    self._lose(error)
            with self._lock:
                # It may be back by now, and what is noted of an outage that is over gets lost.
                if self._outage is not None:
                    return instead(self._outage)

    def _asked(self, ask: Callable[[], T]) -> T:
        # Outside of a run, nobody else gives a sign of life.
        if ask != self._beat and self._clock.monotonic() >= self._beats_at:
            self._beat()
        return ask()

    def _beat(self) -> float:
        pause = self._store.upkeep()
        self._beats_at = self._clock.monotonic() + pause
        return pause

    # While it is away.

    def _lose(self, error: Exception) -> None:
        with self._lock:
            now = self._clock.monotonic()
            # Data that are lost can be restored at once.
            self._try_at = now if isinstance(error, DataLostError) else now + _TRY_EVERY
            if self._outage is not None:
                self._outage.settled_at = math.inf
                return
            peers = max(1, self._store.peers)
            views = MemoryStore(self._clock), MemoryStore(self._clock)
            self._outage = _Outage(now, peers, *views)
            for charge, seconds, lease in self._own.closed_gates():
                self._outage.view.close_gate([charge], seconds, lease)
        meanwhile = _MEANWHILE[self._mode].format(peers=peers)
        logger.warning("%s is away, and meanwhile %s: %s", self._name, meanwhile, error)

    def _is_away(self) -> bool:
        """Tell whether the store does not decide; look once in a while whether it can again."""
        with self._lock:
            if self._outage is None:
                return False
            now = self._clock.monotonic()
            if now < min(self._try_at, self._outage.settled_at):
                return True
            self._try_at = now + _TRY_EVERY
        return not self._come_back()

    def _come_back(self) -> bool:
        """Try to tell the store what happened; return whether it decides from now on."""
        if not self._coming_back.acquire(blocking=False):
            return False
        try:
            is_told = self._restored()
            with self._lock:
                # Nothing is admitted here while the store is told what was.
                return self._settle(is_told=is_told)
        except (StoreError, DataLostError):
            self._unsettle()
            return False
        finally:
            self._coming_back.release()

    def _restored(self) -> bool:
        """Reach the store; return whether it had lost its data, and is told everything now."""
        try:
            self._store.upkeep()
        except DataLostError as lost:
            self._unsettle()  # the other processes have yet to notice
            self._store.generation = lost.generation
            with self._lock:
                self._store.merge(self._own.debts())
                if self._outage is not None:
                    self._outage.admitted = MemoryStore(self._clock)
            self._store.upkeep()
            return True
        return False

    def _settle(self, *, is_told: bool) -> bool:
        outage = self._outage
        if outage is None:
            return True
        if not is_told:
            self._tell(outage)
        for charge, seconds, lease in self._own.closed_gates():
            self._store.close_gate([charge], seconds, lease)
        now = self._clock.monotonic()
        outage.settled_at = min(outage.settled_at, now + _SETTLES_IN)
        if now < outage.settled_at:
            return False
        self._outage = None
        logger.warning("%s decides again, after %.1f s", self._name, now - outage.began)
        return True

    def _unsettle(self) -> None:
        with self._lock:
            if self._outage is not None:
                self._outage.settled_at = math.inf

    def _tell(self, outage: _Outage) -> None:
        """Tell the store of the calls that it does not know of."""
        self._store.merge(outage.admitted.debts())
        outage.admitted = MemoryStore(self._clock)

    def _admit(self, outage: _Outage, charges: Sequence[Charge]) -> Receipt | None:
        """Decide without the store, and note what is admitted."""
        receipt = self._admit_here(outage, charges)
        for charge in charges:
            charge.fallback = True
        if receipt is None:
            return None
        admitted = [one for one in charges if not one.wait_time]
        copies = [self._own.record(admitted), outage.admitted.record(admitted)]
        if outage.settled_at < math.inf:
            self._tell_at_once(outage)
        return attrs.evolve(receipt, copies=copies)

    def _tell_at_once(self, outage: _Outage) -> None:
        try:
            self._tell(outage)
        except (StoreError, DataLostError):
            outage.settled_at = math.inf

    def _admit_here(self, outage: _Outage, charges: Sequence[Charge]) -> Receipt | None:
        if self._mode == "closed":
            for charge in charges:
                charge.wait_time, charge.remaining = _CLOSED_WAIT, 0
            return None
        if self._mode == "open":
            return outage.view.record(charges)
        for_all = self._for_all(outage, charges)
        receipt = outage.view.acquire(for_all)
        _repeat(outage, for_all, charges)
        return receipt

    def _look(
        self, outage: _Outage, charges: Sequence[Charge], ahead: Mapping[Bucket, int] | None
    ) -> None:
        for_all = self._for_all(outage, charges)
        outage.view.peek(for_all, ahead)
        _repeat(outage, for_all, charges)
        for charge in charges:
            charge.fallback = True

    def _for_all(self, outage: _Outage, charges: Sequence[Charge]) -> list[Charge]:
        """Return the charges as if each process made them; one of them at least fits."""
        for charge in charges:
            if not outage.view.knows(charge):
                outage.view.expect(charge, self._known_of(charge))
        costs = [max(one.cost, min(one.cost * outage.peers, one.meter.size)) for one in charges]
        return [attrs.evolve(one, cost=c) for one, c in zip(charges, costs, strict=True)]

    def _known_of(self, charge: Charge) -> list[Debt]:
        """Return what may be used of a bucket: for so many seconds yet, at least so much."""
        own = sorted(self._own.debts_of(charge), reverse=True)
        levels = itertools.accumulate(cost for _, cost in own)
        told = self._told.of(charge, self._clock.monotonic())
        return [*((seconds, level) for (seconds, _), level in zip(own, levels, strict=True)), *told]


def _repeat(outage: _Outage, for_all: Sequence[Charge], charges: Sequence[Charge]) -> None:
    """Tell the charges what was told to those for all processes."""
    for told, charge in zip(for_all, charges, strict=True):
        charge.wait_time, charge.gated = told.wait_time, told.gated
        charge.remaining = told.remaining // outage.peers


class _Told:
    """What all processes had used of each bucket when the store last told, and when that was."""

    def __init__(self) -> None:
        self._used: dict[Bucket, tuple[int, float]] = {}
        self._sweeps_beyond = _FEWEST_TO_SWEEP

    def learn(self, charge: Charge, used: int, now: float) -> None:
        """Note what is used of a bucket."""
        self._used[charge.bucket] = (used, now + charge.meter.horizon)
        if len(self._used) > self._sweeps_beyond:
            # A copy, since other threads learn too.
            self._used = {b: told for b, told in self._used.copy().items() if told[1] > now}
            self._sweeps_beyond = max(_FEWEST_TO_SWEEP, 2 * len(self._used))

    def of(self, charge: Charge, now: float) -> list[Debt]:
        """Return what may count yet of that: at the worst, all of it for a whole period more."""
        used, until = self._used.get(charge.bucket, (0, now))
        return [(until - now, used)] if until > now and used else []
