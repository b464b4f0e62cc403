"""BEGIN HERE: where a task's rate limits are checked.

1. `declaration.declare` checks the arguments of ``@app.rate_limit``; `policies` reads "5/second".
2. `Limiter.compile`, at start, makes the `ActionLimits` of each action, with `algorithms` and keys.
3. `Limiter.acquire` checks a task, after its payload is validated and before its handler runs: it
   charges the task to all limits, or to none. A refused task ends with status ``limit``.
4. `stores` keep what was used. A task that may wait for its turn waits in a `queue`.
5. After a 429 of the API, a cooldown (`cooldowns`) refuses all tasks of that key for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from arbprov._types import Clock
from arbprov._utils import class_name
from arbprov.errors import ProviderError
from arbprov.limits.compile import ActionLimits, LimitCompiler, OpenStore, peek_charges
from arbprov.limits.decision import Decision, first_charges
from arbprov.limits.declaration import RateLimit
from arbprov.limits.keys import LimitedCall
from arbprov.limits.monitors import ask_monitor
from arbprov.limits.recent import RecentUses
from arbprov.limits.stats import Counters, LimitCounts, crossed_threshold
from arbprov.limits.stores.base import BucketKey, Charge, Receipt, Store
from arbprov.limits.stores.memory import MemoryStore

__all__ = ["Limiter"]

# Seconds between two warnings of the same level of a limit and key.
_MIN_WARN_INTERVAL = 60.0
_MAX_WARN_INTERVAL = 3600.0
_PROBE_TIMEOUT = 60.0
# Shares of a limit whose use is worth a warning, unless its author says otherwise.
_DEFAULT_LEVELS = (0.8, 0.95)

logger = logging.getLogger("arbprov")


class Limiter:
    """Checks the rate limits of calls, all limits of a call at once.

    Args:
        clock: Tells the time.
        open_store: Returns the store of a declaration; without it, all limits are in memory.
        provider: The provider's name, if other providers use the same namespace of a store.

    Attributes:
        recent: Notes the buckets that calls ask for; None while nobody looks at them.

    >>> import types
    >>> from arbprov.limits import Limiter, declare
    >>> from arbprov.testing import VirtualClock
    >>> limiter = Limiter(VirtualClock())
    >>> limits = limiter.compile([declare("1/hour", key="account.id")], action="forecast")
    >>> call = types.SimpleNamespace(action="forecast", payload={}, account={"id": 42})
    >>> [limiter.acquire(limits, call).wait_time for _ in range(2)]  # admitted, then refused
    [0.0, 3600.0]
    """

    def __init__(
        self, clock: Clock, open_store: OpenStore | None = None, provider: str = ""
    ) -> None:
        self._clock = clock
        self.recent: RecentUses | None = None
        memory = MemoryStore(clock)
        self._compiler = LimitCompiler(clock, open_store or (lambda declaration: memory), provider)

    def compile(
        self,
        declarations: Iterable[RateLimit],
        *,
        action: str,
        blueprint: str | None = None,
        probe_timeout: float = _PROBE_TIMEOUT,
    ) -> ActionLimits:
        """Return all limits of an action; a call is charged once per bucket, at the largest cost.

        Args:
            declarations: The limits.
            action: The action's name.
            blueprint: The name of its blueprint, if it has one.
            probe_timeout: The most seconds that other calls wait for the probe after a cooldown.

        Raises:
            ConfigurationError: A store can't be opened.
        """
        return self._compiler.compile(declarations, action, blueprint, probe_timeout)

    def acquire(self, limits: ActionLimits, call: LimitedCall) -> Decision:
        """Charge a call to all of its limits, or to none.

        Raises:
            InvalidPayloadError: The key of a limit is missing in the call.
            ProviderError: A function of the call returned an invalid limit or cost.
        """
        try:
            charges = limits.charges(call)
            store = limits.only_store
            if store is not None:
                receipt = store.acquire(charges)
                decision = Decision(charges, () if receipt is None else (receipt,))
            elif not limits.monitors:
                decision = Decision(charges, _acquire_stores(limits.stores, charges))
            else:
                with ExitStack() as deciding:
                    for monitor in limits.monitors:
                        deciding.enter_context(monitor.deciding)
                    decision = _acquire_with_monitors(limits.stores, charges)
            return decision.hold() if limits.may_hold else decision
        except Exception:
            raise
        except BaseException as error:  # such as SystemExit, which would end the worker
            raise _contain(error) from error

    def acquire_charges(
        self, limits: ActionLimits, charges: Sequence[Charge], max_wait: float
    ) -> Decision:
        """Make all of the given charges of a call, or none; no monitor is asked.

        Args:
            limits: The limits that the charges are of.
            charges: The charges.
            max_wait: Seconds that the call may wait for them, whatever its limits allow.
        """
        return Decision(charges, _acquire_stores(limits.stores, charges), max_wait)

    def acquire_again(self, limits: ActionLimits, decision: Decision) -> None:
        """Give back the charges of a decision and make them again, all or none, as of now.

        Monitors are not asked: they count for themselves, and take nothing back.

        Args:
            limits: The limits of the call's action.
            decision: The decision that admitted the call; it has the answers afterwards.
        """
        decision.undo()
        counted = [charge for charge in decision.charges if charge.group]
        for charge in counted:
            charge.in_cooldown = False  # a store that has no cooldowns leaves it as it was
        decision.receipts = _acquire_stores(limits.stores, counted)
        if limits.may_hold:
            decision.hold()

    def peek(
        self,
        limits: ActionLimits,
        call: LimitedCall,
        demand_ahead: Mapping[BucketKey, int] | None = None,
    ) -> Decision:
        """Return what `acquire` would decide, and charge nothing; monitors are not asked.

        Args:
            limits: The limits of the call's action.
            call: The call.
            demand_ahead: Units that calls before it will take, by bucket.

        Raises:
            InvalidPayloadError: The key of a limit is missing in the call.
            ProviderError: A function of the call returned an invalid limit or cost.
        """
        try:
            charges = [charge for charge in limits.charges(call) if charge.group]
        except Exception:
            raise
        except BaseException as error:  # such as SystemExit, which would end the worker
            raise _contain(error) from error
        peek_charges(charges, demand_ahead)
        return Decision(charges)

    def note(self, decision: Decision, waited_for: Decision | None = None) -> None:
        """Count a decision that is final, and log a warning for each limit that is nearly used up.

        Args:
            decision: The last decision over a call.
            waited_for: The first decision, if the call has waited.
        """
        waited: list[Counters] = []
        if waited_for is not None:
            waited = [limit.counters for limit in waited_for.refusing_limits]
        allowed = decision.allowed
        for counters, charges in _group_by_counters(decision.charges):
            fallback = bool([charge for charge in charges if charge.fallback])
            if [charge for charge in charges if charge.wait_time]:
                in_cooldown = bool([charge for charge in charges if charge.in_cooldown])
                counters.count_denied(in_cooldown=in_cooldown, fallback=fallback)
            elif allowed:
                counters.count_allowed(waited=counters in waited, fallback=fallback)
                _warn(charges, self._clock)

    def watch(self) -> RecentUses:
        """Note the buckets that calls ask for from now on, and return the notes."""
        if self.recent is None:
            self.recent = RecentUses(self._clock)
        return self.recent

    def counts(self) -> list[LimitCounts]:
        """Return the counts of each limit's decisions since the start."""
        return [counters.copy() for counters in self._compiler.counters.values()]

    def upkeep(self) -> float | None:
        """Do the regular work of all stores; return in how many seconds to call again, if ever."""
        waits = [store.upkeep() for store in self._compiler.stores]
        return min((wait for wait in waits if wait is not None), default=None)


def _contain(error: BaseException) -> ProviderError:
    """Return the error of a task whose limits' function or monitor has raised no `Exception`."""
    return ProviderError(f"a function or a monitor of the limits has raised {class_name(error)}")


def _acquire_stores(stores: Sequence[Store], charges: Sequence[Charge]) -> Sequence[Receipt]:
    """Charge all stores, or none."""
    if len(stores) == 1:
        receipt = stores[0].acquire(charges)
        return () if receipt is None else (receipt,)
    # Stores that do not block answer first: if they refuse, the others need no charge.
    peek_charges(charge for charge in charges if not charge.limit.store.blocks)
    if any(charge.refused for charge in charges):
        peek_charges(charge for charge in charges if charge.limit.store.blocks)
        return ()
    receipts: list[Receipt] = []
    with ExitStack() as refunds:
        for store in stores:
            receipt = store.acquire([charge for charge in charges if charge.limit.store is store])
            if receipt is None:
                break
            refunds.callback(receipt.refund)
            receipts.append(receipt)
        else:
            refunds.pop_all()
            return receipts
    peek_charges(charge for charge in charges if charge.limit.store is not store)
    return ()


def _acquire_with_monitors(stores: Sequence[Store], charges: Sequence[Charge]) -> Decision:
    """Ask monitors first, then charge the stores, then have the monitors count the call."""
    monitored = [charge for charge in charges if not charge.group]
    counted = [charge for charge in charges if charge.group]
    for charge in monitored:
        charge.wait_time = ask_monitor(charge.limit.monitor)
    if any(charge.refused for charge in monitored):
        peek_charges(counted)
        return Decision(charges)
    decision = Decision(charges, _acquire_stores(stores, counted))
    if decision.allowed:
        try:
            for charge in monitored:
                if not charge.wait_time:  # a shadow limit may have refused the call
                    # Only to count: an executor makes the call itself.
                    charge.limit.monitor.make_safe_request(lambda: None)
        except BaseException:
            decision.refund()
            raise
    return decision


def _group_by_counters(charges: Iterable[Charge]) -> list[tuple[Counters, list[Charge]]]:
    """Return the charges of each declared limit; they follow each other."""
    groups: list[tuple[Counters, list[Charge]]] = []
    for charge in charges:
        counters = charge.limit.counters
        if groups and groups[-1][0] is counters:
            groups[-1][1].append(charge)
        else:
            groups.append((counters, [charge]))
    return groups


def _warn(charges: Iterable[Charge], clock: Clock) -> None:
    """Log a warning if a charge has crossed a threshold of its quota; a pace has none.

    A short limit crosses it again and again: it warns once a minute at most, and a longer
    limit once in its period, or once an hour.
    """
    for charge in first_charges(charges):
        limit, capacity = charge.limit, charge.algorithm.capacity
        levels = _levels(charge) if charge.group else ()
        used = capacity - charge.remaining
        level = crossed_threshold(levels, capacity, used, charge.cost)
        if level is None:
            continue
        pause = min(max(charge.algorithm.ttl, _MIN_WARN_INTERVAL), _MAX_WARN_INTERVAL)
        if not limit.counters.may_warn(charge.bucket, level, clock.monotonic(), pause):
            continue
        by = f", by the key {charge.key.hex()[:8]}" if charge.key else ""
        logger.warning(
            "the rate limit %s of %s is %g%% used: %d of %d%s",
            limit.text,
            limit.owner,
            level * 100,
            used,
            capacity,
            by,
        )


def _levels(charge: Charge) -> tuple[float, ...]:
    """Return the shares of a limit whose use is worth a warning."""
    levels: tuple[float, ...] | None = charge.limit.declaration.warn_at
    if levels is not None:
        return levels
    # All places taken is what a limit on calls in flight is for.
    return () if charge.algorithm.holds else _DEFAULT_LEVELS
