"""Where what was used of the limits is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from arbprov.limits.meter import Meter

__all__ = ["Bucket", "Charge", "Receipt", "Store"]

# A limit's identity, and the hash of a key.
Bucket = tuple[str, bytes]


@attrs.define(eq=False)
class Charge:
    """What one call would take from one meter, and what the store says to that.

    Args:
        group: The limit's identity.
        key: The hash of whose quota it is.
        meter: How the limit counts.
        cost: How much the call takes.
        shadow: Whether the call runs even if this is refused.
        limit: What it is charged for, as far as the store is concerned anything.
        remaining: What is left; after the charge, if it was made.
        wait_time: Seconds until it fits; 0 if it does now.
        gated: Whether it is a closed gate that refuses, and not the meter.
        fallback: Whether the store was away, and something else has answered.
    """

    group: str
    key: bytes
    meter: Meter
    cost: int
    shadow: bool = False
    limit: Any = None
    remaining: int = 0
    wait_time: float = 0.0
    gated: bool = False
    fallback: bool = False

    @property
    def bucket(self) -> Bucket:
        """Where it is charged."""
        return self.group, self.key

    @property
    def refused(self) -> bool:
        """Whether the call can't run now because of this charge."""
        return self.wait_time > 0 and not self.shadow


@attrs.define(eq=False)
class Receipt:
    """What a store was charged for a call.

    Args:
        store: The store.
        charges: The charges that were made; one of a shadow limit may have been refused.
        charged_at: The store's time.
        probing: Whether the call is the first one through a gate that was closed.
        copies: The same charges in other stores, which keep a copy.
    """

    store: Store
    charges: Sequence[Charge]
    charged_at: float
    probing: bool
    copies: Sequence[Receipt] = ()

    def refund(self) -> None:
        """Take back the charges."""
        for receipt in self.copies:
            receipt.refund()
        self.store.refund(self.charges, self.charged_at)
        if self.probing:
            # Nobody knows yet what the API says: it was not asked.
            self.store.pass_gate(self.charges)


class Store(Protocol):
    """Keeps the buckets, and decides over several of them as one."""

    @property
    def blocks(self) -> bool:
        """Whether asking it may take a while, so that an event loop must not do it."""
        ...

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Charge all of `charges`, or none if any of them is refused, in one step.

        Each charge is told its `remaining` and `wait_time`; nothing is returned if one is refused.
        """
        ...

    def peek(self, charges: Sequence[Charge], ahead: Mapping[Bucket, int] | None = None) -> None:
        """Tell the charges what `acquire` would tell them, and charge nothing.

        Args:
            charges: What a call would take.
            ahead: What others will take before it.
        """
        ...

    def refund(self, charges: Sequence[Charge], charged_at: float) -> None:
        """Take back what `acquire` has charged, as if it had never been."""
        ...

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Note that at least `used` of a limit is gone, and comes back in `reset_in` seconds."""
        ...

    def close_gate(self, charges: Sequence[Charge], seconds: float, lease: float) -> None:
        """Refuse everything in these buckets for `seconds` from now, or longer if it was so.

        After that, one call goes first; others wait until it has ended, or for `lease` seconds.
        """
        ...

    def pass_gate(self, charges: Sequence[Charge]) -> None:
        """Let another one go first through the gates: the call that did has used nothing."""
        ...

    def reopen_gate(self, charges: Sequence[Charge]) -> None:
        """Let everybody through again: the call that went first has ended well."""
        ...

    def upkeep(self) -> float | None:
        """Do what has to be done from time to time; return in how many seconds again, if ever."""
        ...
