"""What a provider's limits have decided, and what is left of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arbprov.limits.charging import look
from arbprov.limits.decision import Headroom, headroom_of
from arbprov.limits.keys import describe_key
from arbprov.limits.limiter import Limiter
from arbprov.limits.monitor import wait_of
from arbprov.limits.observing import LimitCounts
from arbprov.limits.stack import BoundLimit, FixedLimit, LimitStack, MonitorLimit

__all__ = ["LimitsOverview"]


class LimitsOverview:
    """The limits of an app as they are now: `ProviderApp.limits`, `TestClient.limits`.

    Args:
        limiter: Decides over them.
        stacks: The limits of each action.
    """

    def __init__(self, limiter: Limiter, stacks: Mapping[str, LimitStack]) -> None:
        self._limiter = limiter
        self._stacks = stacks

    def headroom(self, action: str, key: Any = None) -> list[Headroom]:
        """Return what is left of each limit of an action, and take nothing.

        A limit that is a function of the call is left out: there is no call.

        Args:
            action: The action's name.
            key: The value of the key: of ``"account.id"`` an id, of a tuple of paths a tuple; a
                dict by path, where limits have several keys.

        Raises:
            LookupError: There is no such action.
            ValueError: A limit is counted by a key that was not given.
        """
        if action not in self._stacks:
            raise LookupError(f"there is no action {action!r}; there is {', '.join(self._stacks)}")
        found: list[Headroom] = []
        for bound in self._stacks[action].bounds:
            found += _left_of(bound, key)
        return found

    def counts(self) -> list[LimitCounts]:
        """Return what each limit has allowed and denied since the start."""
        return self._limiter.counts()


def _left_of(bound: BoundLimit, key: Any) -> list[Headroom]:
    if isinstance(bound, MonitorLimit):
        return [Headroom(bound.limit, None, wait_of(bound.monitor))]
    if not isinstance(bound, FixedLimit):
        return []
    charges = bound.charges_of(bound.key.hash_of(_value(bound, key)))
    look(charges)
    return list(headroom_of(charges))


def _value(bound: BoundLimit, key: Any) -> Any:
    written = bound.terms.key
    value = key.get(describe_key(written)) if isinstance(key, Mapping) else key
    if written is not None and value is None:
        raise ValueError(
            f"{bound.limit} is counted by {describe_key(written)}; "
            f"say whose headroom it is, with key="
        )
    return value
