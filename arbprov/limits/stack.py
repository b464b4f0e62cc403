"""The limits of one action, with all that can be worked out at start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov.errors import ConfigurationError, ProviderError
from arbprov.limits.declaration import RateLimit, check_cost, rules_of
from arbprov.limits.keys import BoundKey, Key, LimitedCall, read_keys
from arbprov.limits.meter import Meter, Rule
from arbprov.limits.monitor import Monitor
from arbprov.limits.stats import Tally
from arbprov.limits.stores.base import Charge, Store
from arbprov.limits.window import RollingWindow

__all__ = [
    "ActionLimits",
    "CompiledLimit",
    "FixedLimit",
    "FunctionLimit",
    "MonitorLimit",
    "Use",
    "parts_of",
]


@attrs.frozen(eq=False)
class Use:
    """A limit as calls meet it: whose it is, and how it is written; None for a monitor."""

    bound: CompiledLimit
    rule: Rule | None

    def __str__(self) -> str:
        return self.bound.limit if self.rule is None else str(self.rule)

    @property
    def names(self) -> list[str]:
        """What an author may call it: its `name`, or its text."""
        names = [self.bound.terms.name, self.bound.limit, str(self)]
        return [name for name in dict.fromkeys(names) if name is not None]


@attrs.frozen(eq=False, kw_only=True)
class CompiledLimit(ABC):
    """A limit of one action.

    Args:
        terms: What its author wrote.
        limit: The limit, as messages name it.
        owner: Who has it, such as ``"action:forecast"``.
        key: Reads a call's key.
        store: Keeps its buckets; None if it is a monitor, which keeps its own.
        tally: Counts its decisions.
        cost: What a call takes, as far as that is known before it.
    """

    terms: RateLimit
    limit: str
    owner: str
    key: BoundKey
    store: Store | None
    tally: Tally
    cost: int = attrs.field(init=False)

    @cost.default
    def _known_cost(self) -> int:
        return 1 if callable(self.terms.cost) else self.terms.cost

    @property
    def is_own(self) -> bool:
        """Whether it is more special than a limit of all the app's or the blueprint's actions."""
        return self.terms.name is not None or self.terms.scope == "action"

    @property
    @abstractmethod
    def identity(self) -> object:
        """What two limits have in common that are charged but once."""

    @abstractmethod
    def charges(self, call: LimitedCall, key: bytes) -> list[Charge]:
        """Return what a call would be charged, without asking the store.

        Args:
            call: The call.
            key: The hash of its key.

        Raises:
            ProviderError: A function of the call returned no limit, or no cost.
        """


Parts = Sequence[tuple[str, Meter]]


def parts_of(group: str, rule: Rule, clock: Clock) -> Parts:
    """Return the meters of a limit, each with the group of its buckets."""
    return [(f"{group}|{rule}|{meter.kind}", meter) for meter in rule.meters(clock)]


@attrs.frozen(eq=False, kw_only=True)
class FixedLimit(CompiledLimit):
    """A limit that is the same for each call."""

    rule: Rule
    parts: Parts
    _use: Use = attrs.field(init=False)

    @_use.default
    def _own_use(self) -> Use:
        return Use(self, self.rule)

    @property
    def identity(self) -> object:
        """The group of its buckets, and where they are."""
        return self.parts[0][0], self.store

    def charges(self, call: LimitedCall, key: bytes) -> list[Charge]:
        """Return the charge of each meter."""
        return self.charges_of(key)

    def charges_of(self, key: bytes) -> list[Charge]:
        """Return the charges by a key's hash."""
        cost, shadow, use = self.cost, self.terms.shadow, self._use
        return [Charge(group, key, meter, cost, shadow, use) for group, meter in self.parts]


@attrs.frozen(eq=False, kw_only=True)
class FunctionLimit(CompiledLimit):
    """A limit of which something is a function of the call."""

    written: Any
    group: str
    clock: Clock

    @property
    def identity(self) -> object:
        """The limit itself: its buckets are not known before the call."""
        return self

    def charges(self, call: LimitedCall, key: bytes) -> list[Charge]:
        """Return the charges of all limits that the function returns for a call."""
        try:
            rules = self._rules(call)
            cost = self._cost(call, rules)
        except ConfigurationError as error:
            raise ProviderError(f"the rate limit {self.limit}: {error}") from None
        uses = [(Use(self, rule), parts_of(self.group, rule, self.clock)) for rule in rules]
        return [
            Charge(group, key, meter, cost, self.terms.shadow, use)
            for use, parts in uses
            for group, meter in parts
        ]

    def _rules(self, call: LimitedCall) -> tuple[Rule, ...]:
        written = self.written(call) if callable(self.written) else self.written
        return rules_of(written, self.terms.burst)

    def _cost(self, call: LimitedCall, rules: Iterable[Rule]) -> int:
        cost = self.terms.cost
        cost = cost(call) if callable(cost) else cost
        for rule in rules:
            check_cost(cost, rule)
        return cost


# A monitor counts by itself; no store ever sees its charge.
_UNUSED = RollingWindow(1, 1.0)


@attrs.frozen(eq=False, kw_only=True)
class MonitorLimit(CompiledLimit):
    """A limit that an author has written as code."""

    monitor: Monitor

    @property
    def identity(self) -> object:
        """The monitor."""
        return id(self.monitor)

    def charges(self, call: LimitedCall, key: bytes) -> list[Charge]:
        """Return what stands for the monitor's own counting."""
        return [Charge("", b"", _UNUSED, 1, self.terms.shadow, Use(self, None))]


@attrs.frozen(eq=False)
class ActionLimits:
    """All limits of an action; every one of them has to admit a call.

    Args:
        bounds: The limits.
        stores: The stores of them, those that block first.
        monitors: The monitors among them, each once, in an order that all stacks share.
    """

    bounds: tuple[CompiledLimit, ...] = ()
    stores: tuple[Store, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    # Worked out here, since each call asks for it.
    blocks: bool = attrs.field(init=False)
    only_store: Store | None = attrs.field(init=False)
    """The store that has all of the limits, if one has."""
    charges: Callable[[LimitedCall], list[Charge]] = attrs.field(init=False)
    """Returns what a call would be charged; each bucket but once, at its largest cost."""

    @blocks.default
    def _any_blocks(self) -> bool:
        return bool(self.monitors) or any(store.blocks for store in self.stores)

    @only_store.default
    def _store_of_all(self) -> Store | None:
        return self.stores[0] if len(self.stores) == 1 and not self.monitors else None

    @charges.default
    def _reader_of_charges(self) -> Callable[[LimitedCall], list[Charge]]:
        first, *others = self.bounds or (None,)
        if isinstance(first, FixedLimit) and not others and len(first.parts) == 1:
            return _reader_of_charge(first)
        if any(isinstance(bound, FunctionLimit) for bound in self.bounds):
            charges = _reader_of_all(self.bounds)
            return lambda call: _distinct(charges(call))
        return _reader_of_all(self.bounds)

    def __bool__(self) -> bool:
        return bool(self.bounds)


def _reader_of_charge(bound: FixedLimit) -> Callable[[LimitedCall], list[Charge]]:
    """Return what makes the charge of the most common stack: one limit with one meter."""
    ((group, meter),) = bound.parts
    cost, shadow, use, read = bound.cost, bound.terms.shadow, bound._use, bound.key.read
    return lambda call: [Charge(group, read(call), meter, cost, shadow, use)]


def _reader_of_all(bounds: Sequence[CompiledLimit]) -> Callable[[LimitedCall], list[Charge]]:
    """Return what makes the charges of limits, and reads each key of a call but once."""
    keys: list[Key] = []
    for bound in bounds:
        if bound.terms.key not in keys:
            keys.append(bound.terms.key)
    reads = [next(b.key.read for b in bounds if b.terms.key == key) for key in keys]
    readable = [(bound, keys.index(bound.terms.key)) for bound in bounds]
    if all(isinstance(bound, FixedLimit) for bound in bounds):
        return _reader_of_fixed(reads, readable)

    def charges(call: LimitedCall) -> list[Charge]:
        hashes = read_keys(reads, call)
        return [one for bound, at in readable for one in bound.charges(call, hashes[at])]

    return charges


def _reader_of_fixed(
    reads: Sequence[Callable[[LimitedCall], bytes]], readable: Sequence[tuple[Any, int]]
) -> Callable[[LimitedCall], list[Charge]]:
    """Return what makes the charges of limits that are the same for each call."""
    meters = [
        (group, at, meter, bound.cost, bound.terms.shadow, bound._use)
        for bound, at in readable
        for group, meter in bound.parts
    ]

    def charges(call: LimitedCall) -> list[Charge]:
        hashes = read_keys(reads, call)
        return [
            Charge(group, hashes[at], meter, cost, shadow, use)
            for group, at, meter, cost, shadow, use in meters
        ]

    return charges


def _distinct(charges: Iterable[Charge]) -> list[Charge]:
    largest: dict[Any, Charge] = {}
    for charge in charges:
        identity = (charge.bucket, charge.limit.bound.store) if charge.group else charge
        known = largest.setdefault(identity, charge)
        if charge.cost > known.cost:
            largest[identity] = charge
    return list(largest.values())
