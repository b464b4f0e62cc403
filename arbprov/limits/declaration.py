"""What `@app.rate_limit` attaches to a handler."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import attrs

from arbprov._utils import is_positive_integer
from arbprov.errors import ConfigurationError
from arbprov.limits.bucket import TokenBucket
from arbprov.limits.calendar import Calendar
from arbprov.limits.grammar import Limit, parse_limits
from arbprov.limits.keys import Key, LimitedCall, check_key, describe_key
from arbprov.limits.meter import Rule
from arbprov.limits.monitor import MeteredMonitor, Monitor
from arbprov.limits.spacing import MinDelay

__all__ = [
    "AnyLimit",
    "Cost",
    "OnStoreError",
    "RateLimit",
    "Scope",
    "check_cost",
    "declare",
    "rules_of",
]

Scope = Literal["action", "blueprint", "app"]
OnStoreError = Literal["local", "closed", "open"]
# What one may write for a limit: its text, the limit itself, a monitor, or a function of the call
# that returns a text or a limit.
AnyLimit = str | Rule | Monitor | MeteredMonitor | Callable[[LimitedCall], Any]
Cost = int | Callable[[LimitedCall], int]
# As a limit of one call: a function is resolved by then.
_KNOWN = (Limit, TokenBucket, MinDelay, Calendar)


@attrs.frozen
class RateLimit:
    """One or several limits that are counted by the same key."""

    limits: tuple[Any, ...]
    key: Key = None
    name: str | None = None
    scope: Scope = "action"
    cost: Cost = 1
    burst: int | None = None
    max_wait: float = 0.0
    warn_at: tuple[float, ...] = ()
    store: Any = attrs.field(default=None, repr=False)
    on_store_error: OnStoreError = "local"
    shadow: bool = False

    @property
    def is_monitor(self) -> bool:
        """Whether it is code that counts by itself."""
        return isinstance(self.limits[0], (Monitor, MeteredMonitor))

    def __str__(self) -> str:
        limits = "; ".join(map(describe_limit, self.limits))
        text = limits if self.key is None else f"{limits} per {describe_key(self.key)}"
        return f"{text} (shadow)" if self.shadow else text


def declare(
    limit: AnyLimit,
    *,
    key: Key = None,
    name: str | None = None,
    scope: Scope = "action",
    cost: Cost = 1,
    burst: int | None = None,
    max_wait: float = 0.0,
    warn_at: Sequence[float] = (0.8, 0.95),
    store: Any = None,
    on_store_error: OnStoreError = "local",
    shadow: bool = False,
) -> RateLimit:
    """Return a checked declaration; see `ProviderApp.rate_limit` for the arguments.

    Raises:
        ConfigurationError: An argument makes no sense, or the limit can never be met.
    """
    limits: tuple[Any, ...]
    if isinstance(limit, (Monitor, MeteredMonitor)):
        limits = (limit,)
        _check_monitor(limit, key=key, cost=cost, burst=burst, store=store)
    else:
        limits = (limit,) if _is_function(limit) else rules_of(limit, burst)
    _check_choice("scope", scope, Scope)
    _check_choice("on_store_error", on_store_error, OnStoreError)
    check_key(key)
    _check_name(name)
    if type(shadow) is not bool:
        raise ConfigurationError(f"shadow={shadow!r} is neither True nor False")
    if not callable(cost):
        for one in limits:
            check_cost(cost, one)
    return RateLimit(
        limits,
        key,
        name,
        scope,
        cost,
        burst,
        _seconds("max_wait", max_wait),
        _levels(warn_at),
        store,
        on_store_error,
        shadow,
    )


def describe_limit(limit: Any) -> str:
    """Return a limit as messages name it."""
    if isinstance(limit, MeteredMonitor):
        return str(limit.rule)
    if isinstance(limit, Monitor):
        return type(limit).__qualname__
    return describe_key(limit) if _is_function(limit) else str(limit)


def rules_of(limit: Any, burst: int | None = None) -> tuple[Rule, ...]:
    """Return the limits that a text or a limit stands for.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(limit, (str, *_KNOWN)):
        raise ConfigurationError(f'a rate limit is a text like "10/minute", not {limit!r}')
    rules = _parsed(limit) if isinstance(limit, str) else (limit,)
    return rules if burst is None else tuple(_paced(one, burst) for one in rules)


# A function of the call returns the same few texts again and again.
_parsed = functools.lru_cache(maxsize=256)(parse_limits)


def check_cost(cost: Any, limit: Any) -> None:
    """Refuse a cost that is no number, or that a limit can never meet.

    Raises:
        ConfigurationError: It is one of these.
    """
    if not is_positive_integer(cost):
        raise ConfigurationError(f"cost={cost!r} is not a whole number above 0")
    capacity = limit.capacity if isinstance(limit, _KNOWN) else None
    if capacity is not None and cost > capacity:
        raise ConfigurationError(
            f"a cost of {cost} can never be met by {limit}; lower the cost or raise the limit"
        )


def _is_function(limit: Any) -> bool:
    return callable(limit) and not isinstance(limit, type)


def _paced(limit: Rule, burst: int) -> Limit:
    if not isinstance(limit, Limit):
        raise ConfigurationError(f'burst= is for limits like "10/minute", not for {limit}')
    return attrs.evolve(limit, burst=burst)


def _check_monitor(monitor: Any, **options: Any) -> None:
    for name, value in options.items():
        if value is not None and not (name == "cost" and value == 1):
            raise ConfigurationError(
                f"{name}= is for limits that arbprov counts; {describe_limit(monitor)} "
                f"counts by itself"
            )


def _check_choice(name: str, value: Any, choices: Any) -> None:
    known = get_args(choices)
    if value not in known:
        *first, last = map(repr, known)
        raise ConfigurationError(f"{name}={value!r} is none of {', '.join(first)} and {last}")


def _check_name(name: Any) -> None:
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise ConfigurationError(f"name={name!r} is no name, such as 'vendor'")


def _seconds(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise ConfigurationError(f"{name}={value!r} is not a number of seconds, 0 or above")
    return float(value)


def _levels(levels: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(levels, (list, tuple)) or any(
        type(level) not in (int, float) or not 0 < level < 1 for level in levels
    ):
        raise ConfigurationError(f"warn_at={levels!r}: each of it is a share between 0 and 1")
    return tuple(sorted(levels))
