"""From the declarations of an action to its `ActionLimits`, once at start.

A `CompiledLimit` has all that a call needs: the reader of its key, its algorithms, its store. Only
a `FunctionLimit` has to look at the call first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov.errors import ConfigurationError, ProviderError
from arbprov.limits.algorithms import Algorithm, SlidingWindow
from arbprov.limits.decision import Headroom, headroom_of
from arbprov.limits.declaration import (
    RateLimit,
    check_cost,
    check_may_be_manual,
    describe_limit,
    read_policies,
)
from arbprov.limits.keys import CompiledKey, Key, LimitedCall, describe_key, read_keys
from arbprov.limits.monitors import PolicyMonitor, RateLimitMonitor, ask_monitor
from arbprov.limits.policies import Policy
from arbprov.limits.stats import Counters
from arbprov.limits.stores.base import BucketKey, Charge, Store

__all__ = ["ActionLimits", "CompiledLimit", "LimitCompiler", "OpenStore", "peek_charges"]

# Returns the store that a declaration asks for.
OpenStore = Callable[[RateLimit], Store]


@attrs.frozen(eq=False, kw_only=True)
class CompiledLimit:
    """A limit of an action.

    Args:
        declaration: The author's declaration of it.
        text: The limit, as messages name it: its text, or the name of a function or a monitor.
        owner: Its owner, such as ``"action:forecast"``.
        key: Reads a call's key.
        counters: Counts its decisions.
        clock: Tells the time.
        action: The name of the action.
        probe_timeout: The most seconds that other calls wait for the probe after a cooldown.
        buckets: Its algorithms, each with the group of its buckets.
        store: Keeps the buckets; None for a monitor.
        monitor: Counts instead of a store; None for all other limits.
        function_name: The function of the call that returned the limit; None for all other limits.
        cost: Units of a call, as far as they are known before it.
    """

    declaration: RateLimit
    text: str
    owner: str
    key: CompiledKey
    counters: Counters
    clock: Clock
    action: str
    probe_timeout: float
    buckets: Sequence[tuple[str, Algorithm]] = ()
    store: Store | None = None
    monitor: RateLimitMonitor | None = None
    function_name: str | None = None
    cost: int = attrs.field()

    @cost.default
    def _known_cost(self) -> int:
        return 1 if callable(self.declaration.cost) else self.declaration.cost

    @property
    def names(self) -> list[str]:
        """The names that an author may use for it: its ``name=``, and its texts."""
        names = (self.declaration.name, self.function_name, self.text)
        return [name for name in dict.fromkeys(names) if name is not None]

    @property
    def is_own(self) -> bool:
        """Whether it has a name or belongs to one action, unlike the limits of a whole app."""
        return self.declaration.name is not None or self.declaration.scope == "action"

    @property
    def identity(self) -> object:
        """Equal for two limits of an action if a call is charged only once for both."""
        return self.buckets[0][0], self.store

    def charges(self, key: bytes) -> list[Charge]:
        """Return the charge of each algorithm, by the hash of a call's key."""
        cost, shadow = self.cost, self.declaration.shadow
        return [
            Charge(group, key, algorithm, cost, shadow, self) for group, algorithm in self.buckets
        ]

    def headroom(self, value: Any) -> Headroom | None:
        """Return the headroom for a key's value, and charge nothing; None if that needs a call."""
        charges = self.charges(self.key.hash_of(value))
        peek_charges(charges)
        return next(headroom_of(charges))


# A monitor counts for itself: no store ever sees this bucket.
_MONITOR_BUCKETS = (("", SlidingWindow(1, 1.0)),)


@attrs.frozen(eq=False, kw_only=True)
class MonitorLimit(CompiledLimit):
    """A limit that an author has written as code."""

    monitor: RateLimitMonitor
    buckets: Sequence[tuple[str, Algorithm]] = _MONITOR_BUCKETS

    @property
    def identity(self) -> object:
        """The monitor."""
        return id(self.monitor)

    def headroom(self, value: Any) -> Headroom:
        """Ask the monitor."""
        return Headroom(self.text, None, ask_monitor(self.monitor))


@attrs.frozen(eq=False, kw_only=True)
class FunctionLimit(CompiledLimit):
    """A limit that depends on the call, or has a cost that does; it has no buckets before.

    Args:
        limit: A policy, or a function that returns a policy or a text.
        group: The first part of the groups of its buckets.
    """

    limit: Any
    group: str
    _compile: Callable[[Policy, int], CompiledLimit] = attrs.field(init=False)

    @_compile.default
    def _cached_compile(self) -> Callable[[Policy, int], CompiledLimit]:
        # A function returns the same few limits again and again.
        return functools.lru_cache(maxsize=256)(self._compile_policy)

    @property
    def identity(self) -> object:
        """The limit itself."""
        return self

    def headroom(self, value: Any) -> None:
        """Return None: there is no call."""

    def resolve(self, call: LimitedCall) -> list[CompiledLimit]:
        """Return a limit for each policy that the function returns.

        Raises:
            ProviderError: A function of the call returned an invalid limit or cost.
        """
        cost = self.declaration.cost
        try:
            limit = self.limit(call) if callable(self.limit) else self.limit
            policies = read_policies(limit, self.declaration.burst)
            units = cost(call) if callable(cost) else cost
            for policy in policies:
                check_cost(units, policy)
                if self.declaration.manual:
                    check_may_be_manual(policy)
        except ConfigurationError as error:
            raise ProviderError(f"the rate limit {self.text}: {error}") from None
        return [self._compile(policy, units) for policy in policies]

    def _compile_policy(self, policy: Policy, cost: int) -> CompiledLimit:
        return CompiledLimit(
            declaration=self.declaration,
            text=str(policy),
            owner=self.owner,
            key=self.key,
            counters=self.counters,
            clock=self.clock,
            action=self.action,
            probe_timeout=self.probe_timeout,
            buckets=policy.buckets(self.group, self.clock),
            store=self.store,
            function_name=self.text,
            cost=cost,
        )


def peek_charges(
    charges: Iterable[Charge], demand_ahead: Mapping[BucketKey, int] | None = None
) -> None:
    """Have the stores answer charges without making them."""
    for charge in charges:
        charge.limit.store.peek([charge], demand_ahead)


@attrs.frozen(eq=False)
class ActionLimits:
    """All limits of an action; each of them has to admit a call.

    Args:
        limits: The limits.
        manual: The limits that its handler acquires, by name.
        observed: The names of the limits to which its handler tells what the API says.
        stores: The stores of the limits, the stores that may block first.
        monitors: The monitors of the limits, each once, in the same order for all actions.
    """

    limits: tuple[CompiledLimit, ...] = ()
    stores: tuple[Store, ...] = ()
    monitors: tuple[RateLimitMonitor, ...] = ()
    manual: Mapping[str, ActionLimits] = attrs.field(factory=dict)
    observed: set[str] = attrs.field(factory=set)
    # Compiled here, since each call needs them.
    blocks: bool = attrs.field(init=False)
    """Whether a decision may take a while, so that an event loop has to ask on a thread."""
    settling_blocks: bool = attrs.field(init=False)
    """The same for the limits that its handler acquires, too."""
    fields_of: frozenset[str] = attrs.field(init=False)
    """The parts of a call, payload and account, whose fields a key, a cost or a limit may read."""
    may_hold: bool = attrs.field(init=False)
    """Whether a call may hold units until it has ended."""
    only_store: Store | None = attrs.field(init=False)
    """The store of all limits, if there is only one, and no monitor."""
    charges: Callable[[LimitedCall], list[Charge]] = attrs.field(init=False)
    """Returns the charges of a call: each bucket once, at its largest cost.

    Raises `InvalidPayloadError` if a key is missing, and `ProviderError` if a function of the call
    returned an invalid limit or cost.
    """

    @blocks.default
    def _any_blocks(self) -> bool:
        return bool(self.monitors) or any(store.blocks for store in self.stores)

    @settling_blocks.default
    def _any_settling_blocks(self) -> bool:
        return self.blocks or any(limits.blocks for limits in self.manual.values())

    @fields_of.default
    def _find_fields_of(self) -> frozenset[str]:
        parts: set[str] = set()
        for limit in self.all_limits:
            is_function = isinstance(limit, FunctionLimit)
            parts |= {"payload", "account"} if is_function else limit.key.parts
        return frozenset(parts)

    @may_hold.default
    def _find_may_hold(self) -> bool:
        return any(
            isinstance(limit, FunctionLimit) or any(one.holds for _, one in limit.buckets)
            for limit in self.limits
        )

    @only_store.default
    def _find_only_store(self) -> Store | None:
        return self.stores[0] if len(self.stores) == 1 and not self.monitors else None

    @charges.default
    def _compile_charges(self) -> Callable[[LimitedCall], list[Charge]]:
        if any(isinstance(limit, FunctionLimit) for limit in self.limits):
            return _compile_functions(self.limits)
        return _compile_fixed(self.limits)

    def __bool__(self) -> bool:
        return bool(self.limits)

    @property
    def all_limits(self) -> tuple[CompiledLimit, ...]:
        """The limits, and then those that its handler acquires."""
        manual = (limit for limits in self.manual.values() for limit in limits.limits)
        return (*self.limits, *manual)


def _compile_fixed(limits: Sequence[CompiledLimit]) -> Callable[[LimitedCall], list[Charge]]:
    """Return the function that makes the charges of limits that do not depend on the call."""
    reads, places = _compile_keys(limits)
    rows = [
        (group, place, algorithm, limit.cost, limit.declaration.shadow, limit)
        for limit, place in zip(limits, places, strict=True)
        for group, algorithm in limit.buckets
    ]
    if len(rows) == 1:
        # The most common case: a single limit with a single algorithm.
        ((group, _, algorithm, cost, shadow, limit),) = rows
        (read,) = reads
        return lambda call: [Charge(group, read(call), algorithm, cost, shadow, limit)]

    def charges(call: LimitedCall) -> list[Charge]:
        keys = read_keys(reads, call)
        return [
            Charge(group, keys[place], algorithm, cost, shadow, limit)
            for group, place, algorithm, cost, shadow, limit in rows
        ]

    return charges


def _compile_functions(limits: Sequence[CompiledLimit]) -> Callable[[LimitedCall], list[Charge]]:
    """Return the function that makes the charges of limits if some depend on the call."""
    reads, places = _compile_keys(limits)
    placed = list(zip(limits, places, strict=True))

    def charges(call: LimitedCall) -> list[Charge]:
        keys = read_keys(reads, call)
        return _largest_per_bucket(
            charge
            for limit, place in placed
            for resolved in (limit.resolve(call) if isinstance(limit, FunctionLimit) else (limit,))
            for charge in resolved.charges(keys[place])
        )

    return charges


def _compile_keys(
    limits: Sequence[CompiledLimit],
) -> tuple[list[Callable[[LimitedCall], bytes]], list[int]]:
    """Return the reader of each distinct key, and each limit's place among them."""
    keys: list[Key] = []
    reads: list[Callable[[LimitedCall], bytes]] = []
    for limit in limits:
        if limit.declaration.key not in keys:
            keys.append(limit.declaration.key)
            reads.append(limit.key.read)
    return reads, [keys.index(limit.declaration.key) for limit in limits]


def _largest_per_bucket(charges: Iterable[Charge]) -> list[Charge]:
    largest: dict[Any, Charge] = {}
    for charge in charges:
        identity = (charge.bucket, charge.limit.store) if charge.group else charge
        known = largest.setdefault(identity, charge)
        if charge.cost > known.cost:
            largest[identity] = charge
    return list(largest.values())


class LimitCompiler:
    """Compiles the limits of actions; all uses of a limit share its counters and its store.

    Args:
        clock: Tells the time.
        open_store: Returns the store of a declaration.
        provider: The provider's name, if other providers use the same namespace of a store.
    """

    def __init__(self, clock: Clock, open_store: OpenStore, provider: str = "") -> None:
        self._clock = clock
        self._open_store = open_store
        self._provider = provider
        self._functions: dict[str, list[Any]] = {}
        self.counters: dict[str, Counters] = {}
        self.stores: list[Store] = []

    def compile(
        self,
        declarations: Iterable[RateLimit],
        action: str,
        blueprint: str | None,
        probe_timeout: float,
    ) -> ActionLimits:
        """Return all limits of an action; a call is charged once per bucket, at the largest cost.

        Raises:
            ConfigurationError: A store can't be opened.
        """
        automatic: list[RateLimit] = []
        by_name: dict[str, list[RateLimit]] = {}
        for declaration in declarations:
            if declaration.manual and declaration.name is not None:
                by_name.setdefault(declaration.name, []).append(declaration)
            else:
                automatic.append(declaration)
        owners = {"action": f"action:{action}", "blueprint": f"blueprint:{blueprint}", "app": "app"}
        of_call = {"action": action, "probe_timeout": probe_timeout}
        manual = {
            name: self._compile_limits(group, owners, of_call) for name, group in by_name.items()
        }
        return attrs.evolve(self._compile_limits(automatic, owners, of_call), manual=manual)

    def _compile_limits(
        self,
        declarations: Iterable[RateLimit],
        owners: Mapping[str, str],
        of_call: Mapping[str, Any],
    ) -> ActionLimits:
        """Return limits that decide together.

        Args:
            declarations: Their declarations.
            owners: The owners of limits without a name, by scope.
            of_call: What all limits of the action have in common.
        """
        limits: dict[Any, CompiledLimit] = {}
        for declaration in declarations:
            name = declaration.name
            owner = owners[declaration.scope] if name is None else f"name:{name}"
            for declared in declaration.limits:
                limit = self._compile_limit(declaration, declared, owner, of_call)
                known = limits.setdefault(limit.identity, limit)
                limits[limit.identity] = max(known, limit, key=lambda each: each.cost)
        stores = dict.fromkeys(limit.store for limit in limits.values() if limit.store is not None)
        monitors = {id(m): m for limit in limits.values() if (m := limit.monitor) is not None}
        return ActionLimits(
            tuple(limits.values()),
            tuple(sorted(stores, key=lambda store: not store.blocks)),
            # Sorted, so that no two calls can each hold a monitor that the other waits for.
            tuple(monitors[identity] for identity in sorted(monitors)),
        )

    def _compile_limit(
        self, declaration: RateLimit, limit: Any, owner: str, of_call: Mapping[str, Any]
    ) -> CompiledLimit:
        text, key = describe_limit(limit), declaration.key
        # The first part of the groups of its buckets, and so of Redis keys. Only a named limit is
        # shared by providers.
        provider = f"{self._provider}/" if self._provider and declaration.name is None else ""
        shadow = "|shadow" if declaration.shadow else ""
        group = f"{provider}{owner}|{self._key_name(key)}{shadow}"
        counters = Counters(text, "" if key is None else describe_key(key), owner)
        common: dict[str, Any] = {
            "declaration": declaration,
            "text": text,
            "owner": owner,
            "key": CompiledKey(key, text),
            "counters": self.counters.setdefault(f"{group}|{text}", counters),
            "clock": self._clock,
            **of_call,
        }
        if isinstance(limit, PolicyMonitor):
            buckets = limit.policy.buckets(limit.group, self._clock)
            return CompiledLimit(buckets=buckets, store=limit.store(self._clock), **common)
        if isinstance(limit, RateLimitMonitor):
            return MonitorLimit(monitor=limit, **common)
        store = self._open_store(declaration)
        if store not in self.stores:
            self.stores.append(store)
        if callable(limit) or callable(declaration.cost):
            return FunctionLimit(limit=limit, group=group, store=store, **common)
        return CompiledLimit(buckets=limit.buckets(group, self._clock), store=store, **common)

    def _key_name(self, key: Key) -> str:
        """Return a key's name, the same in each process; no two keys of an app have the same."""
        if key is None:
            return ""
        name = describe_key(key)
        if not callable(key):
            return name
        # Two lambdas have the same name, but all processes meet them in the same order.
        known = self._functions.setdefault(name, [])
        if key not in known:
            known.append(key)
        return f"{name}#{known.index(key)}"
