"""The decision over a call, and `ctx.limits`: the handler's view of it."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import attrs

from arbprov._utils import SOON, read_number, read_seconds
from arbprov.errors import RateLimited
from arbprov.limits.headers import (
    ApiAnswer,
    ApiResponse,
    HeaderNames,
    check_header_names,
    read_response,
)
from arbprov.limits.stores.base import BucketKey, Charge, Receipt

if TYPE_CHECKING:
    from arbprov.limits.compile import CompiledLimit

__all__ = [
    "CallLimits",
    "Decision",
    "Headroom",
    "apply_answer",
    "check_name",
    "check_report",
    "first_charges",
    "headroom_of",
    "read_checked",
    "report_usage",
    "start_cooldown",
]

# Seconds of the cooldown after a refusal of the API that says nothing about its length, at most.
_DEFAULT_COOLDOWN = 60.0
# Seconds. A pause that is shorter than the rounding of a clock would never end.
_MIN_PAUSE = 0.001


@attrs.frozen
class Headroom:
    """How much of a limit is left.

    Args:
        limit: The limit, as in ``"5/second"``.
        remaining: Units left; None for a monitor, since it counts for itself.
        wait_time: Seconds until the call fits; 0 if it does now.
    """

    limit: str
    remaining: int | None
    wait_time: float


class CallLimits(Protocol):
    """The limits of a running call: `TaskContext.limits`.

    >>> from arbprov import ProviderApp, TaskContext
    >>> app = ProviderApp("shop")
    >>> @app.action
    ... @app.rate_limit("100/hour")
    ... def search(ctx: TaskContext, text: str) -> dict:
    ...     return {"left": ctx.limits.headroom[0].remaining}
    >>> app.test_client().call("search", {"text": "tea"}).data
    {'left': 99}
    """

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """How much of each limit is left after this call, the app's and the blueprint's too."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The names that `report` takes: each limit's `name`, and its text.

        No API can correct a `Concurrency`, so it has no name here.
        """
        ...

    @property
    def allowed(self) -> bool:
        """Whether the limits admitted the call; only a hook sees a call that they refused."""
        ...

    @property
    def wait_time(self) -> float:
        """Seconds until all limits would admit the call; 0 if they did."""
        ...

    def refund(self) -> None:
        """Take back the call's charges, because the handler did not call the API after all.

        A second call changes nothing. A `RateLimitMonitor` counts for itself, and is not asked to
        take anything back. The place of a `Concurrency` limit is kept until the handler has ended.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app, cache = ProviderApp("shop"), {"tea": 3.5}
        >>> @app.action
        ... @app.rate_limit("100/hour")
        ... def price(ctx: TaskContext, article: str) -> dict:
        ...     if article in cache:
        ...         ctx.limits.refund()
        ...     return {"price": cache.get(article)}
        >>> client = app.test_client()
        >>> client.call("price", {"article": "tea"}).data, client.limits.headroom("price")
        ({'price': 3.5}, [Headroom(limit='100/hour', remaining=100, wait_time=0.0)])
        """
        ...

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Correct a limit's count by the API's own: at least the share `used` is gone.

        Args:
            name: The limit's `name`, or its text, as in ``"1000/hour"``.
            used: The share of the limit that is used, from 0 to 1; a header's text is fine.
            reset_in: Seconds until it is free again, as for `RateLimited`. A rolling window forgets
                a report after its own period at the latest; token buckets and calendar quotas
                refill at their own pace and ignore it. For a longer ban, raise `RateLimited`.

        Raises:
            ValueError: The call has no limit of that name, `used` is negative or not a number, or
                `reset_in` is not a number of seconds.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("1000/hour", name="vendor")
        ... def order(ctx: TaskContext) -> None:
        ...     usage = {"percent": 93, "reset": 1800}  # from the API's response headers
        ...     ctx.limits.report("vendor", used=usage["percent"] / 100, reset_in=usage["reset"])
        >>> client = app.test_client()
        >>> client.call("order").data, client.limits.headroom("order")[0].remaining
        ({}, 70)
        """
        ...

    def acquire(self, name: str, *, cost: int | None = None, max_wait: float | None = None) -> None:
        """Charge a manual limit, in a plain handler, before a call of an API.

        If it is used up, the handler waits for its turn, first come, first served. All manual
        limits of the name are charged, or none.

        Args:
            name: The limit's `name`.
            cost: Units to charge; by default, the `cost` of the declaration.
            max_wait: Seconds to wait at most; by default, the `max_wait` of the declaration. No
                wait is longer than the rest of the handler's time.

        Raises:
            RateLimited: The limit does not admit the call in that time. A handler that lets it
                through ends with status ``limit``.
            RuntimeError: An event loop runs here, and would be blocked; or the task has ended.
            ValueError: The action has no manual limit of that name, or a number is not valid.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("100/minute", name="vendor", manual=True)
        ... def orders(ctx: TaskContext, pages: int) -> dict:
        ...     for page in range(pages):
        ...         ctx.limits.acquire("vendor", max_wait=5)  # and then get the page
        ...     return {"pages": pages}
        >>> client = app.test_client()
        >>> client.call("orders", {"pages": 30}).data
        {'pages': 30}
        >>> client.limits.headroom("orders")[0].remaining
        70
        """
        ...

    async def aacquire(
        self, name: str, *, cost: int | None = None, max_wait: float | None = None
    ) -> None:
        """Do as `acquire` does, in an ``async`` handler.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action(timeout=60)
        ... @app.rate_limit("1/second", name="vendor", manual=True, max_wait=10)
        ... async def orders(ctx: TaskContext, pages: int) -> dict:
        ...     for page in range(pages):
        ...         await ctx.limits.aacquire("vendor")
        ...     return {"time": ctx.now.second}
        >>> app.test_client().call("orders", {"pages": 5}).data
        {'time': 4}
        """
        ...

    def observe(
        self, response: ApiResponse, *, limit: str, headers: HeaderNames | None = None
    ) -> None:
        """Tell a limit what the API says about its quota: by its status and its headers.

        A 429 starts a cooldown of the limit, and so does a 403 or 503 with a Retry-After, and a 403
        with nothing left. Any other response raises the limit's count to the share that the API
        has counted. Its call, if it was charged by `acquire`, counts from now on: the API may have
        counted it as late as that. A limit that is less than half or more than twice as large as
        the API's quota admits what the API has left.

        Args:
            response: What an HTTP library returned: httpx, httpx2, requests, aiohttp, urllib3, or
                anything with a `status_code` or a `status`, and `headers`.
            limit: The limit's `name` or its text, manual or not. In a ``RateLimit`` header with
                several policies, the policy of that name counts, or else the most used policy.
            headers: The names of the API's own headers, by what they say: ``limit``, ``remaining``,
                ``used`` (a number, or as in ``32/40``), ``reset`` and ``retry_after`` (seconds, a
                duration such as ``6m0s``, a date, or seconds or milliseconds since 1970).

        Raises:
            RateLimited: The API has throttled the call. A handler that lets it through ends with
                status ``limit``.
            TypeError: `response` is not a response.
            ValueError: The action has no limit of that name, or a key of `headers` is unknown.

        >>> import types
        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("100/minute", name="vendor")
        ... def order(ctx: TaskContext) -> None:
        ...     response = types.SimpleNamespace(status_code=429, headers={"Retry-After": "30"})
        ...     ctx.limits.observe(response, limit="vendor")
        >>> client = app.test_client()
        >>> [client.call("order").wait_time for _ in range(2)]
        [30.0, 30.0]
        """
        ...


@attrs.define(eq=False)
class Decision:
    """Whether the limits admit a call, and its charges; its handler sees `CallLimits`.

    Args:
        charges: The charges of the call, with the answers of stores and monitors.
        receipts: The receipts of the stores; none if the call was refused.
        held: The receipts of the units that the call holds until it has ended; see `hold`.
        max_wait: Seconds that the call may wait, instead of what its limits say.
    """

    charges: Sequence[Charge] = ()
    receipts: Sequence[Receipt] = ()
    max_wait: float | None = None
    held: Sequence[Receipt] = ()
    # Whether this call has started or ended a cooldown.
    _has_settled: bool = attrs.field(default=False, init=False)

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """How much of each limit is left after this call; see `CallLimits.headroom`."""
        return tuple(headroom_of(self.charges))

    @property
    def names(self) -> list[str]:
        """The names that `report` takes; see `CallLimits.names`."""
        return [
            name
            for charge in self.charges
            if charge.group and not charge.algorithm.holds
            for name in charge.limit.names
        ]

    @property
    def wait_time(self) -> float:
        """Seconds until all limits would admit the call; 0 if they did."""
        return max((charge.wait_time for charge in self.charges if not charge.shadow), default=0.0)

    @property
    def allowed(self) -> bool:
        """Whether the call was admitted and charged."""
        # Lists, here and below: generators take twice as long, and each call asks.
        return not [charge for charge in self.charges if charge.refused]

    @property
    def awaits_calls(self) -> bool:
        """Whether the call is refused, and may fit as soon as calls in flight have ended."""
        return any(charge.refused and charge.awaits_calls for charge in self.charges)

    @property
    def refusing_limits(self) -> list[CompiledLimit]:
        """The limits that refuse the call."""
        return [charge.limit for charge in self.charges if charge.refused]

    @property
    def is_probing(self) -> bool:
        """Whether the call is the probe of a cooldown, so that other calls wait for its end."""
        receipts = [*self.receipts, *self.held] if self.held else self.receipts
        return bool([receipt for receipt in receipts if receipt.probing])

    @property
    def held_charges(self) -> list[Charge]:
        """The charges of the units that the call holds."""
        return [charge for receipt in self.held for charge in receipt.charges]

    def hold(self) -> Decision:
        """Set the units apart that the call holds until it has ended; return the decision."""
        counted, held = [], []
        for receipt in self.receipts:
            holds = [charge.algorithm.holds for charge in receipt.charges]
            if all(holds):
                held.append(receipt)
            elif any(holds):
                held.append(receipt.part(held=True))
                counted.append(receipt.part(held=False))
            else:
                counted.append(receipt)
        self.receipts, self.held = counted, held
        self._count_held(held, 1)
        return self

    def refund(self) -> None:
        """Take back the call's charges, but no units that it holds; see `CallLimits.refund`."""
        receipts, self.receipts = self.receipts, ()
        for receipt in receipts:
            receipt.refund()
        for receipt in self.held:
            if receipt.probing:
                # The call is the probe no longer, and its end says nothing about the API.
                receipt.probing = False
                receipt.store.pass_probe(receipt.charges)

    def undo(self) -> None:
        """Take back all, because the call has not begun."""
        self.refund()
        self.release()

    def release(self) -> None:
        """Give back the units that the call has held, because it has ended."""
        held, self.held = self.held, ()
        self._count_held(held, -1)
        for receipt in held:
            receipt.store.refund(receipt)

    @staticmethod
    def _count_held(receipts: Iterable[Receipt], sign: int) -> None:
        for receipt in receipts:
            for charge in receipt.charges:
                charge.limit.counters.count_held(sign * charge.cost)

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Correct a limit's count by the API's own; see `CallLimits.report`."""
        report_usage(self.charges, name, *check_report(self.names, name, used, reset_in))

    def acquire(self, name: str, *, cost: int | None = None, max_wait: float | None = None) -> None:
        """Refuse: the action has no manual limits; see `CallLimits.acquire`."""
        check_name((), name, "manual limit")

    async def aacquire(
        self, name: str, *, cost: int | None = None, max_wait: float | None = None
    ) -> None:
        """Refuse: the action has no manual limits; see `CallLimits.aacquire`."""
        check_name((), name, "manual limit")

    def observe(
        self, response: ApiResponse, *, limit: str, headers: HeaderNames | None = None
    ) -> None:
        """Tell a limit what the API says about its quota; see `CallLimits.observe`."""
        check_name(self.names, limit)
        now = self.charges[0].limit.clock.now()
        self.apply(limit, read_checked(response, limit, headers, now))

    def apply(self, name: str, answer: ApiAnswer) -> None:
        """Apply what an API says to the limits of a name; see `apply_answer`."""
        apply_answer(self.charges, name, answer, lambda change: change())

    def refusal(self, now: dt.datetime) -> RateLimited:
        """Return the error of a call that was refused.

        Args:
            now: The wall clock's time, to say when a cooldown ends.
        """
        refused = [charge for charge in self.charges if charge.refused]
        longest = max(refused, key=lambda charge: charge.wait_time)
        seconds = longest.wait_time
        if longest.awaits_probe:
            # The probe may end at any time: its timeout is only the latest.
            seconds = min(seconds, SOON)
        error = RateLimited(seconds, longest.limit.text)
        error.starts_cooldown = False
        for charge in refused:
            if charge.in_cooldown:
                charge.remaining = 0  # the API admits nothing, whatever was counted
        limits = headroom_of(charge for charge in self.charges if not charge.shadow)
        error.details = {"limits": [attrs.asdict(headroom) for headroom in limits]}
        if longest.in_cooldown:
            until = (now + dt.timedelta(seconds=seconds)).isoformat(timespec="seconds")
            action = longest.cooldown_action
            error.details["cooldown"] = {"action": action or None, "until": until}
            throttled = f"throttled the action {action!r}" if action else "throttled a call"
            error.reason = f"The API has {throttled}: no calls of this limit until {until}"
        return error

    def may_wait(self, waited: float) -> bool:
        """Tell whether the ``max_wait`` of each limit that refuses the call allows the wait.

        Args:
            waited: Seconds that the call has waited already.
        """
        for charge in self.charges:
            if charge.refused:
                max_wait = self._max_wait_of(charge)
                if charge.awaits_calls:
                    # They may end at any time.
                    is_too_long = waited >= max_wait
                else:
                    is_too_long = waited + charge.wait_time > max_wait
                if is_too_long:
                    return False
        return True

    def pause(self, waited: float) -> float:
        """Return the seconds until it is worth to ask again, if the call may wait.

        Args:
            waited: Seconds that the call has waited already.
        """
        if not self.awaits_calls:
            return self.wait_time
        return min(self.wait_time, max(self.longest_wait - waited, _MIN_PAUSE))

    @property
    def longest_wait(self) -> float:
        """Seconds that a refused call may wait for all of its limits."""
        return min(self._max_wait_of(charge) for charge in self.charges if charge.refused)

    @property
    def waiting_costs(self) -> dict[BucketKey, int]:
        """The units that a call takes from the buckets that it may wait for."""
        return {
            charge.bucket: charge.cost
            for charge in self.charges
            if charge.group and self._max_wait_of(charge)
        }

    def _max_wait_of(self, charge: Charge) -> float:
        declared: float = charge.limit.declaration.max_wait
        return declared if self.max_wait is None else self.max_wait

    def start_cooldown(
        self,
        retry_after: float,
        name: str | None,
        probe_timeout: float,
        action: str = "",
        manual: Sequence[Charge] = (),
    ) -> None:
        """Refuse all calls of this call's key for `retry_after` seconds, as the API asked.

        Args:
            retry_after: Seconds.
            name: The limit that the API meant. If it is None, or not a limit of the call: all
                limits with a key; if there are none, the limits that only this action has.
            probe_timeout: The most seconds that other calls then wait for the probe.
            action: The action of the call, for the refusals.
            manual: Charges of the limits that the call's handler acquires.
        """
        self._has_settled = True
        start_cooldown([*self.charges, *manual], retry_after, name, probe_timeout, action)

    def end_cooldown(self) -> None:
        """Admit other calls again if this was a probe and has ended well."""
        if self._has_settled:
            return
        self._has_settled = True
        for receipt in (*self.receipts, *self.held):
            if receipt.probing:
                receipt.store.end_cooldown(receipt.charges)


def start_cooldown(
    charges: Iterable[Charge],
    retry_after: float,
    name: str | None,
    probe_timeout: float,
    action: str,
) -> None:
    """Start the cooldowns of a call; see `Decision.start_cooldown`.

    Args:
        charges: Charges of all limits of the call.
        retry_after: Seconds.
        name: The limit that the API meant, if it is known.
        probe_timeout: The most seconds that other calls then wait for the probe.
        action: The action of the call, for the refusals.
    """
    counted = [charge for charge in charges if charge.group]
    named = [one for one in counted if name is not None and name in one.limit.names]
    keyed = [charge for charge in counted if charge.key]
    own = [charge for charge in counted if charge.limit.is_own]
    for charge in named or keyed or own or counted:
        charge.cooldown_action = action
        charge.limit.store.start_cooldown([charge], retry_after, probe_timeout)


def report_usage(charges: Iterable[Charge], name: str, used: float, reset_in: float) -> None:
    """Raise the counts of the limits of a name.

    Args:
        charges: Charges of all limits of the call.
        name: The limits' name or text.
        used: The share that is used.
        reset_in: Seconds until it is free again.
    """
    for charge in first_charges(charges):
        if charge.group and name in charge.limit.names and not charge.algorithm.holds:
            units = _units(used, charge.algorithm.capacity)
            charge.limit.store.report(charge, units, reset_in)


def read_checked(
    response: ApiResponse, limit: str, headers: HeaderNames | None, now: dt.datetime
) -> ApiAnswer:
    """Return what a response says, after a check of the arguments of `CallLimits.observe`.

    Raises:
        TypeError: `response` is not a response.
        ValueError: A key of `headers` is unknown.
    """
    check_header_names(headers)
    return read_response(response, now.timestamp(), headers, limit)


def apply_answer(
    charges: Iterable[Charge],
    name: str,
    answer: ApiAnswer,
    tell: Callable[[Callable[[], object]], object],
) -> None:
    """Start a cooldown if an API has throttled a call, or else raise the count to the API's.

    Args:
        charges: Charges of all limits of the call.
        name: The limits' name or text.
        answer: What the API says.
        tell: Calls a function that changes the limits, now or soon.

    Raises:
        RateLimited: The API has throttled the call.
    """
    named = [charge for charge in charges if charge.group and name in charge.limit.names]
    if answer.is_throttled:
        seconds = answer.retry_after
        if seconds is None:
            longest = max(charge.algorithm.ttl for charge in first_charges(named))
            seconds = min(longest, _DEFAULT_COOLDOWN)
        limit = named[0].limit
        probe = limit.probe_timeout
        tell(lambda: start_cooldown(named, seconds, name, probe, limit.action))
        error = RateLimited(seconds, name)
        error.starts_cooldown = False
        raise error
    if answer.remaining is not None:
        remaining = answer.remaining
        for charge in first_charges(named):
            if charge.algorithm.holds:
                continue  # an API's quota says nothing about the calls in flight here
            tell(functools.partial(_report_remaining, charge, remaining, answer))


def _report_remaining(charge: Charge, remaining: float, answer: ApiAnswer) -> None:
    """Raise a limit's count, so that it admits no more than the API does.

    A limit that is about as large as the API's quota is its image: the share counts. Any other
    limit, such as a pace of 5 per second below a daily quota, admits what is left.
    """
    capacity, used = charge.algorithm.capacity, answer.used
    is_image = answer.limit and 0.5 <= capacity / answer.limit <= 2
    units = _units(used, capacity) if used and is_image else capacity - int(remaining)
    if units > 0:
        reset_in = charge.algorithm.ttl if answer.reset_in is None else answer.reset_in
        charge.limit.store.report(charge, units, reset_in)


def check_name(names: Sequence[str], name: str, kind: str = "limit") -> None:
    """Refuse the name of a limit that a call does not have.

    Args:
        names: The names that it has.
        name: The name.
        kind: The limit in words.

    Raises:
        ValueError: The call has no limit of that name.
    """
    if name not in names:
        known = ", ".join(map(repr, dict.fromkeys(names)))
        raise ValueError(f"this call has no {kind} {name!r}; it has {known or 'none'}")


def check_report(
    names: Sequence[str], name: str, used: float | str, reset_in: float | str
) -> tuple[float, float]:
    """Return the share and the seconds of a report as numbers; see `CallLimits.report`.

    Raises:
        ValueError: The call has no limit of that name, or a number is not valid.
    """
    share = math.inf if used == math.inf else read_number(used)
    if share is None or share < 0:
        raise ValueError(f"used={used!r} is not a share, such as 0.93")
    seconds = read_seconds(reset_in)
    if seconds is None:
        raise ValueError(f"reset_in={reset_in!r} is not a number of seconds")
    check_name(names, name)
    return share, seconds


def headroom_of(charges: Iterable[Charge]) -> Iterator[Headroom]:
    """Yield the headroom of each limit; the least, if it counts by several algorithms."""
    for limit, group in groupby(charges, key=lambda charge: charge.limit):
        own = list(group)
        remaining = max(0, min(charge.remaining for charge in own))
        wait = max(charge.wait_time for charge in own)
        yield Headroom(limit.text, None if limit.monitor else remaining, wait)


def first_charges(charges: Iterable[Charge]) -> list[Charge]:
    """Return the first charge of each limit: its algorithm counts the quota, not the pace."""
    firsts: list[Charge] = []
    for charge in charges:
        if not firsts or firsts[-1].limit is not charge.limit:
            firsts.append(charge)
    return firsts


def _units(used: float, capacity: int) -> int:
    # Despite floats, 0.93 of 100 is 93. 0.931 of it is 94: too low a count may mean a ban.
    exact = min(used, 1.0) * capacity
    return round(exact) if abs(exact - round(exact)) < 1e-6 else int(exact) + 1
