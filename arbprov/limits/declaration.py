"""The limits that `@app.rate_limit` attaches to a handler, checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import attrs

from arbprov._utils import is_positive_integer
from arbprov.errors import ConfigurationError
from arbprov.limits.keys import Key, LimitedCall, check_key, describe_key
from arbprov.limits.monitors import PolicyMonitor, RateLimitMonitor
from arbprov.limits.policies import Concurrency, Limit, Policy, parse_limits

__all__ = [
    "AnyLimit",
    "Cost",
    "OnStoreError",
    "RateLimit",
    "Scope",
    "check_cost",
    "check_may_be_manual",
    "declare",
    "describe_limit",
    "read_policies",
]

Scope = Literal["action", "blueprint", "app"]
OnStoreError = Literal["local", "closed", "open"]
# A text, a policy, a monitor, or a function of the call that returns a text or a policy.
AnyLimit = str | Policy | RateLimitMonitor | Callable[[LimitedCall], Any]
Cost = int | Callable[[LimitedCall], int]


@attrs.frozen
class RateLimit:
    """A use of `@app.rate_limit`: limits with the same key and options.

    Args:
        limits: Policies; or a monitor, or a function of the call.

    All other fields are the arguments of `ProviderApp.rate_limit`.
    """

    limits: tuple[Any, ...]
    key: Key = None
    name: str | None = None
    scope: Scope = "action"
    cost: Cost = 1
    burst: int | None = None
    max_wait: float = 0.0
    warn_at: tuple[float, ...] | None = None
    store: Any = attrs.field(default=None, repr=False)
    on_store_error: OnStoreError = "local"
    shadow: bool = False
    manual: bool = False

    @property
    def is_monitor(self) -> bool:
        """Whether a monitor counts it, and not a store."""
        return isinstance(self.limits[0], RateLimitMonitor)

    def __str__(self) -> str:
        limits = "; ".join(map(describe_limit, self.limits))
        text = limits if self.key is None else f"{limits} per {describe_key(self.key)}"
        marks = [mark for mark in ("shadow", "manual") if getattr(self, mark)]
        return f"{text} ({', '.join(marks)})" if marks else text


def declare(
    limit: AnyLimit,
    *,
    key: Key = None,
    name: str | None = None,
    scope: Scope = "action",
    cost: Cost = 1,
    burst: int | None = None,
    max_wait: float = 0.0,
    warn_at: Sequence[float] | None = None,
    store: Any = None,
    on_store_error: OnStoreError = "local",
    shadow: bool = False,
    manual: bool = False,
) -> RateLimit:
    """Check the arguments of `ProviderApp.rate_limit`, and return them as a declaration.

    >>> str(declare("5/second; 1000/day", key="account.id"))
    '5/second; 1000/day per account.id'

    Raises:
        ConfigurationError: An argument is not valid, or no call can ever meet the limit.
    """
    limits: tuple[Any, ...]
    if isinstance(limit, RateLimitMonitor):
        limits = (limit,)
        _check_monitor(limit, key=key, cost=cost, burst=burst, store=store)
    else:
        limits = (limit,) if _is_function(limit) else read_policies(limit, burst)
    _check_choice("scope", scope, Scope)
    _check_choice("on_store_error", on_store_error, OnStoreError)
    check_key(key)
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise ConfigurationError(f"name={name!r} is not a name, such as 'vendor'")
    for option, value in (("shadow", shadow), ("manual", manual)):
        if type(value) is not bool:
            raise ConfigurationError(f"{option}={value!r} must be True or False")
    if manual:
        _check_manual(limit, name, scope)
    if type(max_wait) not in (int, float) or not 0 <= max_wait < float("inf"):
        raise ConfigurationError(f"max_wait={max_wait!r} is not a number of seconds, 0 or above")
    if not callable(cost):
        for each in limits:
            check_cost(cost, each)
    return RateLimit(
        limits,
        key,
        name,
        scope,
        cost,
        burst,
        float(max_wait),
        None if warn_at is None else _check_levels(warn_at),
        store,
        on_store_error,
        shadow,
        manual,
    )


def describe_limit(limit: Any) -> str:
    """Return a limit as messages name it: its text, or the name of its class or function."""
    if isinstance(limit, PolicyMonitor):
        return str(limit.policy)
    if isinstance(limit, RateLimitMonitor):
        return type(limit).__qualname__
    return describe_key(limit) if _is_function(limit) else str(limit)


def read_policies(limit: Any, burst: int | None = None) -> tuple[Policy, ...]:
    """Return the policies that a text has, or a policy itself.

    Raises:
        ConfigurationError: `limit` is not valid, or has no `burst`.
    """
    if not isinstance(limit, (str, Policy)):
        raise ConfigurationError(f'a rate limit is a text like "10/minute", not {limit!r}')
    policies = _parse_cached(limit) if isinstance(limit, str) else (limit,)
    if burst is None:
        return policies
    tightened = []
    for policy in policies:
        if not isinstance(policy, Limit):
            raise ConfigurationError(f'burst= is for limits like "10/minute", not for {policy}')
        tightened.append(attrs.evolve(policy, burst=burst))
    return tuple(tightened)


# A function of the call returns the same few texts again and again.
_parse_cached = functools.lru_cache(maxsize=256)(parse_limits)


def check_cost(cost: Any, limit: Any) -> None:
    """Refuse a cost that is not a positive integer, or is above the limit's capacity.

    Raises:
        ConfigurationError: The cost is refused.
    """
    if not is_positive_integer(cost):
        raise ConfigurationError(f"cost={cost!r} is not a whole number above 0")
    if isinstance(limit, Policy) and cost > limit.capacity:
        raise ConfigurationError(
            f"a cost of {cost} can never be met by {limit}; lower the cost or raise the limit"
        )


def _is_function(limit: Any) -> bool:
    return callable(limit) and not isinstance(limit, type)


def _check_monitor(monitor: RateLimitMonitor, **options: Any) -> None:
    for name, value in options.items():
        if value is not None and not (name == "cost" and value == 1):
            raise ConfigurationError(
                f"{name}= is for limits that arbprov counts; {describe_limit(monitor)} "
                f"counts by itself"
            )


def _check_manual(limit: AnyLimit, name: str | None, scope: Scope) -> None:
    """Refuse a limit that no handler could acquire, or with an option that would do nothing."""
    if isinstance(limit, RateLimitMonitor):
        raise ConfigurationError(
            f"manual=True is for limits that arbprov counts; a handler asks "
            f"{describe_limit(limit)} itself"
        )
    if name is None:
        raise ConfigurationError(
            'manual=True needs a name, such as name="vendor", for ctx.limits.acquire("vendor")'
        )
    check_may_be_manual(limit)
    if scope != "action":
        raise ConfigurationError(
            f"scope={scope!r} does nothing for a manual limit: all actions that declare it with "
            f"the name {name!r} share it; leave scope= out"
        )


def check_may_be_manual(limit: Any) -> None:
    """Refuse a limit whose units a call holds until its handler has ended.

    Raises:
        ConfigurationError: The limit is refused.
    """
    if isinstance(limit, Concurrency):
        raise ConfigurationError(
            f"manual=True is for limits on single calls of an API; {limit!r} counts a handler from "
            f"its start to its end: leave manual= out"
        )


def _check_choice(name: str, value: Any, choices: Any) -> None:
    known = get_args(choices)
    if value not in known:
        *first, last = map(repr, known)
        raise ConfigurationError(f"{name}={value!r} must be {', '.join(first)} or {last}")


def _check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(levels, (list, tuple)) or any(
        type(level) not in (int, float) or not 0 < level < 1 for level in levels
    ):
        raise ConfigurationError(
            f"warn_at={levels!r} must be a list of shares between 0 and 1, such as [0.8, 0.95]"
        )
    return tuple(sorted(levels))
