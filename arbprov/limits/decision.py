"""The decision over a call, and `ctx.limits`: the handler's view of it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import attrs

from arbprov._utils import read_number, read_seconds
from arbprov.errors import RateLimited
from arbprov.limits.stores.base import Charge, Receipt

if TYPE_CHECKING:
    from arbprov.limits.compile import CompiledLimit

__all__ = ["CallLimits", "Decision", "Headroom", "check_report", "first_charges", "headroom_of"]


@attrs.frozen
class Headroom:
    """How much of a limit is left.

    Args:
        limit: The limit, as in ``"5/second"``.
        remaining: Units left; None for a monitor, since it counts for itself.
        wait_time: Seconds until the call fits; 0 if it does now.
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
        """How much of each limit is left after this call, the app's and the blueprint's too."""
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

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Correct a limit's count by the API's own: at least the share `used` is gone.

        Args:
            name: The limit's `name`, or its text, as in ``"1000/hour"``.
            used: The share of the limit that is used, from 0 to 1; a header's text is fine.
            reset_in: Seconds until it is free again, as for `RateLimited`. A rolling window forgets
                a report after its own period at the latest; token buckets and calendar quotas
                refill at their own pace and ignore it. For a longer ban, raise `RateLimited`.

        Raises:
            ValueError: The call has no limit of that name, `used` is negative or not a number, or
                `reset_in` is not a number of seconds.

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
    """Whether the limits admit a call, and its charges; its handler sees `CallLimits`.

    Args:
        charges: The charges of the call, with the answers of stores and monitors.
        receipts: The receipts of the stores; none if the call was refused.
    """

    charges: Sequence[Charge] = ()
    receipts: Sequence[Receipt] = ()
    # Whether this call has started or ended a cooldown.
    _has_settled: bool = attrs.field(default=False, init=False)

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """How much of each limit is left after this call; see `CallLimits.headroom`."""
        return tuple(headroom_of(self.charges))

    @property
    def names(self) -> list[str]:
        """The names that `report` takes; see `CallLimits.names`."""
        return [name for charge in self.charges if charge.group for name in charge.limit.names]

    @property
    def wait_time(self) -> float:
        """Seconds until all limits would admit the call; 0 if they did."""
        return max((charge.wait_time for charge in self.charges if not charge.shadow), default=0.0)

    @property
    def allowed(self) -> bool:
        """Whether the call was admitted and charged."""
        # Lists, here and below: generators take twice as long, and each call asks.
        return not [charge for charge in self.charges if charge.refused]

    @property
    def refusing_limits(self) -> list[CompiledLimit]:
        """The limits that refuse the call."""
        return [charge.limit for charge in self.charges if charge.refused]

    @property
    def is_probing(self) -> bool:
        """Whether the call is the probe of a cooldown, so that other calls wait for its end."""
        return bool([receipt for receipt in self.receipts if receipt.probing])

    def refund(self) -> None:
        """Take back the call's charges; see `CallLimits.refund`."""
        receipts, self.receipts = self.receipts, ()
        for receipt in receipts:
            receipt.refund()

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Correct a limit's count by the API's own; see `CallLimits.report`."""
        used, reset_in = check_report(self.names, name, used, reset_in)
        for charge in first_charges(self.charges):
            if charge.group and name in charge.limit.names:
                units = _units(used, charge.algorithm.capacity)
                charge.limit.store.report(charge, units, reset_in)

    def refusal(self, now: dt.datetime) -> RateLimited:
        """Return the error of a call that was refused.

        Args:
            now: The wall clock's time, to say when a cooldown ends.
        """
        refused = [charge for charge in self.charges if charge.refused]
        longest = max(refused, key=lambda charge: charge.wait_time)
        error = RateLimited(longest.wait_time, longest.limit.text)
        for charge in refused:
            if charge.in_cooldown:
                charge.remaining = 0  # the API admits nothing, whatever was counted
        limits = headroom_of(charge for charge in self.charges if not charge.shadow)
        error.details = {"limits": [attrs.asdict(headroom) for headroom in limits]}
        if longest.in_cooldown:
            until = (now + dt.timedelta(seconds=longest.wait_time)).isoformat(timespec="seconds")
            action = longest.cooldown_action
            error.details["cooldown"] = {"action": action or None, "until": until}
            throttled = f"throttled the action {action!r}" if action else "throttled a call"
            error.reason = f"The API has {throttled}: no calls of this limit until {until}"
        return error

    def may_wait(self, waited: float) -> bool:
        """Tell whether the ``max_wait`` of each limit that refuses the call allows the wait.

        Args:
            waited: Seconds that the call has waited already.
        """
        return all(
            waited + charge.wait_time <= charge.limit.declaration.max_wait
            for charge in self.charges
            if charge.refused
        )

    def start_cooldown(
        self, retry_after: float, name: str | None, probe_timeout: float, action: str = ""
    ) -> None:
        """Refuse all calls of this call's key for `retry_after` seconds, as the API asked.

        Args:
            retry_after: Seconds.
            name: The limit that the API meant. If it is None, or not a limit of the call: all
                limits with a key; if there are none, the limits that only this action has.
            probe_timeout: The most seconds that other calls then wait for the probe.
            action: The action of the call, for the refusals.
        """
        self._has_settled = True
        counted = [charge for charge in self.charges if charge.group]
        named = [one for one in counted if name is not None and name in one.limit.names]
        keyed = [charge for charge in counted if charge.key]
        own = [charge for charge in counted if charge.limit.is_own]
        for charge in named or keyed or own or counted:
            charge.cooldown_action = action
            charge.limit.store.start_cooldown([charge], retry_after, probe_timeout)

    def end_cooldown(self) -> None:
        """Admit other calls again if this was a probe and has ended well."""
        if self._has_settled:
            return
        self._has_settled = True
        for receipt in self.receipts:
            if receipt.probing:
                receipt.store.end_cooldown(receipt.charges)


def check_report(
    names: Sequence[str], name: str, used: float | str, reset_in: float | str
) -> tuple[float, float]:
    """Return the share and the seconds of a report as numbers; see `CallLimits.report`.

    Raises:
        ValueError: The call has no limit of that name, or a number is not valid.
    """
    share = math.inf if used == math.inf else read_number(used)
    if share is None or share < 0:
        raise ValueError(f"used={used!r} is not a share, such as 0.93")
    seconds = read_seconds(reset_in)
    if seconds is None:
        raise ValueError(f"reset_in={reset_in!r} is not a number of seconds")
    if name not in names:
        known = ", ".join(map(repr, dict.fromkeys(names)))
        raise ValueError(f"this call has no limit {name!r}; it has {known or 'none'}")
    return share, seconds


def headroom_of(charges: Iterable[Charge]) -> Iterator[Headroom]:
    """Yield the headroom of each limit; the least, if it counts by several algorithms."""
    for limit, group in groupby(charges, key=lambda charge: charge.limit):
        own = list(group)
        remaining = max(0, min(charge.remaining for charge in own))
        wait = max(charge.wait_time for charge in own)
        yield Headroom(limit.text, None if limit.monitor else remaining, wait)


def first_charges(charges: Iterable[Charge]) -> list[Charge]:
    """Return the first charge of each limit: its algorithm counts the quota, not the pace."""
    firsts: list[Charge] = []
    for charge in charges:
        if not firsts or firsts[-1].limit is not charge.limit:
            firsts.append(charge)
    return firsts


def _units(used: float, capacity: int) -> int:
    # Despite floats, 0.93 of 100 is 93. 0.931 of it is 94: too low a count may mean a ban.
    exact = min(used, 1.0) * capacity
    return round(exact) if abs(exact - round(exact)) < 1e-6 else int(exact) + 1
