"""What `@app.rate_limit` attaches to a handler."""

from __future__ import annotations

from typing import Literal, get_args

import attrs

from arbprov.errors import ConfigurationError
from arbprov.limits.bucket import TokenBucket
from arbprov.limits.calendar import Calendar
from arbprov.limits.keys import Key, check_key, describe_key
from arbprov.limits.meter import Rule
from arbprov.limits.rate import Limit, parse_limits
from arbprov.limits.spacing import MinDelay
from arbprov.quantities import is_count

__all__ = ["RateLimit", "Scope", "declare"]

Scope = Literal["action", "blueprint", "app"]


@attrs.frozen
class RateLimit:
    """One or several limits that are counted by the same key."""

    limits: tuple[Rule, ...]
    key: Key = None
    name: str | None = None
    scope: Scope = "action"
    cost: int = 1

    def __str__(self) -> str:
        limits = "; ".join(map(str, self.limits))
        return limits if self.key is None else f"{limits} per {describe_key(self.key)}"


def declare(
    limit: str | Rule,
    *,
    key: Key = None,
    name: str | None = None,
    scope: Scope = "action",
    cost: int = 1,
    burst: int | None = None,
) -> RateLimit:
    """Return a checked declaration; see `ProviderApp.rate_limit` for the arguments.

    Raises:
        ConfigurationError: An argument makes no sense, or the limit can never be met.
    """
    limits = _rules(limit)
    if burst is not None:
        limits = tuple(_paced(one, burst) for one in limits)
    if scope not in get_args(Scope):
        raise ConfigurationError(f"scope={scope!r} is none of 'action', 'blueprint' and 'app'")
    check_key(key)
    for one in limits:
        _check_cost(cost, one)
    return RateLimit(limits, key, name, scope, cost)


def _rules(limit: str | Rule) -> tuple[Rule, ...]:
    if isinstance(limit, str):
        return parse_limits(limit)
    if isinstance(limit, (Limit, TokenBucket, MinDelay, Calendar)):
        return (limit,)
    raise ConfigurationError(f'a rate limit is a text like "10/minute", not {limit!r}')


def _paced(limit: Rule, burst: int) -> Limit:
    if not isinstance(limit, Limit):
        raise ConfigurationError(f'burst= is for limits like "10/minute", not for {limit}')
    return attrs.evolve(limit, burst=burst)


def _check_cost(cost: int, limit: Rule) -> None:
    if not is_count(cost):
        raise ConfigurationError(f"cost={cost!r} is not a whole number above 0")
    if cost > limit.capacity:
        raise ConfigurationError(
            f"a cost of {cost} can never be met by {limit}; lower the cost or raise the limit"
        )
