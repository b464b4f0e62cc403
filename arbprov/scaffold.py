"""The decorators that an app and a blueprint have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

from arbprov._types import Handler, HandlerT, Hook, HookT
from arbprov.actions import Action, ActionRegistry, attach_limit, first_line
from arbprov.binding import compile_binding, describe_handler
from arbprov.errors import ConfigurationError
from arbprov.hooks import Hooks
from arbprov.limits import Key, Rule, Scope, declare

__all__ = ["Isolation", "Scaffold"]

Isolation = Literal["thread", "process"]


class Scaffold:
    """Registers actions, limits and hooks; every decorator returns the function as it is."""

    def __init__(self) -> None:
        self._actions = ActionRegistry()
        self._hooks = Hooks()
        self._started = False

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

        Raises:
            ConfigurationError: The name is taken, a parameter can't be filled from a payload, an
                annotation can't be resolved, or the app has started.
        """

        def register(handler: HandlerT) -> HandlerT:
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
        limit: str | Rule,
        *,
        key: Key = None,
        name: str | None = None,
        scope: Scope = "action",
        cost: int = 1,
        burst: int | None = None,
    ) -> Callable[[HandlerT], HandlerT]:
        """Limit how often an action runs; limits stack, and any order with `action` works.

        All limits of a call are one decision: all are charged, or none is. A refused task ends
        with status ``limit`` and the `wait_time` after which it would pass.

        Args:
            limit: ``"10/minute"``, ``"5 per second"``, ``"100/2h"``, several joined by ``;``, or
                a `Limit`, `TokenBucket`, `MinDelay` or `Calendar`. No period of a limit's length
                ever holds more.
            key: Whose quota it is: a dotted path such as ``"account.id"``, a tuple of such, or a
                function of the call. Without it, all calls share one.
            name: Limits of one name share what was used, wherever they stand.
            scope: Whether each action has the limit to itself, or all of the blueprint or the app
                share it: ``"action"``, ``"blueprint"`` or ``"app"``.
            cost: What a call takes from the limit.
            burst: At most so much at once; the rest is spread evenly.

        Raises:
            ConfigurationError: An argument makes no sense, or the limit can never be met.
        """
        if callable(limit):
            raise ConfigurationError(
                f"{describe_handler(limit)}: @rate_limit takes a limit, as in "
                f'@app.rate_limit("10/minute")'
            )

        def attach(handler: HandlerT) -> HandlerT:
            self._check_setup(handler)
            try:
                declared = declare(limit, key=key, name=name, scope=scope, cost=cost, burst=burst)
            except ConfigurationError as error:
                raise ConfigurationError(f"{describe_handler(handler)}: {error}") from None
            return attach_limit(handler, declared)

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
        self._check_setup(handler)
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

    def _check_setup(self, function: Hook) -> None:
        if self._started:
            raise ConfigurationError(
                f"{describe_handler(function)}: registered after the app has started, so no task "
                f"would ever see it; register it at import, before run() or test_client()"
            )
