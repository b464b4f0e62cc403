"""The manual limits of a running call: `ctx.limits` of an action that has some. Pure."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol

import attrs

from arbprov._utils import is_positive_integer
from arbprov.context import TaskContext
from arbprov.limits.compile import ActionLimits, peek_charges
from arbprov.limits.decision import (
    CallLimits,
    Decision,
    Headroom,
    apply_answer,
    check_name,
    check_report,
    headroom_of,
    read_checked,
    report_usage,
)
from arbprov.limits.headers import ApiAnswer, ApiResponse, HeaderNames
from arbprov.limits.keys import LimitedCall
from arbprov.limits.limiter import Limiter
from arbprov.limits.stores.base import BucketKey, Charge, Receipt
from arbprov.task import Task

__all__ = ["Acquirer", "Acquisition", "ManualLimits", "RunningCall", "current_limits"]

# Calls of an API, without a response so far, that are remembered for each task.
_MAX_UNANSWERED = 256

# The limits of the call that runs here, if its action has manual limits.
current_limits: ContextVar[CallLimits | None] = ContextVar("arbprov_limits", default=None)


class RunningCall(Protocol):
    """The part of a call that its manual limits read."""

    @property
    def task(self) -> Task:
        """Its task."""
        ...

    @property
    def ctx(self) -> TaskContext:
        """Its context."""
        ...

    @property
    def decision(self) -> Decision:
        """The last answer of the limits that admitted it."""
        ...

    @property
    def seen_by_limits(self) -> LimitedCall:
        """What keys, costs and limits read of it."""
        ...


@attrs.frozen
class Acquisition:
    """A handler's question to the limits of a name: may it call the API now?

    Args:
        limiter: Decides.
        limits: The limits of the name.
        call: The handler's call.
        cost: Units to charge; None for what the declarations say.
        max_wait: Seconds to wait at most.
        account: The account of the handler's task.
    """

    limiter: Limiter
    limits: ActionLimits
    call: LimitedCall
    cost: int | None
    max_wait: float
    account: bytes = attrs.field(default=b"", repr=False)

    def charges(self) -> list[Charge]:
        """Return new charges of all limits.

        Raises:
            InvalidPayloadError: The key of a limit is missing in the call.
            ValueError: The cost is above what a limit ever admits at once.
        """
        charges = self.limits.charges(self.call)
        for charge in charges:
            charge.cost = charge.cost if self.cost is None else self.cost
            if charge.cost > charge.algorithm.capacity:
                raise ValueError(
                    f"a cost of {charge.cost} can never be met by {charge.limit.text}; lower the "
                    f"cost or raise the limit"
                )
        return charges

    def charge(self) -> Decision:
        """Make all charges, or none."""
        decision = self.limiter.acquire_charges(self.limits, self.charges(), self.max_wait)
        if self.limiter.recent is not None:
            self.limiter.recent.note(decision.charges, self.account)
        return decision

    def peek(self, demand_ahead: Mapping[BucketKey, int]) -> Decision:
        """Return what `charge` would, after the calls that wait before this one."""
        charges = self.charges()
        peek_charges(charges, demand_ahead)
        return Decision(charges, max_wait=self.max_wait)


class Acquirer(Protocol):
    """Asks the limits on behalf of a running handler, and waits for them where that can be done."""

    def acquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        """Return the first and the last decision; blocks in between.

        Raises:
            RuntimeError: An event loop runs here, and would be blocked.
        """
        ...

    async def aacquire(self, acquisition: Acquisition) -> tuple[Decision, Decision]:
        """Return the first and the last decision."""
        ...

    def tell(self, limits: ActionLimits, change: Callable[[], object]) -> None:
        """Call a function that changes limits, now or, if it would block an event loop, soon."""
        ...


@attrs.define(eq=False)
class ManualLimits:
    """`CallLimits` of a call whose action has manual limits.

    Args:
        limiter: Decides.
        limits: All limits of the action.
        call: The call; None after its end.
        acquirer: Waits for the limits.
    """

    _limiter: Limiter
    _limits: ActionLimits
    _call: RunningCall | None
    _acquirer: Acquirer
    # The last decision over each name.
    _decisions: dict[str, Decision] = attrs.field(factory=dict, init=False)
    # The receipts of acquisitions before calls of the API whose responses are not observed yet.
    _unanswered: dict[int, Sequence[Receipt]] = attrs.field(factory=dict, init=False)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    # The probes whose end other calls wait for.
    _probes: list[Receipt] = attrs.field(factory=list, init=False)

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """How much is left: after this call, and after the last `acquire` of each manual limit."""
        acquired = [charge for one in self._decisions.values() for charge in one.charges]
        return (*self._running.decision.headroom, *headroom_of(acquired))

    @property
    def names(self) -> list[str]:
        """The names that `report` and `observe` take; see `CallLimits.names`."""
        manual = [name for limits in self._limits.manual.values() for name in _names(limits)]
        return [*self._running.decision.names, *manual]

    @property
    def allowed(self) -> bool:
        """Whether the limits admitted the call; see `CallLimits.allowed`."""
        return self._running.decision.allowed

    @property
    def wait_time(self) -> float:
        """Seconds until the limits would admit the call; see `CallLimits.wait_time`."""
        return self._running.decision.wait_time

    @property
    def is_probing(self) -> bool:
        """Whether other calls wait for the end of this call."""
        return bool(self._probes)

    def refund(self) -> None:
        """Take back the charges that admitted the call; what was acquired stays charged."""
        self._tell(self._running.decision.refund)

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Correct a limit's count by the API's own; see `CallLimits.report`."""
        share, seconds = check_report(self.names, name, used, reset_in)
        charges = [*self._running.decision.charges, *self.charges(self._running)]
        self._tell(functools.partial(report_usage, charges, name, share, seconds))

    def acquire(self, name: str, *, cost: int | None = None, max_wait: float | None = None) -> None:
        """Charge a manual limit in a plain handler; see `CallLimits.acquire`."""
        acquisition = self._acquisition(name, cost, max_wait)
        self._note(name, *self._acquirer.acquire(acquisition))

    async def aacquire(
        self, name: str, *, cost: int | None = None, max_wait: float | None = None
    ) -> None:
        """Charge a manual limit in an ``async`` handler; see `CallLimits.aacquire`."""
        acquisition = self._acquisition(name, cost, max_wait)
        self._note(name, *await self._acquirer.aacquire(acquisition))

    def observe(
        self, response: ApiResponse, *, limit: str, headers: HeaderNames | None = None
    ) -> None:
        """Tell a limit what the API says about its quota; see `CallLimits.observe`."""
        check_name(self.names, limit)
        self.apply(limit, read_checked(response, limit, headers, self._running.ctx.now))

    def apply(self, name: str, answer: ApiAnswer) -> None:
        """Apply what an API says to the limits of a name; see `apply_answer`."""
        self._limits.observed.add(name)
        self._move_to_now(name)
        probes = self._take_probes(name)
        charges = [*self._running.decision.charges, *self.charges(self._running)]
        apply_answer(charges, name, answer, self._tell)
        if probes:
            self._tell(functools.partial(_end_cooldowns, probes))

    def charges(self, call: RunningCall) -> list[Charge]:
        """Return a charge of each manual limit, whether it was acquired or not.

        A limit that the call can't be charged to, such as one whose key is missing, has none.
        """
        charges: list[Charge] = []
        for limits in self._limits.manual.values():
            # `acquire` says what is wrong. Also SystemExit of an author's function: here, it would
            # end the worker.
            with contextlib.suppress(BaseException):
                charges += limits.charges(call.seen_by_limits)
        return charges

    def end_cooldown(self) -> None:
        """Admit other calls again, after the end of a call that was a probe."""
        probes, self._probes = self._probes, []
        _end_cooldowns(probes)

    def close(self) -> None:
        """End the use of the limits, with the end of the call."""
        self._call = None

    @property
    def _running(self) -> RunningCall:
        if self._call is None:
            raise RuntimeError("the task has ended, and with it the use of its limits")
        return self._call

    def _tell(self, change: Callable[[], object]) -> None:
        self._acquirer.tell(self._limits, change)

    def _acquisition(self, name: str, cost: int | None, max_wait: float | None) -> Acquisition:
        running = self._running
        check_name(list(self._limits.manual), name, "manual limit")
        if cost is not None and not is_positive_integer(cost):
            raise ValueError(f"cost={cost!r} is not a whole number above 0")
        if max_wait is not None and not (
            type(max_wait) in (int, float) and 0 <= max_wait < float("inf")
        ):
            raise ValueError(f"max_wait={max_wait!r} is not a number of seconds, 0 or above")
        limits = self._limits.manual[name]
        if self._probes and self._limits.observed.isdisjoint(_names(limits)):
            # No response is observed, but the handler goes on: the API has taken its last call.
            self._tell(functools.partial(_end_cooldowns, self._take_probes(name)))
        if max_wait is None:
            max_wait = min(limit.declaration.max_wait for limit in limits.limits)
        wait = min(max_wait, running.ctx.remaining)
        account = running.task.account
        return Acquisition(self._limiter, limits, running.seen_by_limits, cost, wait, account)

    def _move_to_now(self, name: str) -> None:
        """Count the oldest call of a limit without a response as of now.

        The API may have counted the call as late as that.
        """
        for number, receipts in list(self._unanswered.items()):
            is_named = any(name in _names_of(receipt.charges) for receipt in receipts)
            # Another thread of the handler may have taken it.
            if is_named and self._unanswered.pop(number, None) is not None:
                self._tell(functools.partial(_move, receipts))
                return

    def _take_probes(self, name: str) -> list[Receipt]:
        """Return the probes of a limit, which end now."""
        probes = [one for one in self._probes if name in _names_of(one.charges)]
        self._probes = [one for one in self._probes if one not in probes]
        return probes

    def _note(self, name: str, first: Decision, last: Decision) -> None:
        """Count a decision, and keep it.

        Raises:
            RateLimited: It is a refusal.
        """
        self._limiter.note(last, None if last is first else first)
        self._decisions[name] = last
        if not last.allowed:
            error = last.refusal(self._running.ctx.now)
            error.limit = name
            raise error
        number = next(self._numbers)
        self._unanswered[number] = last.receipts
        self._unanswered.pop(number - _MAX_UNANSWERED, None)
        self._probes += [receipt for receipt in last.receipts if receipt.probing]


def _names(limits: ActionLimits) -> list[str]:
    return [name for limit in limits.limits for name in limit.names]


def _names_of(charges: Iterable[Charge]) -> list[str]:
    return [name for charge in charges for name in charge.limit.names]


def _move(receipts: Sequence[Receipt]) -> None:
    for receipt in receipts:
        receipt.store.move(receipt)


def _end_cooldowns(probes: Sequence[Receipt]) -> None:
    for receipt in probes:
        receipt.store.end_cooldown(receipt.charges)
