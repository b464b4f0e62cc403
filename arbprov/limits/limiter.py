"""One decision over all limits of a call: all are charged, or none is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from arbprov.errors import RateLimited
from arbprov.limits.declaration import RateLimit
from arbprov.limits.keys import LimitedCall, compile_key, describe_key
from arbprov.limits.meter import Rule
from arbprov.limits.store import Charge, Headroom, Store

__all__ = ["Decision", "LimitStack", "Limiter"]


@attrs.define(eq=False)
class Decision:
    """Whether a call may run now, and what is left of each of its limits: ``ctx.limits``."""

    headroom: tuple[Headroom, ...] = ()
    _charges: Sequence[Charge] = attrs.field(default=(), repr=False)
    _store: Store | None = attrs.field(default=None, repr=False)
    _refunded: bool = attrs.field(default=False, init=False, repr=False)

    @property
    def wait_time(self) -> float:
        """Seconds until all limits would admit the call; 0 if they did."""
        return max((one.wait_time for one in self.headroom), default=0.0)

    @property
    def allowed(self) -> bool:
        """Whether the call was admitted, and charged."""
        return self.wait_time == 0

    def refund(self) -> None:
        """Take back what the call was charged, since it used nothing after all.

        For a handler that finds its answer without calling the API; a second time changes nothing.
        """
        charged_at = self.headroom[0].charged_at if self.headroom else None
        if self._store is None or charged_at is None or self._refunded:
            return
        self._refunded = True
        self._store.refund(self._charges, charged_at)

    def refusal(self) -> RateLimited:
        """Return the error of a call that was not admitted."""
        longest = max(self.headroom, key=lambda one: one.wait_time)
        error = RateLimited(longest.wait_time, str(longest.limit))
        error.details = {
            "limits": [
                {"limit": str(h.limit), "remaining": h.remaining, "wait_time": h.wait_time}
                for h in self.headroom
            ]
        }
        return error


@attrs.frozen
class _BoundLimit:
    """A limit of one action, with all that can be worked out at start."""

    bucket: str
    limit: Rule
    cost: int
    hash_key: Callable[[LimitedCall], str] = attrs.field(eq=False)

    def charge(self, call: LimitedCall) -> Charge:
        return Charge(self.bucket + self.hash_key(call), self.limit, self.cost)


LimitStack = tuple[_BoundLimit, ...]


class Limiter:
    """Decides over the limits of calls.

    Args:
        store: Keeps what was used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def compile(
        self, declarations: Iterable[RateLimit], *, action: str, blueprint: str | None = None
    ) -> LimitStack:
        """Return all limits of an action, ready to be asked; a bucket is charged but once."""
        owners = {"action": f"action:{action}", "blueprint": f"blueprint:{blueprint}", "app": "app"}
        buckets: dict[str, _BoundLimit] = {}
        for declaration in declarations:
            for limit in declaration.limits:
                bound = _bind(declaration, limit, owners[declaration.scope])
                known = buckets.setdefault(bound.bucket, bound)
                buckets[bound.bucket] = max(known, bound, key=lambda one: one.cost)
        return tuple(buckets.values())

    def acquire(self, stack: LimitStack, call: LimitedCall) -> Decision:
        """Charge a call to all of its limits, or to none.

        Raises:
            InvalidPayloadError: A limit's key is missing in the call.
        """
        charges: Sequence[Charge] = [bound.charge(call) for bound in stack]
        return Decision(tuple(self._store.acquire(charges)), charges, self._store)

    def peek(self, stack: LimitStack, call: LimitedCall) -> Decision:
        """Return what `acquire` would decide, and charge nothing.

        Raises:
            InvalidPayloadError: A limit's key is missing in the call.
        """
        return Decision(tuple(self._store.peek([bound.charge(call) for bound in stack])))


def _bind(declaration: RateLimit, limit: Rule, owner: str) -> _BoundLimit:
    if declaration.name is not None:
        owner = f"name:{declaration.name}"
    key = declaration.key
    bucket = f"{owner}|{limit}|{describe_key(key)}|"
    return _BoundLimit(bucket, limit, declaration.cost, compile_key(key, str(limit)))
