"""A task's way through a provider, without any IO: prepare, admit, run, expire, finish.

`Dispatcher.prepare` and `Dispatcher.run` take these steps, in this order. An `Admitter` waits for
limits and a `Runner` runs handlers: in a worker, `arbprov.worker.admission` and
`arbprov.executors.executor`; for the test client and `app.invoke`, `arbprov.executors.inline`.
"""

from __future__ import annotations

import datetime as dt
import inspect
import logging
import math
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import attrs

from arbprov._types import Clock, Handler, Hook
from arbprov._utils import (
    MEBIBYTE,
    SOON,
    class_name,
    describe_handler,
    quote,
    read_seconds,
    simplify_error,
    text_of,
)
from arbprov.actions import Action
from arbprov.context import NO_LIFESPAN, TaskContext
from arbprov.errors import (
    ActionNotFoundError,
    InvalidPayloadError,
    Problem,
    RateLimited,
    TaskTimeoutError,
)
from arbprov.hooks import TaskHooks
from arbprov.limits import (
    Acquirer,
    ActionLimits,
    Decision,
    LimitedCall,
    Limiter,
    LimitStats,
    ManualLimits,
    current_limits,
)
from arbprov.payload.bound import BoundCall
from arbprov.payload.ignored import IgnoredField
from arbprov.payload.json import parse_object
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import Redactor, call_secrets, find_secrets, find_secrets_in_json, redact
from arbprov.responses import (
    error_result,
    group_members,
    name_fields,
    redact_result,
    success_result,
    write_envelope,
)
from arbprov.retry import RetryPolicy
from arbprov.task import ProviderResponse, Status, Task, TaskResult

__all__ = [
    "HOOKS_GRACE",
    "Admitter",
    "Call",
    "ChargeAgedError",
    "Dispatcher",
    "Route",
    "Runner",
    "Wait",
    "call_and_wait",
    "call_life_hook",
]

logger = logging.getLogger("arbprov")

# Seconds that the hooks have after a timeout, before its result is sent without them.
HOOKS_GRACE = 1.0

# Characters of a line that are searched for secrets.
_MAX_REDACTED_LINE = 64 * 1024

# Seconds from a charge to the start of its handler. An API counts the starts.
_MAX_CHARGE_AGE = 0.1
# How often an older charge is made again, before the handler starts with it in any case.
_MAX_READMISSIONS = 3

# Blocks until an awaitable has ended, and returns its result.
Wait = Callable[[Awaitable[Any]], Any]
Outcome = TaskResult | BaseException


class ChargeAgedError(Exception):
    """A handler's process has not begun the call, since its charge is too old; see `Call`."""


@attrs.frozen
class Route:
    """An action with its hooks, limits and timeout, compiled at start.

    Args:
        action: The action; None for tasks of unknown actions.
        hooks: The hooks around its handler.
        limits: Its limits.
        timeout: Seconds that a call may take.
        logger: The logger of its handler's context.
        blocking: Whether its handler may block, and so runs on a thread.
        pickled: Its handler as another process gets it; None if it runs in this process.
        retry: Whether and when its handler is tried again; None if it is not.
        hides_tokens: Whether its calls may get access tokens from a `TokenCache`.
    """

    action: Action | None
    hooks: TaskHooks
    limits: ActionLimits
    timeout: float
    logger: logging.Logger = attrs.field(repr=False)
    blocking: bool = True
    pickled: bytes | None = attrs.field(default=None, repr=False)
    retry: RetryPolicy | None = None
    hides_tokens: bool = False
    # Computed once, since each call asks for them.
    has_limits: bool = attrs.field(init=False)
    has_manual_limits: bool = attrs.field(init=False)
    binds_limits: bool = attrs.field(init=False)
    """Whether its limits have to see the values that the handler gets, and not only the task's."""

    @has_limits.default
    def _has_limits(self) -> bool:
        return bool(self.limits)

    @has_manual_limits.default
    def _has_manual_limits(self) -> bool:
        return bool(self.limits.manual)

    @binds_limits.default
    def _find_binds_limits(self) -> bool:
        return self.action is not None and bool(
            self.limits.fields_of & self.action.binding.fields_of
        )


@attrs.define(eq=False)
class Call:
    """A task on its way through the dispatcher.

    Attributes:
        task: The task.
        route: Its action, compiled.
        ctx: The context that its handler and hooks get.
        decision: The last answer of its limits; authors see a part of it as `ctx.limits`.
        seen_by_limits: What keys, costs and limits read of it.
        args: The handler's positional arguments.
        kwargs: The handler's keyword arguments.
        error: Why it failed. If it is set before the call runs, only hooks run, and no handler.
        expired: Whether the handler's result can no longer be sent, since its time is up, or since
            a stop has given it up.
        run_teardown: Whether its teardown hooks run.
        pending: The asyncio task or future that it waits for, if any; cancelled at its deadline.
        ended: A future that is done when it has really ended, maybe after its deadline.
        process_handler: Replaces the handler of an action that runs in another process.
        throttled: The handler's `RateLimited` error, which the limits have to know.
        redactor: Removes its secrets from texts; made when a text first needs it.
        admitter: Decides again over the call if its charge has aged; None if it has no limits.
        begin_before: The time until which its handler may begin by the charge that it has.
        decided_at: The time of the first decision, from which `max_wait` counts; None if it has
            not waited.
        readmissions: How often its charge was made again.
        extra_time: Seconds that were added to its timeout meanwhile; infinite while it waits again.
        manual: Its `ctx.limits`, if its handler charges limits itself.
        timeout: Seconds that it may take from now on: less than the route's in a later try.
        tries: How often its handler has begun.
        pause: Seconds until its handler is tried again; None if this try is the last.
        tokens: The access tokens that it has got, which its errors must not show.
    """

    task: Task
    route: Route
    ctx: TaskContext
    decision: Decision
    seen_by_limits: LimitedCall
    args: list[Any] = attrs.field(factory=list, repr=False)
    kwargs: dict[str, Any] = attrs.field(factory=dict, repr=False)
    error: BaseException | None = attrs.field(default=None, repr=False)
    expired: bool = False
    run_teardown: bool = True
    pending: Any = attrs.field(default=None, repr=False)
    ended: Any = attrs.field(default=None, repr=False)
    process_handler: Any = attrs.field(default=None, repr=False)
    throttled: RateLimited | None = None
    redactor: Redactor | None = attrs.field(default=None, repr=False)
    admitter: Admitter | None = attrs.field(default=None, repr=False)
    begin_before: float = math.inf
    decided_at: float | None = None
    readmissions: int = 0
    extra_time: float = 0.0
    manual: ManualLimits | None = attrs.field(default=None, repr=False)
    timeout: float = math.inf
    tries: int = 0
    pause: float | None = None
    tokens: Sequence[str] = attrs.field(default=(), repr=False)

    @property
    def unsettled(self) -> bool:
        """Whether the limits have to know that the call has ended, and how."""
        return (
            self.throttled is not None
            or self.decision.is_probing
            or (self.manual is not None and self.manual.is_probing)
        )

    def expire(self) -> None:
        """Note that the handler's result can no longer be sent, and let the handler know."""
        self.expired = self.ctx.cancelled = True

    def ignored_fields(self) -> list[IgnoredField]:
        """Return the fields of a prepared call's payload that nothing reads; see `Binding`."""
        action = self.route.action
        return [] if action is None else action.binding.find_ignored(self.ctx.payload)


class Admitter(Protocol):
    """Asks the limits of calls, and waits for them where that can be done."""

    def acquirer(self, call: Call) -> Acquirer:
        """Return what asks the limits on behalf of the handler of a call."""
        ...

    async def decide(self, call: Call) -> Decision:
        """Return the answer of `Dispatcher.decide`, or raise its error."""
        ...

    async def wait(self, call: Call, refused: Decision, waited: float) -> Decision:
        """Wait until the limits admit a refused call, or until its `max_wait` is over.

        Args:
            call: The call.
            refused: The decision that refused it.
            waited: Seconds since the first decision over it.

        Returns:
            The last decision.
        """
        ...

    def readmit(self, call: Call) -> Awaitable[None] | None:
        """Do `Dispatcher.decide_again`, and `Dispatcher.await_turn` if that refuses the call.

        It is called where the handler is about to begin: on its thread, or on the event loop.

        Returns:
            An awaitable to wait for before the handler begins, or None.
        """
        ...

    async def pause(self, seconds: float) -> bool:
        """Wait before the next try of a handler.

        Returns:
            False if there is to be no other try: the worker stops.
        """
        ...

    async def settle(self, call: Call) -> None:
        """Call `Dispatcher.settle`."""
        ...

    async def release(self, call: Call) -> None:
        """Call `Decision.release`, and let the calls that wait for these units ask again."""
        ...


class Runner(Protocol):
    """Runs the handlers of calls, with their hooks, where they belong."""

    async def run(self, call: Call, timeout: float) -> TaskResult:
        """Run `Dispatcher.perform` and return its result.

        Args:
            call: It is expired at its deadline, and when the worker ends before it.
            timeout: Seconds that the call may take.

        Raises:
            TaskTimeoutError: The deadline has passed; the handler may still run.
        """
        ...


@attrs.define
class Dispatcher:
    """Turns tasks into results.

    Args:
        provider: The provider's name.
        routes: The routes by the names of their actions.
        unknown: The route of tasks whose action does not exist.
        limiter: Decides whether limits admit a call.
        clock: Provides the time.
        timezone: The time zone of the envelope's `now`.
        timezone_name: The envelope's `timezone`.
        secrets: Texts to remove from results and logs, beside the secrets of the task's account.
        state: What the app's lifespan has yielded, once it has been entered.
    """

    provider: str
    routes: Mapping[str, Route]
    unknown: Route
    limiter: Limiter
    clock: Clock
    timezone: dt.tzinfo
    timezone_name: str
    secrets: Iterable[str] = attrs.field(default=(), repr=False)
    state: Any = attrs.field(default=NO_LIFESPAN, repr=False)
    # The part of the envelope with the names of provider and action, by action.
    _name_fields: dict[str, str] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._name_fields = {action: name_fields(self.provider, action) for action in self.routes}

    def prepare(self, task: Task) -> Call:
        """Find a task's action; parse and validate its payload and account.

        Returns:
            The call to `run`. If the task is refused, its `error` says why.
        """
        call = self._open(task)
        action, ctx = call.route.action, call.ctx
        problems: list[Problem] = []
        try:
            if action is None:
                raise ActionNotFoundError(task.action, sorted(self.routes))
            try:
                ctx.payload = parse_object(task.payload)
            except ValidationFailure as failure:
                problems += failure.prefixed("payload")
            try:
                ctx.account = parse_object(task.account)
            except ValidationFailure as failure:
                problems += failure.prefixed("account")
            if problems:
                raise InvalidPayloadError(problems)
            call.args, call.kwargs = action.binding.bind(ctx)
            if call.route.binds_limits:
                arguments = call.args, call.kwargs
                call.seen_by_limits = BoundCall(ctx, action.binding, arguments)
        except BaseException as error:
            call.error = error
        return call

    async def run(self, call: Call, admitter: Admitter, runner: Runner) -> TaskResult:
        """Wait for a prepared call's limits, run its handler and hooks, and finish its result.

        Returns:
            The result with its envelope. Errors of the author's code are results too.
        """
        if call.route.has_manual_limits:
            acquirer = admitter.acquirer(call)
            call.manual = ManualLimits(self.limiter, call.route.limits, call, acquirer)
            call.ctx.limits = call.manual
        if call.error is None and call.route.has_limits:
            call.admitter = admitter
            try:
                await self.admit(call, admitter)
            except Exception as error:
                call.error = error
        try:
            outcome = await self._run_tries(call, admitter, runner)
            if call.expired:
                result = await self._expire(call, runner)
            else:
                result = self.finish(call, outcome)
            if call.route.has_limits or call.manual is not None:
                await self._leave_limits(call, admitter)
        except BaseException:
            # It is cancelled, by a stop or by a test's author, and its handler may run on.
            if call.decision.held and (call.ended is None or call.ended.done()):
                await admitter.release(call)
            raise
        return result

    async def _leave_limits(self, call: Call, admitter: Admitter) -> None:
        """Tell the limits that a call has ended, or that its time is up."""
        if call.unsettled:
            await admitter.settle(call)
        # A handler that runs on after its timeout keeps what it holds.
        if call.decision.held and not call.expired:
            await admitter.release(call)
        if call.manual is not None:
            call.manual.close()

    async def _run_tries(self, call: Call, admitter: Admitter, runner: Runner) -> Outcome:
        """Run a call's handler and hooks, again and again if that may help."""
        if call.error is not None and not _has_hooks_for(call, call.error):
            return call.error
        while True:
            call.pause = None
            outcome: Outcome
            try:
                outcome = await runner.run(call, call.timeout)
            except Exception as error:
                outcome = error
            if call.pause is None or call.expired:
                return outcome
            if call.decision.held:
                await admitter.release(call)
            await self._prepare_retry(call, call.pause, admitter)

    async def _prepare_retry(self, call: Call, pause: float, admitter: Admitter) -> None:
        """Wait for the next try of a call, and for its limits.

        Its `error` is None after that, unless there is no other try: then only hooks run.
        """
        ctx, deadline = call.ctx, call.ctx.deadline
        if not await admitter.pause(pause) or ctx.cancelled:
            return
        call.timeout = deadline - self.clock.monotonic()
        try:
            if call.route.has_limits:
                call.decided_at = None
                await self.admit(call, admitter)
            if self.clock.monotonic() >= deadline:
                call.decision.undo()
                raise TaskTimeoutError(call.route.timeout)
        except Exception as error:
            call.error = error
        else:
            call.error = None
            ctx.attempt += 1
        # The wait for the limits is a part of the call's time.
        call.timeout = max(0.0, deadline - self.clock.monotonic())
        ctx.deadline = deadline

    async def admit(self, call: Call, admitter: Admitter) -> None:
        """Return once all limits of a call admit it.

        Raises:
            RateLimited: A limit refuses it, at once or after it has waited.
            Exception: A limit could not be asked; see `decide`.
        """
        decision = await admitter.decide(call)
        if decision.allowed:
            self.limiter.note(decision)
        else:
            await self.await_turn(call, admitter, decision)

    async def await_turn(self, call: Call, admitter: Admitter, refused: Decision) -> None:
        """Wait until the limits that have refused a call admit it.

        Raises:
            RateLimited: Its `max_wait` does not suffice.
            Exception: A limit could not be asked; see `decide`.
        """
        now = self.clock.monotonic()
        if call.decided_at is None:
            call.decided_at = now
        decision = await admitter.wait(call, refused, now - call.decided_at)
        self.limiter.note(decision, None if decision is refused else refused)
        if not decision.allowed:
            raise decision.refusal(self.clock.now())

    def decide(self, call: Call) -> Decision:
        """Charge a prepared call to its limits; its timeout starts now.

        Raises:
            InvalidPayloadError: The call has no value for a limit's key.
            ProviderError: A limit that is a function did not return a limit.
        """
        asked_at = self.clock.monotonic()
        decision = self.limiter.acquire(call.route.limits, call.seen_by_limits)
        if self.limiter.recent is not None:
            self.limiter.recent.note(decision.charges, call.task.account)
        call.decision = decision
        if call.manual is None:
            call.ctx.limits = decision
        call.begin_before = asked_at + _MAX_CHARGE_AGE
        call.ctx.deadline = self.clock.monotonic() + call.timeout
        return decision

    def decide_again(self, call: Call) -> Decision:
        """Give back a call's charge and make it again, as of now; its timeout starts again too."""
        asked_at = self.clock.monotonic()
        self.limiter.acquire_again(call.route.limits, call.decision)
        call.begin_before = asked_at + _MAX_CHARGE_AGE
        call.ctx.deadline = self.clock.monotonic() + call.timeout
        return call.decision

    async def perform(
        self, call: Call, wait: Wait | None = None, overran: Callable[[], bool] | None = None
    ) -> TaskResult:
        """Run a call's handler and the hooks around it.

        Args:
            call: If it has an `error` already, only error handlers and later hooks run.
            wait: Waits for awaitables by blocking; without it, they are awaited.
            overran: Tells whether the handler has taken too long, beside the dispatcher's clock.

        Returns:
            The result, not finished yet. Errors of the author's code are results too.
        """
        hooks, ctx = call.route.hooks, call.ctx
        if call.manual is not None:
            current_limits.set(call.manual)
        if call.route.hides_tokens:
            call.tokens = tokens = list(call.tokens)
            call_secrets.set(tokens)
            call.redactor = None  # that of an earlier try does not know the tokens of this try
        if call.error is None:
            try:
                result = success_result(call.task, await self._call_handler(call, wait))
            except BaseException as raised:
                error, throttled = _find_throttling(_unwrap_stop_iteration(raised))
                # If the limits have decided again, and refused it, the error is theirs.
                if call.decision.allowed:
                    call.throttled = throttled
                if call.pause is not None:
                    return self._fail_call(call, error)
                result = await self._handle_error(call, error, wait)
        else:
            result = await self._handle_error(call, call.error, wait)
        if self.clock.monotonic() > ctx.deadline or (overran is not None and overran()):
            call.expire()
        if hooks.after and not call.expired:
            result = await self._run_after(call, result, wait)
        if hooks.teardown and call.run_teardown:
            result = await self._run_teardown(call, result, wait)
        return result

    async def _call_handler(self, call: Call, wait: Wait | None) -> Any:
        """Return the first answer of a before_task hook, or else the handler's."""
        if call.ctx.attempt == 1:
            for hook in call.route.hooks.before:
                answer = await call_and_wait(wait, hook, call.ctx)
                if answer is not None:
                    return answer
        assert call.route.action is not None  # `prepare` has found it
        while True:
            # The charge may have aged in a hook, in a queue, or while the process was stopped.
            while call.admitter is not None and self.clock.monotonic() > call.begin_before:
                await self._readmit(call, call.admitter, wait)
            handler = call.process_handler or call.route.action.handler
            call.tries += 1
            try:
                return await call_and_wait(wait, handler, *call.args, **call.kwargs)
            except ChargeAgedError:
                call.tries -= 1
                # By the system's clock, which the dispatcher's may not follow.
                call.begin_before = min(call.begin_before, self.clock.monotonic() - 0.001)
            except Exception as error:
                if call.route.retry is not None:
                    call.pause = self._pause_before_retry(call, call.route.retry, error)
                raise

    def _pause_before_retry(self, call: Call, retry: RetryPolicy, error: Exception) -> float | None:
        """Return the seconds until the next try of a handler; None if there is no other."""
        now = self.clock.monotonic()
        waited = now - (call.ctx.deadline - call.route.timeout)
        pause = retry.pause(error, call.ctx.attempt, waited)
        if pause is None or now + pause >= call.ctx.deadline or call.ctx.cancelled:
            return None
        logger.info(
            "task %s of action %r: try %d failed with %s; the next is in %.1f s",
            quote(call.task.id),
            call.task.action,
            call.ctx.attempt,
            type(error).__name__,
            pause,
        )
        return pause

    async def _readmit(self, call: Call, admitter: Admitter, wait: Wait | None) -> None:
        """Have the limits decide again over a call whose charge has aged.

        Raises:
            RateLimited: A limit refuses the call, at once or after it has waited.
            TaskTimeoutError: Its time was up before.
            Exception: A limit could not be asked; see `decide`.
        """
        # No receipts: a hook has refunded the charge, or nothing but monitors and places counts the
        # call.
        if call.readmissions == _MAX_READMISSIONS or not call.decision.receipts:
            call.begin_before = math.inf
            return
        call.readmissions += 1
        if call.decided_at is None:
            call.decided_at = call.begin_before - _MAX_CHARGE_AGE
        latest = call.ctx.deadline - call.extra_time
        call.extra_time = math.inf
        try:
            await call_and_wait(wait, admitter.readmit, call)
        finally:
            call.extra_time = call.ctx.deadline - latest
        if call.expired:
            call.decision.undo()
            raise TaskTimeoutError(call.route.timeout)

    async def _handle_error(
        self, call: Call, error: BaseException, wait: Wait | None
    ) -> TaskResult:
        handler = call.route.hooks.errorhandler(error)
        if handler is None or call.expired:
            return self._fail_call(call, error)
        try:
            result = success_result(call.task, await call_and_wait(wait, handler, error, call.ctx))
        except BaseException as another:
            return self._fail_call(call, _unwrap_stop_iteration(another))
        call.error = None
        return result

    async def _run_after(self, call: Call, result: TaskResult, wait: Wait | None) -> TaskResult:
        for hook in call.route.hooks.after:
            try:
                changed = await call_and_wait(wait, hook, result, call.ctx)
                if not isinstance(changed, TaskResult):
                    name = getattr(hook, "__qualname__", repr(hook))
                    raise TypeError(
                        f"the after_task hook {name} must return a TaskResult, "
                        f"not {type(changed).__name__}"
                    )
                message = changed.message or changed.status.default_message
                data = to_builtins(changed.data)
                result = TaskResult(call.task, changed.status, message, data)
            except BaseException as error:
                result = self._fail_call(call, _unwrap_stop_iteration(error))
        return result

    async def _run_teardown(self, call: Call, result: TaskResult, wait: Wait | None) -> TaskResult:
        for hook in call.route.hooks.teardown:
            try:
                await call_and_wait(wait, hook, call.error, call.ctx)
            except BaseException as error:
                result = self._fail_call(call, _unwrap_stop_iteration(error))
        return result

    async def _expire(self, call: Call, runner: Runner) -> TaskResult:
        """Return the result of a call after its deadline."""
        error = TaskTimeoutError(call.route.timeout)
        # The hooks get a copy of the call, since the handler may still use the call itself, and its
        # teardown hooks run when it ends.
        deadline = self.clock.monotonic() + HOOKS_GRACE
        expired = attrs.evolve(
            call,
            ctx=attrs.evolve(call.ctx, cancelled=False, deadline=deadline),
            error=error,
            expired=False,
            run_teardown=False,
            pending=None,
            process_handler=None,
            extra_time=0.0,
        )
        outcome: Outcome = error
        if _has_hooks_for(expired, error):
            try:
                outcome = await runner.run(expired, HOOKS_GRACE)
            except Exception as failure:
                outcome = error if expired.expired else failure
        return self.finish(expired, outcome)

    def settle(self, call: Call) -> None:
        """Start the cooldown that a call's handler asked for, or end the cooldown it has probed."""
        throttled, call.throttled = call.throttled, None
        if throttled is not None:
            probe_timeout = call.route.timeout + HOOKS_GRACE
            seconds, limit = _read_cooldown(throttled)
            manual = () if call.manual is None else call.manual.charges(call)
            call.decision.start_cooldown(seconds, limit, probe_timeout, call.task.action, manual)
        call.decision.end_cooldown()
        if call.manual is not None:
            call.manual.end_cooldown()

    def finish(self, call: Call, outcome: Outcome) -> TaskResult:
        """Return a result with its envelope, and without secrets if it is an error."""
        names = self._name_fields.get(call.task.action)
        names = names or name_fields(self.provider, call.task.action)
        times = self.clock.now(), self.timezone, self.timezone_name
        try:
            if type(outcome) is TaskResult:
                result = outcome
                if result.status is Status.ERROR:
                    # The author's text may quote an API's answer, and that answer the account.
                    result = redact_result(result, self._redactor_of(call))
            else:
                result = self._fail_call(call, cast("BaseException", outcome))
            body = write_envelope(result, names, *times)
        except BaseException as error:  # it is too large, or it holds code of the author's
            result = self._fail_call(call, error)
            body = write_envelope(result, names, *times)
        return TaskResult(result.task, result.status, result.message, result.data, body)

    def fail(self, task: Task, error: BaseException) -> TaskResult:
        """Return the finished result of a task that fails without a call."""
        return self.finish(self._open(task), error)

    def limit_stats(self) -> LimitStats:
        """Return the headroom of the limits and the counts of their decisions."""
        limits = {name: route.limits for name, route in self.routes.items()}
        return LimitStats(limits, self.limiter.counts)

    def redact(self, text: str, *calls: Call) -> str:
        """Return a text for the log without the app's secrets and those of some calls."""
        if len(text) > MEBIBYTE:  # a line of the log is far shorter than this in any case
            text = "\n".join(line[:_MAX_REDACTED_LINE] for line in text.split("\n"))
        if len(calls) == 1:
            return self._redactor_of(calls[0]).redact(text)
        secrets = [secret for call in calls for secret in self.secrets_of(call)]
        return redact(text, [*self.secrets, *secrets])

    def secrets_of(self, call: Call) -> list[str]:
        """Return the app's secrets, those of a call's account, and the call's tokens."""
        account = call.ctx.account
        # Errors may quote an account that could not be parsed.
        return [
            *(find_secrets(account) if account else find_secrets_in_json(call.task.account)),
            *call.tokens,
            *self.secrets,
        ]

    def _redactor_of(self, call: Call) -> Redactor:
        """Return the redactor of a call, which is made when its first text is redacted."""
        if call.redactor is None:
            call.redactor = Redactor(self.secrets_of(call))
        return call.redactor

    def _open(self, task: Task) -> Call:
        route = self.routes.get(task.action, self.unknown)
        decision = Decision()
        ctx = TaskContext(
            id=task.id,
            action=task.action,
            deadline=self.clock.monotonic() + route.timeout,
            logger=route.logger,
            limits=decision,
            provider=self.provider,
            clock=self.clock,
            state=self.state,
        )
        return Call(task, route, ctx, decision, ctx, timeout=route.timeout)

    def _fail_call(self, call: Call, error: BaseException) -> TaskResult:
        """Set a call's error, and return its result."""
        call.error = error
        try:
            result = error_result(call.task, error, self._redactor_of(call))
        except ValidationFailure as failure:  # JSON can't carry the details of the author's error
            return self._fail_call(call, failure)
        except BaseException:  # from the error's class, whose code is the author's
            plain = simplify_error(class_name(error), text_of(error))
            result = error_result(call.task, plain, self._redactor_of(call))
        if call.route.retry is not None and call.tries:
            result.data["attempts"] = call.tries
        return result


async def call_life_hook(
    kind: str, hook: Hook, wait: Wait | None = None, step: Callable[[], Any] | None = None
) -> Any:
    """Call a startup or shutdown hook, or enter or leave a lifespan; if it fails, the log names it.

    Args:
        kind: What the hook is, for the log.
        hook: The author's function, or a wrapper of it.
        wait: Waits for awaitables by blocking; without it, they are awaited.
        step: Is called in place of the hook.
    """
    try:
        return await call_and_wait(wait, step or hook)
    except Exception:
        # Without the traceback: the caller of `run` gets the error itself.
        logger.error("the %s %s has failed", kind, describe_handler(hook))
        raise


# `inspect.isawaitable` takes as long as a hook, so common results are not checked by it.
_DATA = frozenset({type(None), bool, int, float, str, dict, list, ProviderResponse, TaskResult})


async def call_and_wait(wait: Wait | None, function: Handler, /, *args: Any, **kwargs: Any) -> Any:
    """Call an author's function; if it returns an awaitable, wait for its result."""
    value = function(*args, **kwargs)
    kind = type(value)
    if kind in _DATA or not (kind is types.CoroutineType or inspect.isawaitable(value)):
        return value
    return await value if wait is None else wait(value)


def _has_hooks_for(call: Call, error: BaseException) -> bool:
    """Return whether there are hooks for a call that ends with `error`."""
    hooks = call.route.hooks
    return bool(hooks.after or hooks.errorhandler(error) or (hooks.teardown and call.run_teardown))


def _find_throttling(error: BaseException) -> tuple[BaseException, RateLimited | None]:
    """Return the error of a call, and the `RateLimited` that its limits have to know.

    The tasks of an `asyncio.TaskGroup` raise theirs in a group. The longest wait counts, and is the
    error too if the group has nothing else.
    """
    errors = group_members(error) or [error]
    # `issubclass` runs no code of the error's class, as `isinstance` may.
    throttling = [cast("RateLimited", e) for e in errors if issubclass(type(e), RateLimited)]
    longest = max(throttling, key=lambda each: _read_cooldown(each)[0], default=None)
    asked = [each for each in throttling if _asks_for_cooldown(each)]
    throttled = max(asked, key=lambda each: _read_cooldown(each)[0], default=None)
    if longest is not None and len(throttling) == len(errors):
        error = longest
    return error, throttled


def _unwrap_stop_iteration(error: BaseException) -> BaseException:
    """Return the StopIteration inside the RuntimeError that Python makes of it in a coroutine."""
    wraps = type(error) is RuntimeError and error.args == ("coroutine raised StopIteration",)
    return error.__cause__ or error if wraps else error


def _read_cooldown(error: RateLimited) -> tuple[float, str | None]:
    """Return the seconds and the limit that an error names; a subclass may lack or spoil them."""
    try:
        seconds, limit = read_seconds(error.retry_after), error.limit
    except BaseException:
        return SOON, None
    return seconds or SOON, limit if type(limit) is str else None


def _asks_for_cooldown(error: RateLimited) -> bool:
    """Tell whether an API has throttled a call, and its limits do not know that yet."""
    try:
        return bool(error.starts_cooldown)
    except BaseException:
        return True
