"""What `@app.rate_limit` attaches to a handler."""

from __future__ import annotations

from typing import Literal, get_args

import attrs

from arbprov.errors import ConfigurationError
from arbprov.limits.keys import Key, check_key, describe_key
from arbprov.limits.rate import Limit, parse_limits
from arbprov.quantities import is_count

__all__ = ["RateLimit", "Scope", "declare"]

Scope = Literal["action", "blueprint", "app"]


@attrs.frozen
class RateLimit:
    """One or several limits that are counted by the same key."""

    limits: tuple[Limit, ...]
    key: Key = None
    name: str | None = None
    scope: Scope = "action"
    cost: int = 1

    def __str__(self) -> str:
        limits = "; ".join(map(str, self.limits))
        return limits if self.key is None else f"{limits} per {describe_key(self.key)}"


def declare(
    limit: str | Limit,
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
    if not isinstance(limit, (str, Limit)):
        raise ConfigurationError(f'a rate limit is a text like "10/minute", not {limit!r}')
    limits = parse_limits(limit) if isinstance(limit, str) else (limit,)
    if burst is not None:
        limits = tuple(attrs.evolve(one, burst=burst) for one in limits)
    if scope not in get_args(Scope):
        raise ConfigurationError(f"scope={scope!r} is none of 'action', 'blueprint' and 'app'")
    check_key(key)
    for one in limits:
        _check_cost(cost, one)
    return RateLimit(limits, key, name, scope, cost)


def _check_cost(cost: int, limit: Limit) -> None:
    if not is_count(cost):
        raise ConfigurationError(f"cost={cost!r} is not a whole number above 0")
    most = limit.amount if limit.burst is None else limit.burst
    if cost > most:
        raise ConfigurationError(
            f"a cost of {cost} can never be met by {limit}; lower the cost or raise the limit"
        )
