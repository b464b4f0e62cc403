"""From the declarations of an action to its `ActionLimits`, once at start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from arbprov._types import Clock
from arbprov.limits.declaration import RateLimit, describe_limit
from arbprov.limits.keys import BoundKey, Key, describe_key
from arbprov.limits.meter import Rule
from arbprov.limits.monitor import MeteredMonitor, Monitor
from arbprov.limits.stack import (
    ActionLimits,
    CompiledLimit,
    FixedLimit,
    FunctionLimit,
    MonitorLimit,
    parts_of,
)
from arbprov.limits.stats import Tally
from arbprov.limits.stores.base import Store

__all__ = ["LimitCompiler", "OpenStore"]

# Returns the store that a declaration asks for.
OpenStore = Callable[[RateLimit], Store]


class LimitCompiler:
    """Compiles the limits of actions; those that share a limit share its tally and its store.

    Args:
        clock: Tells the time.
        open_store: Returns the stores of limits.
        provider: Whose limits these are, where others keep theirs under the same namespace.
    """

    def __init__(self, clock: Clock, open_store: OpenStore, provider: str = "") -> None:
        self._clock = clock
        self._open_store = open_store
        self._provider = provider
        self._functions: dict[str, list[Any]] = {}
        self.tallies: dict[str, Tally] = {}
        self.stores: list[Store] = []

    def compile(
        self, declarations: Iterable[RateLimit], action: str, blueprint: str | None
    ) -> ActionLimits:
        """Return all limits of an action; a bucket is charged but once, at its largest cost."""
        owners = {"action": f"action:{action}", "blueprint": f"blueprint:{blueprint}", "app": "app"}
        bounds: dict[Any, CompiledLimit] = {}
        for terms in declarations:
            owner = owners[terms.scope] if terms.name is None else f"name:{terms.name}"
            for limit in terms.limits:
                bound = self._bind(terms, limit, owner)
                known = bounds.setdefault(bound.identity, bound)
                bounds[bound.identity] = max(known, bound, key=lambda one: one.cost)
        return _stack(list(bounds.values()))

    def _bind(self, terms: RateLimit, limit: Any, owner: str) -> CompiledLimit:
        # Only a name makes a limit one that providers share.
        whose = f"{self._provider}/" if self._provider and terms.name is None else ""
        group = f"{whose}{owner}|{self._key_name(terms.key)}" + ("|shadow" if terms.shadow else "")
        common = self._common(terms, limit, owner, group)
        if isinstance(limit, MeteredMonitor):
            return self._fixed(limit.rule, limit.group, limit.store(self._clock), common)
        if isinstance(limit, Monitor):
            return MonitorLimit(monitor=limit, store=None, **common)
        store = self._known(self._open_store(terms))
        if callable(limit) or callable(terms.cost):
            return FunctionLimit(
                written=limit, group=group, clock=self._clock, store=store, **common
            )
        return self._fixed(limit, group, store, common)

    def _fixed(self, rule: Rule, group: str, store: Store, common: dict[str, Any]) -> FixedLimit:
        parts = parts_of(group, rule, self._clock)
        return FixedLimit(rule=rule, parts=parts, store=store, **common)

    def _common(self, terms: RateLimit, limit: Any, owner: str, group: str) -> dict[str, Any]:
        """Return what all kinds of limits have."""
        name = describe_limit(limit)
        tally = Tally(name, "" if terms.key is None else describe_key(terms.key), owner)
        return {
            "terms": terms,
            "limit": name,
            "owner": owner,
            "key": BoundKey(terms.key, name),
            "tally": self.tallies.setdefault(f"{group}|{name}", tally),
        }

    def _known(self, store: Store) -> Store:
        if store not in self.stores:
            self.stores.append(store)
        return store

    def _key_name(self, key: Key) -> str:
        """Return what tells one key from another, in other processes too."""
        if key is None:
            return ""
        name = describe_key(key)
        if not callable(key):
            return name
        # Two lambdas have one name, but all processes come across them in one order.
        known = self._functions.setdefault(name, [])
        if key not in known:
            known.append(key)
        return f"{name}#{known.index(key)}"


def _stack(bounds: list[CompiledLimit]) -> ActionLimits:
    stores = dict.fromkeys(bound.store for bound in bounds if bound.store is not None)
    monitors = {id(b.monitor): b.monitor for b in bounds if isinstance(b, MonitorLimit)}
    return ActionLimits(
        tuple(bounds),
        tuple(sorted(stores, key=lambda store: not store.blocks)),
        # In one order everywhere, or two decisions could wait for each other.
        tuple(monitors[identity] for identity in sorted(monitors)),
    )
