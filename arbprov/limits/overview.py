"""What a provider's limits have decided, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from arbprov.limits.charging import look
from arbprov.limits.decision import Headroom, headroom_of
from arbprov.limits.keys import describe_key
from arbprov.limits.limiter import Limiter
from arbprov.limits.monitor import wait_of
from arbprov.limits.stack import ActionLimits, CompiledLimit, FixedLimit, MonitorLimit
from arbprov.limits.stats import LimitCounts

__all__ = ["LimitState", "LimitsOverview"]


@attrs.frozen
class LimitState:
    """One limit of an action.

    Args:
        limit: The limit, as in ``"5/second"``.
        scope: Whose it is: ``"app"``, ``"action:NAME"``, ``"blueprint:NAME"`` or ``"name:NAME"``.
        key: What it is counted by; empty if all calls share it.
        shadow: Whether it only counts.
        headroom: What is left of it; None if that needs a key, or a call.
    """

    limit: str
    scope: str
    key: str
    shadow: bool
    headroom: Headroom | None


class LimitsOverview:
    """The limits of an app as they are now: `ProviderApp.limits`, `TestClient.limits`.

    Args:
        limiter: Decides over them.
        stacks: The limits of each action.
    """

    def __init__(self, limiter: Limiter, stacks: Mapping[str, ActionLimits]) -> None:
        self._limiter = limiter
        self._stacks = stacks

    def headroom(self, action: str, key: Any = None) -> list[Headroom]:
        """Return what is left of each limit of an action, and take nothing.

        A limit that is a function of the call is left out: there is no call.

        Args:
            action: The action's name.
            key: The value of the key: of ``"account.id"`` an id, of a tuple of paths a tuple; or
                a dict of values by path, where limits have several keys.

        Raises:
            LookupError: There is no such action.
            ValueError: A limit is counted by a key that was not given.
        """
        found = []
        for bound in self._bounds(action):
            if not isinstance(bound, (FixedLimit, MonitorLimit)):
                continue
            value = _value(bound, key)
            if value is None and bound.terms.key is not None:
                raise ValueError(
                    f"{bound.limit} is counted by {describe_key(bound.terms.key)}; "
                    f"say whose headroom it is, with key="
                )
            found.append(_left_of(bound, value))
        return found

    def states(self, action: str, keys: Mapping[str, Any]) -> Iterator[LimitState]:
        """Yield each limit of an action, with its headroom as far as that can be known.

        Args:
            action: The action's name.
            keys: Values of keys, by path.

        Raises:
            LookupError: There is no such action.
        """
        for bound in self._bounds(action):
            terms, value = bound.terms, _value(bound, keys)
            unknown = value is None and terms.key is not None
            readable = isinstance(bound, (FixedLimit, MonitorLimit)) and not unknown
            yield LimitState(
                bound.limit,
                bound.owner,
                "" if terms.key is None else describe_key(terms.key),
                terms.shadow,
                _left_of(bound, value) if readable else None,
            )

    def counts(self) -> list[LimitCounts]:
        """Return what each limit has allowed and denied since the start."""
        return self._limiter.counts()

    def _bounds(self, action: str) -> tuple[CompiledLimit, ...]:
        if action not in self._stacks:
            raise LookupError(f"there is no action {action!r}; there is {', '.join(self._stacks)}")
        return self._stacks[action].bounds


def _left_of(bound: CompiledLimit, value: Any) -> Headroom:
    if isinstance(bound, MonitorLimit):
        return Headroom(bound.limit, None, wait_of(bound.monitor))
    assert isinstance(bound, FixedLimit)
    charges = bound.charges_of(bound.key.hash_of(value))
    look(charges)
    return next(headroom_of(charges))


def _value(bound: CompiledLimit, key: Any) -> Any:
    """Return the value of a limit's key, or None if it was not given."""
    written = bound.terms.key
    if not isinstance(key, Mapping):
        return key
    if not isinstance(written, tuple):
        return key.get(describe_key(written))
    return tuple(key[path] for path in written) if key.keys() >= {*written} else None
