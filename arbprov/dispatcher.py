"""One task's way through a provider, without any IO.

`prepare` finds the action, and reads and validates the payload; `decide` asks the limits, as often
as the call waits for them; `perform` makes the call with the hooks around it, wherever an executor
runs it; `settle` tells the limits how it ended; `finish` writes the envelope.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import logging
import traceback
import types
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import TracebackType
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
    TaskError,
    TaskTimeoutError,
)
from arbprov.hooks import TaskHooks
from arbprov.limits import ActionLimits, Decision, Limiter, LimitStats
from arbprov.payload.json import dump, load_object, plain
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import redact, secrets_in, secrets_of
from arbprov.responses import OWN_KEYS, error_response
from arbprov.task import ProviderResponse, Status, Task, TaskResult

__all__ = ["HOOKS_GRACE", "Call", "Dispatcher", "Resolve", "Route"]

_PACKAGE = __file__.removesuffix("dispatcher.py")
# Seconds for the hooks that see a timeout; the result waits for them no longer.
HOOKS_GRACE = 1.0


class Resolve(Protocol):
    """Awaits, for `Dispatcher.perform`, what a plain function returned, where that can be done."""

    async def __call__(self, awaitable: Awaitable[Any], /) -> Any:
        """Return what `awaitable` comes to."""
        ...


@attrs.frozen
class Route:
    """An action, with all that was compiled for it at start; None stands for unknown actions."""

    action: Action | None
    hooks: TaskHooks
    limits: ActionLimits
    timeout: float
    logger: logging.Logger = attrs.field(repr=False)
    # Whether the call may block, and so belongs on a thread.
    blocking: bool = True
    # The handler as another process gets it, if it runs in one.
    pickled: bytes | None = attrs.field(default=None, repr=False)


@attrs.define(eq=False)
class Call:
    """A task on its way: what is known of it so far."""

    task: Task
    route: Route
    ctx: TaskContext
    # What the limits answered; `ctx.limits` is the part of it that an author sees.
    decision: Decision
    args: list[Any] = attrs.field(factory=list, repr=False)
    kwargs: dict[str, Any] = attrs.field(factory=dict, repr=False)
    # What ended it, or will: then no handler runs, only the hooks that see results.
    error: BaseException | None = attrs.field(default=None, repr=False)
    tears_down: bool = True
    # What a thread waits for on the loop, if it does: to be cancelled when time is up.
    awaiting: Any = attrs.field(default=None, repr=False)
    # What stands for the handler, if that runs in another process; it can be cancelled too.
    stand_in: Any = attrs.field(default=None, repr=False)
    # What the API behind the handler has told it.
    throttled: RateLimited | None = None

    @property
    def unsettled(self) -> bool:
        """Whether the limits have to be told how the call has ended."""
        return self.throttled is not None or self.decision.is_probing


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
    # What envelopes say of the provider and of each action that is there.
    _names: dict[str, str] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._names = {action: _names(self.provider, action) for action in self.routes}

    # Before the call.

    def prepare(self, task: Task) -> Call | TaskResult:
        """Return the call that `task` asks for, or the result if it is refused."""
        call = self._open(task)
        try:
            self._find(call)
            self._read(call)
            self._bind(call)
        except Exception as error:
            return self.refuse(call, error)
        return call

    def refuse(self, call: Call, error: BaseException) -> Call | TaskResult:
        """End a call with `error`; return the call if hooks want to see that, else the result."""
        call.error = error
        hooks = call.route.hooks
        if hooks.after or hooks.errorhandler(error) or (hooks.teardown and call.tears_down):
            return call
        return self.finish(call, error)

    def fail(self, task: Task, error: BaseException) -> TaskResult:
        """Return the result of a task that ends with `error` outside any call."""
        return self.finish(self._open(task), error)

    def expire(self, call: Call) -> Call | TaskResult:
        """End a call whose time is up; what still runs of it sees ``ctx.cancelled``."""
        call.ctx.cancelled = True
        # A call of its own, since the first may never return; that one also tears down.
        deadline = self.clock.monotonic() + HOOKS_GRACE
        ctx = attrs.evolve(call.ctx, cancelled=False, deadline=deadline)
        expired = attrs.evolve(call, ctx=ctx, tears_down=False)
        return self.refuse(expired, TaskTimeoutError(call.route.timeout))

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

    def _find(self, call: Call) -> None:
        if call.route.action is None:
            raise ActionNotFoundError(call.task.action, sorted(self.routes))

    def _read(self, call: Call) -> None:
        problems: list[Problem] = []
        call.ctx.payload = _loaded(call.task.payload, "payload", problems)
        call.ctx.account = _loaded(call.task.account, "account", problems)
        if problems:
            raise InvalidPayloadError(problems)

    def _bind(self, call: Call) -> None:
        assert call.route.action is not None  # `_find` has seen to it
        call.args, call.kwargs = call.route.action.binding.bind(call.ctx)

    # The limits.

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

    def settle(self, call: Call) -> None:
        """Close the gates of a call whose handler was told to wait, else open what it held."""
        throttled, call.throttled = call.throttled, None
        if throttled is not None:
            probe_timeout = call.route.timeout + HOOKS_GRACE
            call.decision.start_cooldown(throttled.retry_after, throttled.limit, probe_timeout)
        call.decision.end_cooldown()

    def limit_stats(self) -> LimitStats:
        """Return what is left of the limits, and what they have decided."""
        limits = {name: route.limits for name, route in self.routes.items()}
        return LimitStats(limits, self.limiter.counts)

    # The call.

    async def perform(self, call: Call, resolve: Resolve) -> TaskResult:
        """Make the call, hooks included, and return its result, whatever happens in it.

        Args:
            call: What `prepare` returned.
            resolve: Awaits what plain functions return; on a thread, it waits for the loop.
        """
        result = await self._answer(call, resolve)
        self._note_deadline(call)
        hooks = call.route.hooks
        if hooks.after and not call.ctx.cancelled:
            result = await self._hooked(call, result, resolve)
        if hooks.teardown and call.tears_down:
            result = await self._torn_down(call, result, resolve)
        return result

    def _note_deadline(self, call: Call) -> None:
        if self.clock.monotonic() > call.ctx.deadline:
            call.ctx.cancelled = True

    async def _answer(self, call: Call, resolve: Resolve) -> TaskResult:
        if call.error is not None:
            return await self._mended(call, call.error, resolve)
        try:
            return self._result(call, await self._handle(call, resolve))
        except BaseException as error:
            if isinstance(error, RateLimited):
                call.throttled = error
            return await self._mended(call, _as_raised(error), resolve)

    async def _handle(self, call: Call, resolve: Resolve) -> Any:
        for hook in call.route.hooks.before:
            answer = await _run(resolve, hook, call.ctx)
            if answer is not None:
                return answer
        assert call.route.action is not None  # `prepare` has found it
        handler = call.stand_in or call.route.action.handler
        return await _run(resolve, handler, *call.args, **call.kwargs)

    async def _mended(self, call: Call, error: BaseException, resolve: Resolve) -> TaskResult:
        handler = call.route.hooks.errorhandler(error)
        if handler is None or call.ctx.cancelled:
            return self._error_result(call, error)
        try:
            result = self._result(call, await _run(resolve, handler, error, call.ctx))
        except BaseException as another:
            return self._error_result(call, _as_raised(another))
        call.error = None
        return result

    async def _hooked(self, call: Call, result: TaskResult, resolve: Resolve) -> TaskResult:
        for hook in call.route.hooks.after:
            try:
                returned = await _run(resolve, hook, result, call.ctx)
                result = self._checked(call, returned, hook)
            except BaseException as error:
                result = self._error_result(call, _as_raised(error))
        return result

    async def _torn_down(self, call: Call, result: TaskResult, resolve: Resolve) -> TaskResult:
        for hook in call.route.hooks.teardown:
            try:
                await _run(resolve, hook, call.error, call.ctx)
            except BaseException as error:
                result = self._error_result(call, _as_raised(error))
        return result

    def _checked(self, call: Call, returned: Any, hook: Hook) -> TaskResult:
        if not isinstance(returned, TaskResult):
            name = getattr(hook, "__qualname__", repr(hook))
            raise TypeError(f"the after_task hook {name} returned no TaskResult")
        message = returned.message or returned.status.default_message
        return TaskResult(call.task, returned.status, message, plain(returned.data))

    # After the call.

    def finish(self, call: Call, outcome: TaskResult | BaseException) -> TaskResult:
        """Return the result as it goes to the hub, with its envelope written."""
        if isinstance(outcome, BaseException):
            outcome = self._error_result(call, outcome)
        elif outcome.status is Status.ERROR:
            # What handlers and hooks tell of an error is often what an API has told them.
            outcome = self._without_secrets(call, outcome)
        body = self._envelope(outcome)
        return TaskResult(outcome.task, outcome.status, outcome.message, outcome.data, body)

    def _envelope(self, result: TaskResult) -> str:
        second = self.clock.now().timestamp() // 1
        names = self._names.get(result.action) or _names(self.provider, result.action)
        return (
            f'{{"status":"{result.status.value}","message":{dump(result.message)},'
            f'"data":{{{names},'
            f"{_timestamps(second, self.timezone, self.timezone_name)},"
            f'"response":{dump(result.data)}}}}}'
        )

    def _result(self, call: Call, value: Any) -> TaskResult:
        """Return what a handler returned as a result, in data that JSON can carry."""
        if isinstance(value, ProviderResponse):
            return TaskResult(call.task, value.status, value.message, plain(value.data))
        data = {} if value is None else plain(value)
        return TaskResult(call.task, Status.SUCCESS, Status.SUCCESS.default_message, data)

    def _error_result(self, call: Call, error: BaseException) -> TaskResult:
        call.error = error
        response = error_response(error)
        secrets = self._secrets(call)
        try:
            data = plain(_redacted(response.data, secrets))
        except ValidationFailure as misfit:  # of what the author put into the error
            return self._error_result(call, misfit)
        return TaskResult(call.task, response.status, redact(response.message, secrets), data)

    def _without_secrets(self, call: Call, result: TaskResult) -> TaskResult:
        secrets = self._secrets(call)
        message = redact(result.message, secrets)
        return attrs.evolve(result, message=message, data=_redacted(result.data, secrets))

    def failure_of(self, call: Call) -> str:
        """Return what a log should say of a call that failed by its own code, else nothing."""
        error = call.error
        if error is None or isinstance(error, TaskError):
            return ""
        if isinstance(error, ValidationFailure):
            text = error_response(error).message
        else:
            lines = traceback.format_exception(type(error), error, _own_part(error))
            text = "".join(lines).rstrip()
        return self.redacted(text, call)

    def redacted(self, text: str, *calls: Call) -> str:
        """Return a text without the secrets of the app and of some calls."""
        return redact(text, [secret for call in calls for secret in self._secrets(call)])

    def _secrets(self, call: Call) -> list[str]:
        account = call.ctx.account
        # One that could not be read may be quoted as it came.
        return [*(secrets_of(account) if account else secrets_in(call.task.account)), *self.secrets]


def _names(provider: str, action: str) -> str:
    return f'"provider":{dump(provider)},"action":{dump(action)}'


# Each second is written but once, not for each task.
@functools.lru_cache(maxsize=16)
def _timestamps(second: float, timezone: dt.tzinfo, name: str) -> str:
    now_utc = dt.datetime.fromtimestamp(second, dt.timezone.utc)
    now = now_utc.astimezone(timezone)
    return f'"timezone":{dump(name)},"now":"{now.isoformat()}","now_utc":"{now_utc.isoformat()}"'


def _as_raised(error: BaseException) -> BaseException:
    """Return a StopIteration as such; Python lets it out of a coroutine in disguise only."""
    disguised = isinstance(error, RuntimeError) and str(error) == "coroutine raised StopIteration"
    return error.__cause__ or error if disguised else error


async def _run(resolve: Resolve, function: Handler, /, *args: Any, **kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    return await resolve(value) if _is_awaitable(value) else value


# To tell that other data can't be awaited takes as long as a hook.
_DATA = frozenset({type(None), bool, int, float, str, dict, list, ProviderResponse, TaskResult})


def _is_awaitable(value: Any) -> bool:
    kind = type(value)
    return kind is types.CoroutineType or (kind not in _DATA and inspect.isawaitable(value))


def _own_part(error: BaseException) -> TracebackType | None:
    """Return an error's traceback from the author's code on."""
    part = error.__traceback__
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        part = part.tb_next
    return part


def _loaded(raw: bytes, name: str, problems: list[Problem]) -> dict[str, Any]:
    try:
        return load_object(raw)
    except ValidationFailure as misfit:
        problems += misfit.below(name)
        return {}


def _redacted(data: Any, secrets: Sequence[str]) -> Any:
    if isinstance(data, str):
        return redact(data, secrets)
    if isinstance(data, dict):
        # A key of arbprov's own gives nothing away, and whoever reads the result goes by it.
        return {
            key if key in OWN_KEYS else redact(key, secrets): _redacted(item, secrets)
            for key, item in data.items()
        }
    if isinstance(data, list):
        return [_redacted(item, secrets) for item in data]
    return data
