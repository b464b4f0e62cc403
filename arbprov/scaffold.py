"""The decorators that an app and a blueprint have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from arbprov._types import (
    AfterTaskHookT,
    BeforeTaskHookT,
    DisconnectHookT,
    ErrorHandlerT,
    Handler,
    HandlerT,
    Hook,
    HookT,
    LifecycleHookT,
    SubmitFailedHookT,
    TeardownTaskHookT,
)
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

    def on_startup(self, hook: LifecycleHookT) -> LifecycleHookT:
        """Call a function before the first poll, once per process.

        Open here what all tasks share: a connection pool, an HTTP client, a model. An error ends
        the provider before it takes a task.

        >>> from arbprov import ProviderApp
        >>> app, prices = ProviderApp("shop"), {}
        >>> @app.on_startup
        ... def load_prices():
        ...     prices["tea"] = 3.5
        >>> with app.test_client():
        ...     prices
        {'tea': 3.5}

        Args:
            hook: A plain or async function without arguments.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function has required parameters, or the app has started.
        """
        return self._add_hook("on_startup", hook)

    def on_shutdown(self, hook: LifecycleHookT) -> LifecycleHookT:
        """Call a function when the provider stops, after the last result was sent.

        Close here what an `on_startup` hook opened. It runs after a failed start too.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.on_shutdown
        ... async def close():
        ...     print("closed")
        >>> with app.test_client():
        ...     pass
        closed

        Args:
            hook: A plain or async function without arguments.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function has required parameters, or the app has started.
        """
        return self._add_hook("on_shutdown", hook)

    def on_connect(self, hook: LifecycleHookT) -> LifecycleHookT:
        """Call a function when the hub answers: the first time, and each time after an outage.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.on_connect
        ... def report():
        ...     print("connected")

        Args:
            hook: A plain or async function without arguments.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function has required parameters, or the app has started.
        """
        return self._add_hook("on_connect", hook)

    def on_disconnect(self, hook: DisconnectHookT) -> DisconnectHookT:
        """Call a function when the connection to the hub is lost.

        The provider reconnects by itself; the hook is for alarms and dashboards.

        >>> from arbprov import HubError, ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.on_disconnect
        ... def report(error: HubError):
        ...     print(f"no hub: {error}")

        Args:
            hook: A plain or async function of the `HubError`.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function's parameters do not match, or the app has started.
        """
        return self._add_hook("on_disconnect", hook)

    def before_task(self, hook: BeforeTaskHookT) -> BeforeTaskHookT:
        """Call a function before each handler; a value other than None answers the task.

        The app's hooks run before the blueprint's, each in the order of registration. After an
        answer, neither the handler nor further `before_task` hooks run.

        >>> from arbprov import ProviderApp, ProviderResponse, TaskContext
        >>> app = ProviderApp("shop")
        >>> _ = app.action("price")(lambda item: {"item": item})
        >>> @app.before_task
        ... def require_customer(ctx: TaskContext):
        ...     if "customer" not in ctx.account:
        ...         return ProviderResponse("error", message="The account has no customer")
        >>> app.test_client().call("price", {"item": "tea"}).message
        'The account has no customer'

        Args:
            hook: A plain or async function of the `TaskContext`.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function's parameters do not match, or the app has started.
        """
        return self._add_hook("before_task", hook)

    def after_task(self, hook: AfterTaskHookT) -> AfterTaskHookT:
        """Call a function with each result, errors and refusals included, before it is sent.

        The returned `TaskResult` replaces it. The blueprint's hooks run before the app's, each in
        reverse order of registration.

        >>> import attrs
        >>> from arbprov import ProviderApp, TaskResult
        >>> app = ProviderApp("shop")
        >>> _ = app.action("price")(lambda item: {"item": item})
        >>> @app.after_task
        ... def add_currency(result: TaskResult):
        ...     return attrs.evolve(result, data={"currency": "EUR", **result.data})
        >>> app.test_client().call("price", {"item": "tea"}).data
        {'currency': 'EUR', 'item': 'tea'}

        Args:
            hook: A plain or async function of the `TaskResult` and the `TaskContext`; it returns a
                `TaskResult`.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function's parameters do not match, or the app has started.
        """
        return self._add_hook("after_task", hook)

    def teardown_task(self, hook: TeardownTaskHookT) -> TeardownTaskHookT:
        """Call a function at the end of each task, however it ended.

        Release here what a `before_task` hook took. The blueprint's hooks run before the app's,
        each in reverse order of registration.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> _ = app.action("price")(lambda item: {"item": item})
        >>> @app.teardown_task
        ... def report(error, ctx):
        ...     print(ctx.action, type(error).__name__)
        >>> _ = app.test_client().call("price")
        price InvalidPayloadError

        Args:
            hook: A plain or async function of the exception, which is None after a success, and
                the `TaskContext`.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function's parameters do not match, or the app has started.
        """
        return self._add_hook("teardown_task", hook)

    def on_submit_failed(self, hook: SubmitFailedHookT) -> SubmitFailedHookT:
        """Call a function when the hub refuses a result permanently.

        It is the last chance to save the result. With a spool, the result is also kept there as a
        dead letter.

        >>> from arbprov import HubError, ProviderApp, TaskResult
        >>> app = ProviderApp("shop")
        >>> @app.on_submit_failed
        ... def save(result: TaskResult, error: HubError):
        ...     print(f"{result.id} was refused: {error}")

        Args:
            hook: A plain or async function of the `TaskResult` and the `HubError`.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function's parameters do not match, or the app has started.
        """
        return self._add_hook("on_submit_failed", hook)

    def errorhandler(
        self, exception: type[BaseException]
    ) -> Callable[[ErrorHandlerT], ErrorHandlerT]:
        """Answer a task with a function when its handler raises an exception.

        The function for the nearest class in the exception's MRO is called; a blueprint's come
        before the app's. Refused tasks are included: see `InvalidPayloadError`, `RateLimited`.

        >>> from arbprov import ProviderApp, ProviderResponse
        >>> app = ProviderApp("shop")
        >>> _ = app.action("price")(lambda item: {"tea": 3.5}[item])
        >>> @app.errorhandler(KeyError)
        ... def unknown(error: KeyError):
        ...     return ProviderResponse("warning", message=f"There is no {error}")
        >>> app.test_client().call("price", {"item": "milk"}).message
        "There is no 'milk'"

        Args:
            exception: The class to answer for; its subclasses are included.

        Returns:
            A decorator for a plain or async function of the exception and the `TaskContext`. It
            returns the function as it is; what the function returns is the task's answer.

        Raises:
            ConfigurationError: `exception` is not an exception class, the function's parameters
                do not match, or the app has started.
        """
        if callable(exception) and not isinstance(exception, type):
            raise ConfigurationError(
                f"{describe_handler(exception)}: @errorhandler takes an exception class, as in "
                f"@app.errorhandler(KeyError)"
            )

        def add(handler: ErrorHandlerT) -> ErrorHandlerT:
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
        self._hooks.add(kind, hook)
        return hook

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
