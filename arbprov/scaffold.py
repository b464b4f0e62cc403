"""The decorators that an app and a blueprint have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from arbprov._types import Handler, HandlerT, Hook, HookT
from arbprov._utils import describe_handler
from arbprov.actions import Action, ActionRegistry, attach_limit, first_line
from arbprov.errors import ConfigurationError
from arbprov.hooks import Hooks

if TYPE_CHECKING:
    from arbprov.limits import AnyLimit, Cost, Key, OnStoreError, Scope
    from arbprov.limits.monitors import RateLimitMonitor

__all__ = ["Isolation", "Scaffold"]

Isolation = Literal["thread", "process"]


class Scaffold:
    """Registers actions, limits and hooks; every decorator returns the function as it is."""

    def __init__(self) -> None:
        self._actions = ActionRegistry()
        self._hooks = Hooks()
        self._started = False
        # By what was returned for them, the functions that were given as limits of nothing yet.
        self._undecorated: dict[Any, Handler] = {}

    @overload
    def action(self, handler: HandlerT, /) -> HandlerT: ...

    @overload
    def action(
        self,
        name: str | None = None,
        *,
        description: str | None = None,
        payload_schema: Any = None,
        account_schema: Any = None,
        timeout: float | None = None,
        isolation: Isolation = "thread",
        forbid_extra: bool = False,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> Callable[[HandlerT], HandlerT]: ...

    def action(
        self,
        name: str | Handler | None = None,
        *,
        description: str | None = None,
        payload_schema: Any = None,
        account_schema: Any = None,
        timeout: float | None = None,
        isolation: Isolation = "thread",
        forbid_extra: bool = False,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> Any:
        """Register a function as an action.

        Its signature is the payload's schema: a parameter takes the payload's field of its name,
        a default makes it optional, ``**extra`` takes the rest. `payload` and `account` are the
        whole of these, and a parameter annotated with `TaskContext` gets that.

        Args:
            name: What tasks call it; the function's own name, if not given.
            description: One sentence; the docstring's first line, if not given.
            payload_schema: A class, or a dict of types; it stands for the annotations.
            account_schema: The same for the account.
            timeout: Seconds that the handler may run; the app's `execution_timeout`, if not given.
            isolation: Where a plain function runs: on a ``"thread"``, or in a ``"process"`` that is
                killed at the deadline, and whose crash costs nothing but its task.
            forbid_extra: Whether a field that nobody asked for is an error.
            rate_limit_monitor: A limit as code, as with ``@app.rate_limit(monitor)``.

        Raises:
            ConfigurationError: The name is taken, a parameter can't be filled from a payload, an
                annotation can't be resolved, or the app has started.
        """

        def register(handler: HandlerT) -> HandlerT:
            if rate_limit_monitor is not None:
                self.rate_limit(rate_limit_monitor)(handler)
            return self._add_action(
                handler,
                name=None if handler is name else name,
                description=description,
                timeout=timeout,
                isolation=isolation,
                payload_schema=payload_schema,
                account_schema=account_schema,
                forbid_extra=forbid_extra,
            )

        return register(name) if callable(name) else register

    def rate_limit(
        self,
        limit: AnyLimit,
        *,
        key: Key = None,
        name: str | None = None,
        scope: Scope = "action",
        cost: Cost = 1,
        burst: int | None = None,
        max_wait: float = 0.0,
        warn_at: Sequence[float] = (0.8, 0.95),
        store: Any = None,
        on_store_error: OnStoreError = "local",
        shadow: bool = False,
    ) -> Callable[[HandlerT], HandlerT]:
        """Limit how often an action runs; limits stack, and any order with `action` works.

        All limits of a call are one decision: all are charged, or none is. A refused task ends
        with status ``limit`` and the `wait_time` after which it would pass.

        Args:
            limit: ``"10/minute"``, ``"5 per second"``, ``"100/2h"``, several joined by ``;``, a
                `Limit`, `TokenBucket`, `MinDelay` or `Calendar`, a `RateLimitMonitor`, or a
                function of the call that returns a text or a limit. No period of a limit's length
                ever holds more.
            key: Whose quota it is: a dotted path such as ``"account.id"``, a tuple of such, or a
                function of the call. Without it, all calls share one.
            name: Limits of one name share what was used, wherever they stand, if they are the same:
                the same limit, counted by the same key (of functions, the same object).
            scope: Whether each action has the limit to itself, or all of the blueprint or the app
                share it: ``"action"``, ``"blueprint"`` or ``"app"``.
            cost: What a call takes from the limit, or a function of the call that returns it.
            burst: At most so much at once; the rest is spread evenly.
            max_wait: Seconds that a task may wait for its turn, first come, first served. At most
                half of the app's `concurrency` waits; the others are refused.
            warn_at: Shares of the limit; each time one is reached, a warning is logged.
            store: Where what was used is kept: ``"redis://..."`` or a Redis client, to share it
                with other processes; the app's `rate_limit_store`, if not given, else the memory.
            on_store_error: What to do while the store is away: ``"local"`` has each process keep to
                its share of the limit, ``"closed"`` refuses all, ``"open"`` admits all.
            shadow: Whether to count only, and refuse nothing.

        Raises:
            ConfigurationError: An argument makes no sense, or the limit can never be met.
        """

        def attach(handler: HandlerT) -> HandlerT:
            self._undecorated.pop(attach, None)
            from arbprov.limits import declare

            self._check_setup(handler)
            try:
                declared = declare(
                    limit,
                    key=key,
                    name=name,
                    scope=scope,
                    cost=cost,
                    burst=burst,
                    max_wait=max_wait,
                    warn_at=warn_at,
                    store=store,
                    on_store_error=on_store_error,
                    shadow=shadow,
                )
            except ConfigurationError as error:
                raise ConfigurationError(f"{describe_handler(handler)}: {error}") from None
            return attach_limit(handler, declared)

        if inspect.isfunction(limit):
            # It may be the handler itself, under a bare @app.rate_limit.
            self._undecorated[attach] = limit
        return attach

    def on_startup(self, hook: HookT) -> HookT:
        """Run a function before the first poll."""
        return self._add_hook("on_startup", hook)

    def on_shutdown(self, hook: HookT) -> HookT:
        """Run a function after the last result is sent."""
        return self._add_hook("on_shutdown", hook)

    def on_connect(self, hook: HookT) -> HookT:
        """Run a function when the hub answers for the first time, or again after trouble."""
        return self._add_hook("on_connect", hook)

    def on_disconnect(self, hook: HookT) -> HookT:
        """Run a function with the `HubError` when the hub is lost."""
        return self._add_hook("on_disconnect", hook)

    def before_task(self, hook: HookT) -> HookT:
        """Run a function with the `TaskContext` before a handler; what it returns is the answer."""
        return self._add_hook("before_task", hook)

    def after_task(self, hook: HookT) -> HookT:
        """Run a function with each `TaskResult`; it returns the one to send."""
        return self._add_hook("after_task", hook)

    def teardown_task(self, hook: HookT) -> HookT:
        """Run a function with the error, or None, after each task, however it ended."""
        return self._add_hook("teardown_task", hook)

    def on_submit_failed(self, hook: HookT) -> HookT:
        """Run a function with a `TaskResult` that the hub refuses for good, and the `HubError`."""
        return self._add_hook("on_submit_failed", hook)

    def errorhandler(self, exception: type[BaseException]) -> Callable[[HookT], HookT]:
        """Have a function answer in the place of a handler that raised `exception`.

        The handler for the nearest class in the exception's MRO is called with the exception; a
        blueprint's come before the app's.
        """
        if callable(exception) and not isinstance(exception, type):
            raise ConfigurationError(
                f"{describe_handler(exception)}: @errorhandler takes an exception class, as in "
                f"@app.errorhandler(KeyError)"
            )

        def add(handler: HookT) -> HookT:
            self._check_setup(handler)
            self._hooks.add_errorhandler(exception, handler)
            return handler

        return add

    def _add_action(
        self,
        handler: HandlerT,
        *,
        name: Any,
        description: str | None,
        timeout: float | None,
        isolation: Isolation,
        **binding: Any,
    ) -> HandlerT:
        from arbprov.payload.arguments import compile_binding

        self._check_setup(handler)
        self._check_decorated([handler])
        action = Action(
            name=self._action_name(handler, name),
            handler=handler,
            binding=compile_binding(handler, **binding),
            description=first_line(handler) if description is None else description,
            timeout=timeout,
            isolation=isolation,
        )
        self._actions.add(action)
        return handler

    def _check_decorated(self, decorators: Iterable[Any]) -> None:
        for decorator in decorators:
            if (function := self._undecorated.get(decorator)) is not None:
                raise ConfigurationError(
                    f"{describe_handler(function)}: @rate_limit takes a limit, as in "
                    f'@app.rate_limit("10/minute")'
                )

    def _action_name(self, handler: Handler, name: Any) -> str:
        given = getattr(handler, "__name__", "") if name is None else name
        if not isinstance(given, str) or given in ("", "<lambda>"):
            raise ConfigurationError(
                f'{describe_handler(handler)}: an action needs a name; give it @app.action("name")'
            )
        return given

    def _add_hook(self, kind: str, hook: HookT) -> HookT:
        self._check_setup(hook)
        return self._hooks.add(kind, hook)

    def _start(self) -> None:
        """Take no more registrations.

        Raises:
            ConfigurationError: A limit was declared that limits nothing.
        """
        self._check_decorated(list(self._undecorated))
        self._started = True

    def _check_setup(self, function: Hook) -> None:
        if self._started:
            raise ConfigurationError(
                f"{describe_handler(function)}: registered after the app has started, so no task "
                f"would ever see it; register it at import, before run() or test_client()"
            )
