"""One decision over all limits of a call: all are charged, or none is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from arbprov._types import Clock
from arbprov.limits.charging import charge_call, look
from arbprov.limits.compile import LimitCompiler, OpenStore
from arbprov.limits.decision import Decision, quotas_of
from arbprov.limits.declaration import RateLimit
from arbprov.limits.keys import LimitedCall
from arbprov.limits.stack import ActionLimits, CompiledLimit
from arbprov.limits.stats import LimitCounts, crossed
from arbprov.limits.stores.base import Bucket, Charge
from arbprov.limits.stores.memory import MemoryStore

__all__ = ["Limiter"]

logger = logging.getLogger("arbprov")


class Limiter:
    """Decides over the limits of calls.

    Args:
        clock: Tells the time.
        open_store: Returns the stores of limits; without it, all are in this process's memory.
        provider: Whose limits these are, where others keep theirs under the same namespace.
    """

    def __init__(
        self, clock: Clock, open_store: OpenStore | None = None, provider: str = ""
    ) -> None:
        memory = MemoryStore(clock)
        self._compiler = LimitCompiler(clock, open_store or (lambda terms: memory), provider)

    def compile(
        self, declarations: Iterable[RateLimit], *, action: str, blueprint: str | None = None
    ) -> ActionLimits:
        """Return all limits of an action, ready to be asked; a bucket is charged but once."""
        return self._compiler.compile(declarations, action, blueprint)

    def acquire(self, stack: ActionLimits, call: LimitedCall) -> Decision:
        """Charge a call to all of its limits, or to none.

        Raises:
            InvalidPayloadError: A limit's key is missing in the call.
            ProviderError: A limit that is a function of the call returned no limit.
        """
        charges = stack.charges(call)
        if stack.only_store is None:
            return charge_call(stack, charges)
        receipt = stack.only_store.acquire(charges)
        return Decision(charges, () if receipt is None else (receipt,))

    def peek(
        self, stack: ActionLimits, call: LimitedCall, ahead: Mapping[Bucket, int] | None = None
    ) -> Decision:
        """Return what `acquire` would decide, and charge nothing; monitors are not asked.

        Args:
            stack: The limits of the call's action.
            call: The call.
            ahead: What others will take before it, by bucket.

        Raises:
            InvalidPayloadError: A limit's key is missing in the call.
        """
        charges = [one for one in stack.charges(call) if one.group]
        look(charges, ahead)
        return Decision(charges)

    def note(self, decision: Decision, waited_for: Decision | None = None) -> None:
        """Count a decision that is final, and warn of the limits that are nearly met.

        Args:
            decision: What was decided in the end.
            waited_for: What was decided at first, if the call has waited.
        """
        waited = () if waited_for is None else waited_for.refusing
        allowed = decision.allowed
        for bound, charges in _by_bound(decision.charges):
            fallback = bool([one for one in charges if one.fallback])
            if [one for one in charges if one.wait_time]:
                bound.tally.denied(gated=any(one.gated for one in charges), fallback=fallback)
            elif allowed:
                bound.tally.allowed(waited=bound in waited, fallback=fallback)
                _warn(charges)

    def counts(self) -> list[LimitCounts]:
        """Return what each limit has decided since the start."""
        return [tally.counts() for tally in self._compiler.tallies.values()]

    def upkeep(self) -> float | None:
        """Do what the stores need from time to time; return in how many seconds again, if ever."""
        waits = [store.upkeep() for store in self._compiler.stores]
        return min((wait for wait in waits if wait is not None), default=None)


def _by_bound(charges: Iterable[Charge]) -> list[tuple[CompiledLimit, list[Charge]]]:
    """Return the charges of each limit of an action, which stand one after the other."""
    groups: list[tuple[CompiledLimit, list[Charge]]] = []
    for charge in charges:
        bound = charge.limit.bound
        if groups and groups[-1][0] is bound:
            groups[-1][1].append(charge)
        else:
            groups.append((bound, [charge]))
    return groups


def _warn(charges: Iterable[Charge]) -> None:
    """Warn of a limit's quotas; not of a pace, which is there to be kept to."""
    for charge in quotas_of(charges):
        if charge.group and charge.limit.bound.terms.warn_at:
            _warn_of(charge)


def _warn_of(charge: Charge) -> None:
    bound, size = charge.limit.bound, charge.meter.size
    used = size - charge.remaining
    level = crossed(bound.terms.warn_at, size, used, charge.cost)
    if level is None:
        return
    by = f", by the key {charge.key.hex()[:8]}" if charge.key else ""
    logger.warning(
        "the rate limit %s of %s is %g%% used: %d of %d%s",
        charge.limit,
        bound.owner,
        level * 100,
        used,
        size,
        by,
    )
