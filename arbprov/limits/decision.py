"""The decision over one call, and `ctx.limits`: what a handler sees of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import attrs

from arbprov._utils import is_positive_number
from arbprov.errors import RateLimited
from arbprov.limits.stack import CompiledLimit
from arbprov.limits.stores.base import Charge, Receipt

__all__ = ["CallLimits", "Decision", "Headroom", "check_report", "headroom_of", "quotas_of"]


@attrs.frozen
class Headroom:
    """What is left of one limit: `remaining` now, and `wait_time` seconds until the call fits.

    `remaining` is None if only a monitor knows.
    """

    limit: str
    remaining: int | None
    wait_time: float


class CallLimits(Protocol):
    """The limits of a running call: `TaskContext.limits`.

    >>> from arbprov import ProviderApp, TaskContext
    >>> app = ProviderApp("shop")
    >>> @app.action
    ... @app.rate_limit("100/hour")
    ... def search(ctx: TaskContext, text: str) -> dict:
    ...     return {"left": ctx.limits.headroom[0].remaining}
    >>> app.test_client().call("search", {"text": "tea"}).data
    {'left': 99}
    """

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """What is left of each limit after this call: the app's, the blueprint's, the action's."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The names that `report` takes: each limit's `name`, and its text."""
        ...

    @property
    def allowed(self) -> bool:
        """Whether the limits admitted the call; only a hook sees a call that they refused."""
        ...

    @property
    def wait_time(self) -> float:
        """Seconds until all limits would admit the call; 0 if they did."""
        ...

    def refund(self) -> None:
        """Take back the call's charges, because the handler did not call the API after all.

        A second call changes nothing. A `RateLimitMonitor` counts for itself, and is not asked to
        take anything back.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app, cache = ProviderApp("shop"), {"tea": 3.5}
        >>> @app.action
        ... @app.rate_limit("100/hour")
        ... def price(ctx: TaskContext, article: str) -> dict:
        ...     if article in cache:
        ...         ctx.limits.refund()
        ...     return {"price": cache.get(article)}
        >>> client = app.test_client()
        >>> client.call("price", {"article": "tea"}).data, client.limits.headroom("price")
        ({'price': 3.5}, [Headroom(limit='100/hour', remaining=100, wait_time=0.0)])
        """
        ...

    def report(self, name: str, *, used: float, reset_in: float) -> None:
        """Correct a limit's count by the API's own: at least the share `used` is gone.

        Args:
            name: The limit's `name`, or its text, as in ``"1000/hour"``.
            used: The share of the limit that is used, from 0 to 1.
            reset_in: Seconds until it is free again. A rolling window forgets a report after its
                own period at the latest; token buckets and calendar quotas refill at their own
                pace and ignore it. For a longer ban, raise `RateLimited`.

        Raises:
            ValueError: The call has no limit of that name, `used` is negative or not a number, or
                `reset_in` is not above 0.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("1000/hour", name="vendor")
        ... def order(ctx: TaskContext) -> None:
        ...     usage = {"percent": 93, "reset": 1800}  # from the API's response headers
        ...     ctx.limits.report("vendor", used=usage["percent"] / 100, reset_in=usage["reset"])
        >>> client = app.test_client()
        >>> client.call("order").data, client.limits.headroom("order")[0].remaining
        ({}, 70)
        """
        ...


@attrs.define(eq=False)
class Decision:
    """Whether the limits admit a call, what it was charged, and `CallLimits` for its handler."""

    charges: Sequence[Charge] = ()
    receipts: Sequence[Receipt] = ()
    _settled: bool = attrs.field(default=False, init=False)

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """What is left of each limit, after this call."""
        return tuple(headroom_of(self.charges))

    @property
    def wait_time(self) -> float:
        """Seconds until all limits would admit the call; 0 if they did."""
        return max((one.wait_time for one in self.charges if not one.shadow), default=0.0)

    @property
    def allowed(self) -> bool:
        """Whether the call was admitted, and charged."""
        # Lists, here and below: generators take twice as long, and each call asks.
        return not [one for one in self.charges if one.refused]

    @property
    def refusing(self) -> list[CompiledLimit]:
        """The limits because of which the call can't run now."""
        return [one.limit.bound for one in self.charges if one.refused]

    @property
    def is_probing(self) -> bool:
        """Whether others wait for this call's end."""
        return bool([receipt for receipt in self.receipts if receipt.probing])

    def refund(self) -> None:
        """Take back what the call was charged; see `CallLimits.refund`."""
        receipts, self.receipts = self.receipts, ()
        for receipt in receipts:
            receipt.refund()

    def report(self, name: str, *, used: float, reset_in: float) -> None:
        """Correct a limit's count by the API's own; see `CallLimits.report`."""
        check_report(self.names, name, used, reset_in)
        for charge in self._called(name):
            charge.limit.bound.store.report(charge, _share(used, charge.meter.size), reset_in)

    def refusal(self) -> RateLimited:
        """Return the error of a call that was not admitted."""
        refused = [one for one in self.charges if one.refused]
        longest = max(refused, key=lambda one: one.wait_time)
        error = RateLimited(longest.wait_time, str(longest.limit))
        limits = headroom_of(one for one in self.charges if not one.shadow)
        error.details = {"limits": [attrs.asdict(one) for one in limits]}
        return error

    def may_wait(self, waited: float) -> bool:
        """Tell whether all limits that refuse the call would have it wait so long.

        Args:
            waited: Seconds that it has waited already.
        """
        return all(
            waited + one.wait_time <= one.limit.bound.terms.max_wait
            for one in self.charges
            if one.refused
        )

    def close_gates(self, retry_after: float, name: str | None, lease: float) -> None:
        """Refuse the key of this call for `retry_after` seconds, as the API has told.

        Args:
            retry_after: In seconds.
            name: The limit that is meant; if it is None, or none of the call's, those with a key;
                if none has one, those that the action does not share with all others.
            lease: How long others then wait for the first call through, in seconds.
        """
        self._settled = True
        metered = [one for one in self.charges if one.group]
        named = [one for one in metered if name is not None and name in one.limit.names]
        keyed = [one for one in metered if one.key]
        own = [one for one in metered if one.limit.bound.is_own]
        for charge in named or keyed or own or metered:
            charge.limit.bound.store.close_gate([charge], retry_after, lease)

    def reopen_gates(self) -> None:
        """Let others through the gates that this call went first through, if it has ended well."""
        if self._settled:
            return
        self._settled = True
        for receipt in self.receipts:
            if receipt.probing:
                receipt.store.reopen_gate(receipt.charges)

    @property
    def names(self) -> list[str]:
        """What the call's limits are called, for `report`."""
        return [name for one in self.charges if one.group for name in one.limit.names]

    def _called(self, name: str) -> list[Charge]:
        return [one for one in quotas_of(self.charges) if one.group and name in one.limit.names]


def check_report(names: Sequence[str], name: str, used: float, reset_in: float) -> None:
    """Refuse what no limit can be told; see `Decision.report`.

    Raises:
        ValueError: There is no such limit, or a number makes no sense.
    """
    if type(used) not in (int, float) or not used >= 0:
        raise ValueError(f"used={used!r} is not a share, such as 0.93")
    if not is_positive_number(reset_in):
        raise ValueError(f"reset_in={reset_in!r} is not a number of seconds above 0")
    if name not in names:
        known = ", ".join(map(repr, dict.fromkeys(names)))
        raise ValueError(f"this call has no limit {name!r}; it has {known or 'none'}")


def headroom_of(charges: Iterable[Charge]) -> Iterator[Headroom]:
    """Yield what each limit has left; one with several meters, what all of them have."""
    for use, meters in groupby(charges, key=lambda one: one.limit):
        listed = list(meters)
        remaining = max(0, min(one.remaining for one in listed))
        wait = max(one.wait_time for one in listed)
        yield Headroom(str(use), None if use.rule is None else remaining, wait)


def quotas_of(charges: Iterable[Charge]) -> list[Charge]:
    """Return the first charge of each limit: that is the one of its quota."""
    quotas: list[Charge] = []
    for charge in charges:
        if not quotas or quotas[-1].limit is not charge.limit:
            quotas.append(charge)
    return quotas


def _share(used: float, size: int) -> int:
    # 0.93 of 100 is 93, whatever floats make of it; 0.931 is 94, since too little may be a ban.
    exact = min(used, 1.0) * size
    return round(exact) if abs(exact - round(exact)) < 1e-6 else int(exact) + 1
