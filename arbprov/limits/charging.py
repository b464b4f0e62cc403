"""Charging one call to all of its stores and monitors, or to none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from arbprov.limits.decision import Decision
from arbprov.limits.monitor import Monitor, wait_of
from arbprov.limits.stack import ActionLimits
from arbprov.limits.stores.base import Bucket, Charge, Receipt, Store

__all__ = ["charge_call", "look"]


def charge_call(stack: ActionLimits, charges: Sequence[Charge]) -> Decision:
    """Decide over a call, and charge it everywhere or nowhere."""
    if not stack.monitors:
        return Decision(charges, _charge_stores(stack.stores, charges))
    with ExitStack() as deciding:
        for monitor in stack.monitors:
            deciding.enter_context(monitor.deciding)
        return _charge_with_monitors(stack, charges)


def look(charges: Iterable[Charge], ahead: Mapping[Bucket, int] | None = None) -> None:
    """Have the stores tell the charges how they stand, and charge nothing."""
    for charge in charges:
        charge.limit.bound.store.peek([charge], ahead)


def _charge_stores(stores: Sequence[Store], charges: Sequence[Charge]) -> Sequence[Receipt]:
    """Charge all stores; if one refuses, those before it give back what they were charged."""
    if len(stores) == 1:
        receipt = stores[0].acquire(charges)
        return () if receipt is None else (receipt,)
    # Those that answer at once are asked first: a refusal of theirs costs the others nothing.
    look(one for one in charges if not one.limit.bound.store.blocks)
    if any(one.refused for one in charges):
        look(one for one in charges if one.limit.bound.store.blocks)
        return ()
    return _charge_in_turn(stores, charges)


def _charge_in_turn(stores: Sequence[Store], charges: Sequence[Charge]) -> Sequence[Receipt]:
    receipts: list[Receipt] = []
    for store in stores:
        receipt = store.acquire([one for one in charges if one.limit.bound.store is store])
        if receipt is None:
            for earlier in receipts:
                earlier.refund()
            look(one for one in charges if one.limit.bound.store is not store)
            return ()
        receipts.append(receipt)
    return receipts


def _charge_with_monitors(stack: ActionLimits, charges: Sequence[Charge]) -> Decision:
    monitored = [one for one in charges if not one.group]
    metered = [one for one in charges if one.group]
    for charge in monitored:
        charge.wait_time = wait_of(charge.limit.bound.monitor)
    if any(one.refused for one in monitored):
        look(metered)
        return Decision(charges)
    decision = Decision(charges, _charge_stores(stack.stores, metered))
    if decision.allowed:
        _tell([one.limit.bound.monitor for one in monitored if not one.wait_time], decision)
    return decision


def _tell(monitors: Iterable[Monitor], decision: Decision) -> None:
    """Have monitors count a call that is made elsewhere."""
    try:
        for monitor in monitors:
            monitor.make_safe_request(_nothing)
    except BaseException:
        decision.refund()
        raise


def _nothing() -> None:
    """Stand for the call that a monitor counts."""
