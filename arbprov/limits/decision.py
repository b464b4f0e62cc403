"""What was decided over one call: `ctx.limits`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import attrs

from arbprov._utils import is_positive_number
from arbprov.errors import RateLimited
from arbprov.limits.stack import CompiledLimit
from arbprov.limits.stores.base import Charge, Receipt

__all__ = ["Decision", "Headroom", "check_report", "headroom_of", "quotas_of"]


@attrs.frozen
class Headroom:
    """What is left of one limit: `remaining` now, and `wait_time` seconds until the call fits.

    `remaining` is None if only a monitor knows.
    """

    limit: str
    remaining: int | None
    wait_time: float


@attrs.define(eq=False)
class Decision:
    """Whether a call may run now, and what is left of each of its limits: ``ctx.limits``."""

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
        """Take back what the call was charged, since it used nothing after all.

        For a handler that finds its answer without calling the API; a second time changes nothing.
        A monitor that an author wrote is told nothing.
        """
        receipts, self.receipts = self.receipts, ()
        for receipt in receipts:
            receipt.refund()

    def report(self, name: str, *, used: float, reset_in: float) -> None:
        """Tell what the API says is used of a quota, whoever has used it.

        Args:
            name: The limit's `name`, or its text, as in ``"1000/hour"``.
            used: The share that is used, from 0 to 1.
            reset_in: The seconds after which it is free again. A window forgets it after its own
                length at the latest; a token bucket and a calendar quota go by themselves alone.
                For a longer ban, raise `RateLimited`.

        Raises:
            ValueError: The call has no such limit, or a number makes no sense.
        """
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
