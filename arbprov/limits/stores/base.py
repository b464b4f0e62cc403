"""The methods of a store of limits. Read this first to add a store.

A store keeps the usage of each bucket: a key of a limit. `MemoryStore` keeps it in the process,
`RedisStore` on a server, in the script ``decide.lua``. To add another:

1. Write a class with the methods of `Store` in a module of this folder. `Store.acquire` must charge
   all buckets of a call in one step, or none. A bucket's `Algorithm` makes and
   changes its state; a server that can't run Python needs each algorithm in its own language, by
   `kind` and `parameters`.
2. Open it in `factory.py`, for the URLs or clients that authors give as ``store=``. If it can be
   away, raise its errors below, have the attributes and other methods of `RedisStore` too, and wrap
   it in a `FailoverStore`.
3. Add it to ``BENCHES`` in ``tests/support/stores.py``: ``tests/limits/test_laws.py`` then checks
   that it decides like a ledger that remembers every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from arbprov.limits.algorithms import Algorithm

__all__ = [
    "BucketKey",
    "Charge",
    "CountsDroppedError",
    "DataLostError",
    "Receipt",
    "RecoveringError",
    "Store",
    "StoreError",
]

# A bucket: the group of a limit's algorithm, and the hash of a key.
BucketKey = tuple[str, bytes]


class StoreError(Exception):
    """A shared store can't be reached, or refuses the command."""


class DataLostError(Exception):
    """A shared store has lost the data that this process knows: it was restarted or flushed.

    Args:
        generation: The store's name for its new data.
    """

    def __init__(self, generation: str) -> None:
        super().__init__("its data are lost")
        self.generation = generation


class RecoveringError(Exception):
    """A shared store does not know yet what all processes admitted while it was away."""

    def __init__(self) -> None:
        super().__init__("processes have yet to report their calls")


class CountsDroppedError(Exception):
    """A shared store counts fewer units of a bucket than the caller knows of: it was evicted."""


@attrs.define(eq=False)
class Charge:
    """The units that a call takes from a bucket, and the store's answer.

    Args:
        group: The group of the limit's buckets; it is part of Redis keys.
        key: The hash of the call's key; empty if all calls share the bucket.
        algorithm: How the limit counts.
        cost: Units.
        shadow: Whether the call runs even if this limit refuses it.
        lease: A shared store's name for the units, if the call holds them until it has ended.
        limit: The `CompiledLimit`; stores do not look at it.
        remaining: The answer: units left, after the charge if it was made.
        wait_time: The answer: seconds until the charge fits, 0 if it does now.
        in_cooldown: The answer: whether a cooldown refuses the call, and not its usage.
        awaits_probe: The answer: whether the cooldown is over but for its probe.
        cooldown_action: The answer: the action whose call started that cooldown, if it is known.
        fallback: The answer: whether it comes from a stand-in, because the store is away.
    """

    group: str
    key: bytes
    algorithm: Algorithm
    cost: int
    shadow: bool = False
    limit: Any = None
    remaining: int = 0
    wait_time: float = 0.0
    in_cooldown: bool = False
    cooldown_action: str = ""
    fallback: bool = False
    lease: str = ""
    awaits_probe: bool = False

    @property
    def bucket(self) -> BucketKey:
        """The bucket to charge."""
        return self.group, self.key

    @property
    def awaits_calls(self) -> bool:
        """Whether the charge fits as soon as calls in flight have ended: maybe at once."""
        return self.awaits_probe if self.in_cooldown else self.algorithm.holds

    @property
    def refused(self) -> bool:
        """Whether the call can't run now because of this charge."""
        return self.wait_time > 0 and not self.shadow


@attrs.define(eq=False)
class Receipt:
    """The charges that a store made for a call, so that they can be refunded.

    Args:
        store: The store.
        charges: The charges; a shadow limit's is missing if that would have refused the call.
        charged_at: The store's time.
        probing: Whether the call is the probe of a cooldown: the first call after it.
        copies: The same charges in the stores that keep a copy.
    """

    store: Store
    charges: Sequence[Charge]
    charged_at: float
    probing: bool
    copies: Sequence[Receipt] = ()

    def part(self, *, held: bool) -> Receipt:
        """Return the receipt of some of the charges.

        Args:
            held: Whether of the units that the call holds until it has ended, or of all others.
        """
        charges = [charge for charge in self.charges if charge.algorithm.holds is held]
        copies = [copy.part(held=held) for copy in self.copies]
        # Five times as fast as `attrs.evolve`.
        return Receipt(self.store, charges, self.charged_at, self.probing, copies)

    def refund(self) -> None:
        """Take back the charges."""
        self.store.refund(self)
        if self.probing:
            # The API was not called, so whether it accepts calls again is still unknown.
            self.store.pass_probe(self.charges)


class Store(Protocol):
    """Keeps the usage of buckets, and decides over several buckets in a single step."""

    @property
    def blocks(self) -> bool:
        """Whether an answer may take a while, so that an event loop has to ask on a thread."""
        ...

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Make all of `charges` in one step, or none if a limit refuses any of them.

        Sets `remaining`, `wait_time`, `in_cooldown`, `awaits_probe` and `cooldown_action` of each
        charge.

        Returns:
            The receipt; None if the call was refused.
        """
        ...

    def peek(
        self, charges: Sequence[Charge], demand_ahead: Mapping[BucketKey, int] | None = None
    ) -> None:
        """Answer as `acquire` would, and charge nothing.

        Args:
            charges: The charges of a call; the answers are set in them.
            demand_ahead: Units that calls before it will take, by bucket.
        """
        ...

    def refund(self, receipt: Receipt) -> None:
        """Undo the charges of a receipt, or give back the units that a call has held."""
        ...

    def move(self, receipt: Receipt) -> None:
        """Count the charges of a receipt as of now."""
        ...

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Raise a bucket's usage to at least `used` units, for `reset_in` seconds."""
        ...

    def start_cooldown(
        self, charges: Sequence[Charge], seconds: float, probe_timeout: float
    ) -> None:
        """Refuse all calls of some buckets for `seconds`; a cooldown that is longer stays.

        After it, a single call goes first as a probe; other calls wait until it has ended.

        Args:
            charges: Charges of the buckets, with the `cooldown_action`.
            seconds: From now.
            probe_timeout: The most seconds to wait for the probe.
        """
        ...

    def pass_probe(self, charges: Sequence[Charge]) -> None:
        """Make the next call the probe, because the last probe has not called the API."""
        ...

    def end_cooldown(self, charges: Sequence[Charge]) -> None:
        """Admit calls as usual, because the probe has ended well; not if a new cooldown runs."""
        ...

    def cooldowns(self) -> Mapping[str, int]:
        """Return, by group, how many keys a cooldown refuses now, as far as this process knows."""
        ...

    def upkeep(self) -> float | None:
        """Do regular work; return in how many seconds to call again, None for never."""
        ...
