"""A task's way through a provider, without any IO: prepare, admit, run, expire, finish.

`Dispatcher.prepare` and `Dispatcher.run` are that way, from top to bottom. What takes time on it is
done by an `Admitter` and a `Runner`: the worker has its own, and so have the test client and
`app.invoke`.
"""

from __future__ import annotations

import datetime as dt
import inspect
import logging
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs

from arbprov._types import Clock, Handler, Hook
from arbprov.actions import Action
from arbprov.context import TaskContext
from arbprov.errors import (
    ActionNotFoundError,
    InvalidPayloadError,
    Problem,
    RateLimited,
    TaskTimeoutError,
)
from arbprov.hooks import TaskHooks
from arbprov.limits import ActionLimits, Decision, Limiter, LimitStats
from arbprov.payload.json import parse_object
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import find_secrets, find_secrets_in_json, redact
from arbprov.responses import (
    error_result,
    name_fields,
    redact_result,
    success_result,
    write_envelope,
)
from arbprov.task import ProviderResponse, Status, Task, TaskResult

__all__ = [
    "HOOKS_GRACE",
    "Admitter",
    "Call",
    "Dispatcher",
    "Route",
    "Runner",
    "Wait",
    "run_hooks",
]

# Seconds for the hooks that see a timeout; the result waits for them no longer.
HOOKS_GRACE = 1.0

# Returns what an awaitable comes to, and blocks meanwhile.
Wait = Callable[[Awaitable[Any]], Any]
Outcome = TaskResult | BaseException


@attrs.frozen
class Route:
    """An action and its hooks, limits and timeout, compiled at start; `action` may be unknown."""

    action: Action | None
    hooks: TaskHooks
    limits: ActionLimits
    timeout: float
    logger: logging.Logger = attrs.field(repr=False)
    # Whether the call may block, and so belongs on a thread.
    blocking: bool = True
    # The handler as another process gets it, if it runs in one.
    pickled: bytes | None = attrs.field(default=None, repr=False)
    # Worked out here, since each call asks for it.
    has_limits: bool = attrs.field(init=False)

    @has_limits.default
    def _has_limits(self) -> bool:
        return bool(self.limits)


@attrs.define(eq=False)
class Call:
    """A task on its way through the dispatcher."""

    task: Task
    route: Route
    ctx: TaskContext
    # What the limits answered; `ctx.limits` is the part of it that an author sees.
    decision: Decision
    args: list[Any] = attrs.field(factory=list, repr=False)
    kwargs: dict[str, Any] = attrs.field(factory=dict, repr=False)
    # Why it failed; set before the call, no handler runs, only the hooks that see errors.
    error: BaseException | None = attrs.field(default=None, repr=False)
    run_teardown: bool = True
    # What it waits for on the event loop, if anything; the worker cancels that at the deadline.
    pending: Any = attrs.field(default=None, repr=False)
    # Done when it has really ended, maybe after its time was up; for the runner.
    ended: Any = attrs.field(default=None, repr=False)
    # Replaces the handler of an action that runs in another process; it can be cancelled too.
    process_handler: Any = attrs.field(default=None, repr=False)
    # Raised by the handler: the API has refused a request.
    throttled: RateLimited | None = None

    @property
    def unsettled(self) -> bool:
        """Whether the limits have to know how the call has ended."""
        return self.throttled is not None or self.decision.is_probing


class Admitter(Protocol):
    """Asks the limits of calls for a dispatcher, and waits for them."""

    async def decide(self, call: Call) -> Decision:
        """Return what `Dispatcher.decide` returns, and raise what it raises."""
        ...

    async def wait(self, call: Call, refused: Decision) -> Decision:
        """Wait until the limits admit a refused call, or would have it wait no longer.

        Returns:
            The last decision.
        """
        ...

    async def settle(self, call: Call) -> None:
        """Call `Dispatcher.settle`."""
        ...


class Runner(Protocol):
    """Runs calls for a dispatcher."""

    async def run(self, call: Call, timeout: float) -> TaskResult:
        """Run `Dispatcher.perform`, and return its result.

        Args:
            call: Its `ctx.cancelled` is set if its time is up.
            timeout: Seconds that the call may take.

        Raises:
            TaskTimeoutError: Its time is up, though its handler may still run.
        """
        ...


@attrs.define
class Dispatcher:
    """Takes tasks to their actions and back.

    Args:
        provider: The provider's name.
        routes: By action.
        unknown: The route of the tasks whose action is not there.
        limiter: Decides over the limits.
        clock: Tells the time.
        timezone: Of the envelope's `now`.
        timezone_name: Of the envelope's `timezone`.
        secrets: Texts that no result may hold, beside those of the task's account.
    """

    provider: str
    routes: Mapping[str, Route]
    unknown: Route
    limiter: Limiter
    clock: Clock
    timezone: dt.tzinfo
    timezone_name: str
    secrets: Iterable[str] = attrs.field(default=(), repr=False)
    # The envelope's fields that name the provider and an action, by action.
    _name_fields: dict[str, str] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._name_fields = {action: name_fields(self.provider, action) for action in self.routes}

    def prepare(self, task: Task) -> Call:
        """Find a task's action, and read and validate its payload and account.

        Returns:
            The call to `run`; if the task is refused, `error` says why.
        """
        call = self._open(task)
        action, ctx = call.route.action, call.ctx
        problems: list[Problem] = []
        try:
            if action is None:
                raise ActionNotFoundError(task.action, sorted(self.routes))
            ctx.payload = _load(task.payload, "payload", problems)
            ctx.account = _load(task.account, "account", problems)
            if problems:
                raise InvalidPayloadError(problems)
            call.args, call.kwargs = action.binding.bind(ctx)
        except Exception as error:
            call.error = error
        return call

    async def run(self, call: Call, admitter: Admitter, runner: Runner) -> TaskResult:
        """Take a prepared call through its limits, its handler and its hooks.

        Returns:
            The result as it goes to the hub, with its envelope, whatever the author's code raised.
        """
        if call.error is None and call.route.has_limits:
            try:
                await self.admit(call, admitter)
            except Exception as error:
                call.error = error
        outcome: Outcome | None = call.error
        if call.error is None or _has_hooks_for(call, call.error):
            try:
                outcome = await runner.run(call, call.route.timeout)
            except Exception as error:
                outcome = error
        if call.ctx.cancelled:
            result = await self._expire(call, runner)
        else:
            assert outcome is not None
            result = self.finish(call, outcome)
        if call.unsettled:
            await admitter.settle(call)
        return result

    async def admit(self, call: Call, admitter: Admitter) -> None:
        """Return once all limits admit a call.

        Raises:
            RateLimited: They refuse it, at once or after it has waited.
            Exception: A limit can't be asked; see `decide`.
        """
        first = decision = await admitter.decide(call)
        if not first.allowed:
            decision = await admitter.wait(call, first)
        self.limiter.note(decision, None if decision is first else first)
        if not decision.allowed:
            raise decision.refusal()

    def decide(self, call: Call) -> Decision:
        """Ask the limits of a prepared call; if they admit it, its time begins.

        Raises:
            InvalidPayloadError: A limit's key is missing in the call.
            ProviderError: A limit that is a function of the call returned no limit.
        """
        decision = self.limiter.acquire(call.route.limits, call.ctx)
        call.decision = call.ctx.limits = decision
        call.ctx.deadline = self.clock.monotonic() + call.route.timeout
        return decision

    async def perform(self, call: Call, wait: Wait | None = None) -> TaskResult:
        """Run a call's handler and hooks, wherever a `Runner` has it run.

        Args:
            call: If it has an error already, only the hooks that see errors run.
            wait: Waits for what a function returned to be awaited; without it, that is awaited
                here.

        Returns:
            The result, whatever the handler and the hooks raised.
        """
        hooks, ctx = call.route.hooks, call.ctx
        if call.error is None:
            try:
                result = success_result(call.task, await _run_handler(call, wait))
            except BaseException as error:
                if isinstance(error, RateLimited):
                    call.throttled = error
                result = await self._handle_error(call, _unwrap_stop_iteration(error), wait)
        else:
            result = await self._handle_error(call, call.error, wait)
        if self.clock.monotonic() > ctx.deadline:
            ctx.cancelled = True
        if hooks.after and not ctx.cancelled:
            result = await self._run_after(call, result, wait)
        if hooks.teardown and call.run_teardown:
            result = await self._run_teardown(call, result, wait)
        return result

    async def _handle_error(
        self, call: Call, error: BaseException, wait: Wait | None
    ) -> TaskResult:
        handler = call.route.hooks.errorhandler(error)
        if handler is None or call.ctx.cancelled:
            return self._fail_call(call, error)
        try:
            result = success_result(call.task, await _run(wait, handler, error, call.ctx))
        except BaseException as another:
            return self._fail_call(call, _unwrap_stop_iteration(another))
        call.error = None
        return result

    async def _run_after(self, call: Call, result: TaskResult, wait: Wait | None) -> TaskResult:
        for hook in call.route.hooks.after:
            try:
                result = _check_result(call, await _run(wait, hook, result, call.ctx), hook)
            except BaseException as error:
                result = self._fail_call(call, _unwrap_stop_iteration(error))
        return result

    async def _run_teardown(self, call: Call, result: TaskResult, wait: Wait | None) -> TaskResult:
        for hook in call.route.hooks.teardown:
            try:
                await _run(wait, hook, call.error, call.ctx)
            except BaseException as error:
                result = self._fail_call(call, _unwrap_stop_iteration(error))
        return result

    async def _expire(self, call: Call, runner: Runner) -> TaskResult:
        """Return the result of a call whose time is up."""
        error = TaskTimeoutError(call.route.timeout)
        # The hooks see a call of their own: the handler may still run, and that one tears down.
        deadline = self.clock.monotonic() + HOOKS_GRACE
        expired = attrs.evolve(
            call,
            ctx=attrs.evolve(call.ctx, cancelled=False, deadline=deadline),
            error=error,
            run_teardown=False,
            pending=None,
            process_handler=None,
        )
        outcome: Outcome = error
        if _has_hooks_for(expired, error):
            try:
                outcome = await runner.run(expired, HOOKS_GRACE)
            except Exception as failure:
                outcome = error if expired.ctx.cancelled else failure
        return self.finish(expired, outcome)

    def settle(self, call: Call) -> None:
        """Close the gates of a call whose handler was told to wait, else open what it held."""
        throttled, call.throttled = call.throttled, None
        if throttled is not None:
            probe_timeout = call.route.timeout + HOOKS_GRACE
            call.decision.start_cooldown(throttled.retry_after, throttled.limit, probe_timeout)
        call.decision.end_cooldown()

    def finish(self, call: Call, outcome: Outcome) -> TaskResult:
        """Return the result as it goes to the hub, with its envelope."""
        if isinstance(outcome, BaseException):
            result = self._fail_call(call, outcome)
        elif outcome.status is Status.ERROR:
            # Handlers and hooks may repeat what an API has said, and that what it was sent.
            result = redact_result(outcome, self.secrets_of(call))
        else:
            result = outcome
        names = self._name_fields.get(result.action) or name_fields(self.provider, result.action)
        body = write_envelope(result, names, self.clock.now(), self.timezone, self.timezone_name)
        return TaskResult(result.task, result.status, result.message, result.data, body)

    def fail(self, task: Task, error: BaseException) -> TaskResult:
        """Return the result of a task that ends with `error` outside any call."""
        return self.finish(self._open(task), error)

    def limit_stats(self) -> LimitStats:
        """Return what is left of the limits, and what they have decided."""
        limits = {name: route.limits for name, route in self.routes.items()}
        return LimitStats(limits, self.limiter.counts)

    def redacted(self, text: str, *calls: Call) -> str:
        """Return a text without the secrets of the app and of some calls."""
        return redact(text, [secret for call in calls for secret in self.secrets_of(call)])

    def secrets_of(self, call: Call) -> list[str]:
        """Return the secrets of the app and those of a call's account."""
        account = call.ctx.account
        # An account that could not be read may be quoted as it came.
        return [
            *(find_secrets(account) if account else find_secrets_in_json(call.task.account)),
            *self.secrets,
        ]

    def _open(self, task: Task) -> Call:
        route = self.routes.get(task.action, self.unknown)
        decision = Decision()
        ctx = TaskContext(
            id=task.id,
            action=task.action,
            deadline=self.clock.monotonic() + route.timeout,
            logger=route.logger,
            limits=decision,
            clock=self.clock,
        )
        return Call(task, route, ctx, decision)

    def _fail_call(self, call: Call, error: BaseException) -> TaskResult:
        """Note why a call failed, and return its result."""
        call.error = error
        try:
            return error_result(call.task, error, self.secrets_of(call))
        except ValidationFailure as failure:  # of what the author put into the error
            return self._fail_call(call, failure)


async def run_hooks(hooks: Iterable[Hook], *arguments: Any, wait: Wait | None = None) -> None:
    """Run the hooks around the worker's life, one after the other.

    Args:
        hooks: Plain or ``async`` functions.
        arguments: What each of them is called with.
        wait: As for `Dispatcher.perform`.
    """
    for hook in hooks:
        await _run(wait, hook, *arguments)


async def _run_handler(call: Call, wait: Wait | None) -> Any:
    """Return what the first hook that answers returns, or what the handler returns."""
    for hook in call.route.hooks.before:
        answer = await _run(wait, hook, call.ctx)
        if answer is not None:
            return answer
    assert call.route.action is not None  # `prepare` has found it
    handler = call.process_handler or call.route.action.handler
    return await _run(wait, handler, *call.args, **call.kwargs)


# To tell that other data can't be awaited takes as long as a hook.
_DATA = frozenset({type(None), bool, int, float, str, dict, list, ProviderResponse, TaskResult})


async def _run(wait: Wait | None, function: Handler, /, *args: Any, **kwargs: Any) -> Any:
    """Call an author's function, and await what it returns if that is to be awaited."""
    value = function(*args, **kwargs)
    kind = type(value)
    if kind in _DATA or not (kind is types.CoroutineType or inspect.isawaitable(value)):
        return value
    return await value if wait is None else wait(value)


def _has_hooks_for(call: Call, error: BaseException) -> bool:
    """Whether hooks are to see a call that ends with `error`."""
    hooks = call.route.hooks
    return bool(hooks.after or hooks.errorhandler(error) or (hooks.teardown and call.run_teardown))


def _check_result(call: Call, returned: Any, hook: Hook) -> TaskResult:
    if not isinstance(returned, TaskResult):
        name = getattr(hook, "__qualname__", repr(hook))
        raise TypeError(f"the after_task hook {name} returned no TaskResult")
    message = returned.message or returned.status.default_message
    return TaskResult(call.task, returned.status, message, to_builtins(returned.data))


def _unwrap_stop_iteration(error: BaseException) -> BaseException:
    """Return the StopIteration that a coroutine has raised, since Python disguises it."""
    disguised = isinstance(error, RuntimeError) and str(error) == "coroutine raised StopIteration"
    return error.__cause__ or error if disguised else error


def _load(raw: bytes, name: str, problems: list[Problem]) -> dict[str, Any]:
    try:
        return parse_object(raw)
    except ValidationFailure as failure:
        problems += failure.prefixed(name)
        return {}
