"""The decisions of limits since the start, and their headroom."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from arbprov.limits.decision import Headroom
from arbprov.limits.keys import describe_key
from arbprov.limits.stores.base import BucketKey

if TYPE_CHECKING:
    from arbprov.limits.compile import ActionLimits, CompiledLimit

__all__ = ["Counters", "LimitCounts", "LimitState", "LimitStats", "LimitUsage", "crossed_threshold"]

# Warnings that are remembered for each limit.
_MAX_WARNINGS = 1024


@attrs.define
class LimitCounts:
    """The decisions of a limit since the start, over all keys.

    Args:
        limit: The limit, as in ``"5/second"``.
        key: The key that it is counted by; empty if all calls share it.
        scope: Its owner: ``"app"``, ``"action:NAME"``, ``"blueprint:NAME"`` or ``"name:NAME"``.
        allowed: Calls that were admitted and charged.
        denied: Calls that the limit refused, or would have refused if it is a shadow limit.
        gated: Denied calls that a cooldown refused.
        waited: Allowed calls that waited for the limit first.
        fallback: Decisions that were made while the store was away.
    """

    limit: str
    key: str
    scope: str
    allowed: int = 0
    denied: int = 0
    gated: int = 0
    waited: int = 0
    fallback: int = 0


class Counters:
    """Counts the decisions of a limit, from any thread.

    Attributes:
        held: Units that calls of this process hold now.
    """

    def __init__(self, limit: str, key: str, scope: str) -> None:
        self.held = 0
        self._lock = threading.Lock()
        self._counts = LimitCounts(limit, key, scope)
        # When a warning of a bucket and a level may come again.
        self._warns_again_at: dict[tuple[BucketKey, float], float] = {}

    def may_warn(self, bucket: BucketKey, level: float, now: float, pause: float) -> bool:
        """Tell whether a warning is due, and note it: a bucket's level has one in each `pause`."""
        with self._lock:
            if now < self._warns_again_at.get((bucket, level), now):
                return False
            if len(self._warns_again_at) >= _MAX_WARNINGS:
                later = {of: at for of, at in self._warns_again_at.items() if at > now}
                self._warns_again_at = later if len(later) < _MAX_WARNINGS else {}
            self._warns_again_at[bucket, level] = now + pause
            return True

    def count_allowed(self, *, waited: bool, fallback: bool) -> None:
        """Count a call that was admitted."""
        with self._lock:
            self._counts.allowed += 1
            self._counts.waited += waited
            self._counts.fallback += fallback

    def count_denied(self, *, in_cooldown: bool, fallback: bool) -> None:
        """Count a call that was refused."""
        with self._lock:
            self._counts.denied += 1
            self._counts.gated += in_cooldown
            self._counts.fallback += fallback

    def count_held(self, units: int) -> None:
        """Count units that a call holds from now on, or that it has given back (negative)."""
        with self._lock:
            self.held += units

    def copy(self) -> LimitCounts:
        """Return a copy of the counts so far."""
        with self._lock:
            return attrs.evolve(self._counts)


@functools.lru_cache(maxsize=1024)
def _thresholds(levels: tuple[float, ...], capacity: int) -> tuple[tuple[float, int], ...]:
    counts = [(level, math.ceil(level * capacity)) for level in sorted(levels)]
    # A warning at the whole limit would come too late.
    return tuple((level, count) for level, count in counts if count < capacity)


def crossed_threshold(
    levels: tuple[float, ...], capacity: int, used: int, cost: int
) -> float | None:
    """Return the highest of `levels` that a charge has reached, None if it reached none.

    >>> crossed_threshold((0.8, 0.95), capacity=100, used=81, cost=2)
    0.8

    Args:
        levels: Shares of `capacity`.
        capacity: Units of the whole limit.
        used: Units used, after the charge.
        cost: Units of the charge.
    """
    thresholds = _thresholds(levels, capacity)
    if not thresholds or used < thresholds[0][1]:
        return None
    reached = [level for level, count in thresholds if used - cost < count <= used]
    return max(reached, default=None)


@attrs.frozen
class LimitState:
    """A limit of an action, and its headroom.

    Args:
        limit: The limit, as in ``"5/second"``.
        scope: Its owner: ``"app"``, ``"action:NAME"``, ``"blueprint:NAME"`` or ``"name:NAME"``.
        key: The key that it is counted by; empty if all calls share it.
        shadow: Whether it counts only, and refuses nothing.
        manual: Whether the handler charges it.
        headroom: How much of it is left; None if that depends on a key or a call that is unknown.
    """

    limit: str
    scope: str
    key: str
    shadow: bool
    manual: bool
    headroom: Headroom | None


@attrs.frozen
class LimitUsage:
    """What is used of a limit now, whatever the call.

    Args:
        limit: The limit, as in ``"5/second"``.
        key: The path of the key that it is counted by; empty if all calls share it.
        scope: Its owner: ``"app"``, ``"action:NAME"``, ``"blueprint:NAME"`` or ``"name:NAME"``.
        headroom: Units left; None if it has a key, depends on the call, or is a monitor.
        cooldowns: Keys that a cooldown refuses.
        held: Units that calls of this process hold.
    """

    limit: str
    key: str
    scope: str
    headroom: int | None
    cooldowns: int
    held: int


class LimitStats:
    """The limits of an app as they are now: `ProviderApp.limits`, `TestClient.limits`.

    Args:
        limits: The limits of each action.
        read_counts: Returns the counts of all limits.
    """

    def __init__(
        self, limits: Mapping[str, ActionLimits], read_counts: Callable[[], list[LimitCounts]]
    ) -> None:
        self._limits = limits
        self._read_counts = read_counts

    def headroom(self, action: str, key: Any = None) -> list[Headroom]:
        """Return the headroom of each limit of an action, and charge nothing.

        A limit that is a function of the call is left out, since there is no call.

        Args:
            action: The action's name.
            key: The value of the key: for ``"account.id"`` an id, for a tuple of paths a tuple; or
                a dict of values by path, if limits have several keys.

        Raises:
            LookupError: There is no such action.
            ValueError: A limit is counted by a key, and `key` does not have it.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("100/hour", key="account.id")
        ... def order() -> None: ...
        >>> client = app.test_client()
        >>> client.call("order", account={"id": 42}).status.value
        'success'
        >>> client.limits.headroom("order", key=42)
        [Headroom(limit='100/hour', remaining=99, wait_time=0.0)]
        """
        found = []
        for limit in self._of(action):
            paths, value = limit.declaration.key, _key_value(limit, key)
            if limit.buckets and paths is not None and value is None:
                raise ValueError(
                    f"{limit.text} is counted by {describe_key(paths)}; "
                    f"say whose headroom it is, with key="
                )
            found.append(limit.headroom(value))
        return [headroom for headroom in found if headroom is not None]

    def states(self, action: str, keys: Mapping[str, Any]) -> Iterator[LimitState]:
        """Yield each limit of an action, with its headroom if that can be known.

        Args:
            action: The action's name.
            keys: Values of keys, by path.

        Raises:
            LookupError: There is no such action.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("100/hour", key="account.id")
        ... def order() -> None: ...
        >>> (state,) = app.test_client().limits.states("order", {"account.id": 42})
        >>> state.limit, state.scope, state.key, state.headroom.remaining
        ('100/hour', 'action:order', 'account.id', 100)
        """
        for limit in self._of(action):
            key, value = limit.declaration.key, _key_value(limit, keys)
            is_unknown = value is None and key is not None
            yield LimitState(
                limit.text,
                limit.owner,
                "" if key is None else describe_key(key),
                limit.declaration.shadow,
                limit.declaration.manual,
                None if is_unknown else limit.headroom(value),
            )

    def counts(self) -> list[LimitCounts]:
        """Return the calls that each limit has allowed and denied since the start.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop", rate_limit="1/hour")
        >>> @app.action
        ... def order() -> None: ...
        >>> client = app.test_client()
        >>> [client.call("order").status.value for _ in range(3)]
        ['success', 'limit', 'limit']
        >>> [(counts.limit, counts.allowed, counts.denied) for counts in client.limits.counts()]
        [('1/hour', 1, 2)]
        """
        return self._read_counts()

    def usage(self) -> Iterator[LimitUsage]:
        """Yield what is used of each limit; a store that processes share is asked, and may block.

        >>> from arbprov import Concurrency, ProviderApp
        >>> app = ProviderApp("shop", rate_limit="100/hour")
        >>> _ = app.action("order")(lambda: None)
        >>> client = app.test_client()
        >>> client.call("order").status.value
        'success'
        >>> list(client.limits.usage())  # doctest: +NORMALIZE_WHITESPACE
        [LimitUsage(limit='100/hour', key='', scope='app', headroom=99, cooldowns=0, held=0)]
        """
        limits = {limit.counters: limit for action in self._limits for limit in self._of(action)}
        stores = {limit.store for limit in limits.values() if limit.store is not None}
        cooldowns = {store: store.cooldowns() for store in stores}
        for counters, limit in limits.items():
            has_headroom = limit.declaration.key is None and limit.store is not None
            headroom = limit.headroom(None) if has_headroom else None
            refused = cooldowns[limit.store] if limit.store is not None else {}
            counts = counters.copy()
            yield LimitUsage(
                counts.limit,
                counts.key,
                counts.scope,
                None if headroom is None else headroom.remaining,
                max((refused.get(group, 0) for group, _ in limit.buckets), default=0),
                counters.held,
            )

    def _of(self, action: str) -> tuple[CompiledLimit, ...]:
        if action not in self._limits:
            known = ", ".join(self._limits)
            raise LookupError(f"there is no action {action!r}; there is {known}")
        return self._limits[action].all_limits


def _key_value(limit: CompiledLimit, key: Any) -> Any:
    """Return the value of a limit's key, or None if `key` does not have it."""
    paths = limit.declaration.key
    if not isinstance(key, Mapping):
        return key
    if not isinstance(paths, tuple):
        return key.get(describe_key(paths))
    return tuple(key[path] for path in paths) if key.keys() >= {*paths} else None
