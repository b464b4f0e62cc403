"""The decorators that `ProviderApp` and `Blueprint` share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from arbprov._types import (
    AfterTaskHookT,
    BeforeTaskHookT,
    CheckT,
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
from arbprov._utils import describe_handler, unwrap_steps
from arbprov.actions import Action, ActionRegistry, Declared, first_line
from arbprov.checks import CheckRegistry, compile_check
from arbprov.errors import ConfigurationError
from arbprov.hooks import Hooks

if TYPE_CHECKING:
    import datetime as dt

    from arbprov.limits import AnyLimit, Cost, Key, OnStoreError, RateLimit, Scope
    from arbprov.limits.monitors import RateLimitMonitor
    from arbprov.retry import RetryOn, RetryPolicy

__all__ = ["Isolation", "Scaffold"]

Isolation = Literal["thread", "process"]


class Scaffold:
    """Registers actions, limits and hooks.

    Every decorator returns the function as it is. It raises `ConfigurationError` if the function's
    parameters do not match, or if the app has started.
    """

    def __init__(self) -> None:
        self._actions = ActionRegistry()
        self._hooks = Hooks()
        self._checks = CheckRegistry()
        self._started = False
        # Functions given to @rate_limit, by the decorator it returned, until that is applied. One
        # that never is was meant as a handler: a bare @app.rate_limit.
        self._undecorated: dict[Any, Handler] = {}
        self._declared_limits: list[Declared[RateLimit]] = []
        self._declared_retries: list[Declared[RetryPolicy]] = []

    @overload
    def action(self, handler: HandlerT, /) -> HandlerT: ...

    @overload
    def action(
        self,
        name: str | None = None,
        *,
        description: str | None = None,
        payload_schema: object = None,
        account_schema: object = None,
        timeout: float | None = None,
        isolation: Isolation = "thread",
        forbid_extra: bool | None = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> Callable[[HandlerT], HandlerT]: ...

    def action(
        self,
        name: str | Handler | None = None,
        *,
        description: str | None = None,
        payload_schema: object = None,
        account_schema: object = None,
        timeout: float | None = None,
        isolation: Isolation = "thread",
        forbid_extra: bool | None = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> Any:
        """Register a function as an action, with its signature as the payload's schema.

        Each parameter takes the payload field of its name; a default makes the field optional, and
        ``**extra`` takes all other fields. A parameter called `payload` or `account` takes the
        whole object, and one annotated with `TaskContext` takes the context.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... def price(item: str, currency: str = "EUR") -> dict:
        ...     return {"item": item, "currency": currency}
        >>> @app.action("order.place", timeout=10)
        ... async def place_order(ctx: TaskContext, items: list[str]) -> dict:
        ...     return {"order": ctx.id, "items": len(items)}
        >>> client = app.test_client()
        >>> client.call("price", {"item": "tea"}).data
        {'item': 'tea', 'currency': 'EUR'}
        >>> client.call("order.place", {"items": ["tea"]}, id="7").data
        {'order': '7', 'items': 1}

        Args:
            name: The action's name in tasks; the function's name by default.
            description: One sentence; the first line of the docstring by default.
            payload_schema: A class, or a dict of types, that replaces the annotations.
            account_schema: The same for the account.
            timeout: Seconds that the handler may run; the app's `execution_timeout` by default.
            isolation: Where a plain function runs: on a ``"thread"``, or in a ``"process"`` that is
                killed at the deadline and whose crash fails no other task.
            forbid_extra: Whether an unknown field is an error, in the payload and in an account
                that has a type or a schema; by default, the app's `forbid_extra` says it for the
                payload.
            rate_limit_monitor: A limit as code, as with ``@app.rate_limit(monitor)``.

        Returns:
            The function as it is, or a decorator that returns it.

        Raises:
            ConfigurationError: The name is taken, a parameter can't be filled from a payload, an
                annotation can't be resolved, an option is not valid, or the app has started.
        """

        def register(handler: HandlerT) -> HandlerT:
            from arbprov.payload.arguments import compile_binding

            self._check_setup(handler)
            self._check_decorated([handler])
            monitor = rate_limit_monitor
            action = Action(
                name=self._action_name(handler, None if handler is name else name),
                handler=handler,
                binding=compile_binding(
                    handler,
                    payload_schema=payload_schema,
                    account_schema=account_schema,
                    forbid_extra=bool(forbid_extra),
                    forbid_account_extra=bool(forbid_extra),
                ),
                payload_schema=payload_schema,
                account_schema=account_schema,
                forbid_extra=forbid_extra,
                description=first_line(handler) if description is None else description,
                timeout=timeout,
                isolation=isolation,
                limits=() if monitor is None else (self._declare(handler, monitor),),
            )
            self._actions.add(action)
            self._check_limits_are_clear()
            return handler

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
        warn_at: Sequence[float] | None = None,
        store: object = None,
        on_store_error: OnStoreError = "local",
        shadow: bool = False,
        manual: bool = False,
    ) -> Callable[[HandlerT], HandlerT]:
        """Limit how often an action runs. Limits stack, above or below `action`.

        All limits of a call are one decision: all are charged, or none is. A refused task ends
        with status ``limit`` and the `wait_time` after which it would be admitted.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... @app.rate_limit("1000/hour", key="account.id")
        ... @app.rate_limit("1/second")
        ... def search(text: str) -> dict:
        ...     return {"text": text}
        >>> client = app.test_client()
        >>> client.call("search", {"text": "tea"}, account={"id": 1}).status
        <Status.SUCCESS: 'success'>
        >>> refused = client.call("search", {"text": "tea"}, account={"id": 2})
        >>> refused.status, refused.wait_time
        (<Status.LIMIT: 'limit'>, 1.0)

        Args:
            limit: ``"10/minute"``, ``"5 per second"``, ``"100/2h"``, several joined by ``;``, a
                `Limit`, `TokenBucket`, `MinDelay`, `Calendar` or `Concurrency`, a
                `RateLimitMonitor`, or a function of the call that returns a text or a limit. No
                period of a limit's length ever holds more calls.
            key: Whose quota is charged: a dotted path such as ``"account.id"``, a tuple of paths,
                or a function of the call. All calls share one quota by default.
            name: Limits of the same name share their count, on any action, if limit and key are the
                same (the same object, for functions).
            scope: Whether each ``"action"`` has the limit to itself, or all actions of the
                ``"blueprint"`` or the ``"app"`` share it.
            cost: How much a call takes from the limit, or a function of the call that returns it.
            burst: The most that is admitted at once; the rest is spread evenly.
            max_wait: Seconds that a task may wait for its turn, first come, first served. At most
                half of the app's `concurrency` waits; further tasks are refused.
            warn_at: Shares of the limit; reaching one logs a warning. By default 0.8 and 0.95, and
                none for a `Concurrency`, whose places are there to be used.
            store: Where the count is kept: ``"redis://..."`` or a Redis client, to share it with
                other processes; the app's `rate_limit_store` by default, else memory.
            on_store_error: What to do while the store is away: ``"local"`` limits each process to
                its share, ``"closed"`` refuses all calls, ``"open"`` admits all.
            shadow: Whether to only count, without refusing.
            manual: Whether the handler charges the limit itself, with ``ctx.limits.acquire(name)``
                before each call of an API; the task then is charged nothing. It needs a `name`.

        Returns:
            A decorator that declares the limit and returns the function as it is.

        Raises:
            ConfigurationError: An argument is not valid, the limit can never be met, the function
                is two actions, or the app has started. At the start of the app: the function is
                not an action of this app or blueprint.
        """

        def attach(handler: HandlerT) -> HandlerT:
            self._undecorated.pop(attach, None)
            self._check_setup(handler)
            declared = self._declare(
                handler,
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
                manual=manual,
            )
            self._declared_limits.append(Declared(handler, declared))
            self._check_limits_are_clear()
            return handler

        if inspect.isfunction(limit):
            self._undecorated[attach] = limit
        return attach

    @overload
    def check(self, function: CheckT, /) -> CheckT: ...

    @overload
    def check(
        self, name: str | None = None, *, timeout: float = 10.0
    ) -> Callable[[CheckT], CheckT]: ...

    def check(self, name: str | Handler | None = None, *, timeout: float = 10.0) -> Any:
        """Register a function that finds out whether tasks could be done; see ``arbprov check``.

        It checks credentials and reachability, and runs only by that command: after the startup
        hooks, within the lifespan. It fails if it raises an exception or returns False.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.check
        ... def credentials(account: dict) -> None:
        ...     if not account.get("key"):
        ...         raise ValueError("the account has no key")
        >>> [check.name for check in app.checks()]
        ['credentials']

        Args:
            name: The check's name in what the command prints; the function's name by default.
            timeout: Seconds that it may take.

        Returns:
            The function as it is, or a decorator that returns it. It is plain or async, takes
            `account`, a `TaskContext`, both or nothing, and returns None, True or False.

        Raises:
            ConfigurationError: The name is taken, the function has other parameters, an option is
                not valid, or the app has started.
        """

        def register(function: CheckT) -> CheckT:
            self._check_setup(function)
            given = self._action_name(function, None if function is name else name, "check")
            self._checks.add(compile_check(given, function, timeout))
            return function

        return register(name) if callable(name) else register

    def retry(
        self,
        *,
        on: RetryOn,
        attempts: int | None = 10,
        timeout: float | dt.timedelta | None = 45.0,
        wait_initial: float | dt.timedelta = 0.1,
        wait_max: float | dt.timedelta = 5.0,
        wait_jitter: float | dt.timedelta = 1.0,
        wait_exp_base: float = 2.0,
    ) -> Callable[[HandlerT], HandlerT]:
        """Decorate an action: its handler is tried again after some errors.

        The arguments mean what they mean in the package stamina. No try begins after the action's
        timeout, which counts from the first try. Each try charges the limits again: if they refuse
        it beyond their `max_wait`, the task ends with status ``limit``. A task that waits for its
        next try holds no thread, but its slot. Hooks run once around all tries. `RateLimited` is
        never retried. ``ctx.attempt`` is the number of the try.

        >>> from arbprov import ProviderApp, TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.action(timeout=30)
        ... @app.retry(on=ConnectionError, attempts=3)
        ... def price(ctx: TaskContext, article: str) -> dict:
        ...     if ctx.attempt < 3:
        ...         raise ConnectionError("the API hung up")
        ...     return {"price": 3.5, "tries": ctx.attempt}
        >>> app.test_client().call("price", {"article": "tea"}).data
        {'price': 3.5, 'tries': 3}

        Args:
            on: The exception class or classes, or a function of the error that returns whether it
                is retried: True, False, or the seconds to wait.
            attempts: The most tries, the first included; None for no maximum.
            timeout: Seconds from the first try, after which there is no other; None for none.
            wait_initial: Seconds before the second try.
            wait_max: The most seconds before a try.
            wait_jitter: The most seconds that are added at random.
            wait_exp_base: The factor between two waits.

        Returns:
            A decorator that declares the retries and returns the function as it is.

        Raises:
            ConfigurationError: An argument is not valid, the function has retries already, or the
                app has started. At the start of the app: the function is not an action of this app
                or blueprint.
        """
        from arbprov.retry import RetryPolicy

        def attach(handler: HandlerT) -> HandlerT:
            self._check_setup(handler)
            try:
                policy = RetryPolicy(
                    on,
                    attempts,
                    timeout,
                    wait_initial,
                    wait_max,
                    wait_jitter,
                    wait_exp_base,
                )
            except ConfigurationError as error:
                raise ConfigurationError(f"{describe_handler(handler)}: {error}") from None
            if any(declared.function == handler for declared in self._declared_retries):
                raise ConfigurationError(
                    f"{describe_handler(handler)}: it has @retry twice; give one of them all "
                    f"exceptions, as in on=(TimeoutError, ConnectionError)"
                )
            self._declared_retries.append(Declared(handler, policy))
            return handler

        return attach

    def on_startup(self, hook: LifecycleHookT) -> LifecycleHookT:
        """Call a function before the first poll, once per process.

        What tasks share and what has an end, such as an HTTP client, is better held by a
        `ProviderApp.lifespan`. An error ends the provider before it takes a task.

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

    def _declare(self, handler: Handler, limit: AnyLimit, **options: Any) -> RateLimit:
        from arbprov.limits import declare

        try:
            return declare(limit, **options)
        except ConfigurationError as error:
            raise ConfigurationError(f"{describe_handler(handler)}: {error}") from None

    def _check_limits_are_clear(self) -> None:
        """Refuse a limit on a function that is two actions, since it would limit both.

        Raises:
            ConfigurationError: There is such a limit.
        """
        for declared in self._declared_limits:
            names = [action.name for action in self._actions if declared.applies_to(action.handler)]
            if len(names) > 1:
                raise ConfigurationError(
                    f"{describe_handler(declared.function)}: the rate limit {declared.value} would "
                    f"limit the actions {' and '.join(map(repr, names))}, which are the same "
                    f"function; define a function for each, so that each has its own limits"
                )

    def _check_limits_are_used(self, actions: Collection[Action]) -> None:
        """Refuse a limit that no action has.

        Args:
            actions: The actions that this app or blueprint may limit.

        Raises:
            ConfigurationError: There is such a limit.
        """
        for declared in self._declared_limits:
            if any(declared.applies_to(action.handler) for action in actions):
                continue
            inside = {id(step) for step in unwrap_steps(declared.function)}
            wrapped = [action.name for action in actions if id(action.handler) in inside]
            raise ConfigurationError(
                f"{describe_handler(declared.function)}: the rate limit {declared.value} limits "
                + (
                    f"nothing: it decorates a wrapper around the action {wrapped[0]!r}, and tasks "
                    f"call the function inside; move @action to the top of the decorators"
                    if wrapped
                    else f"nothing: this is not an action of {self!r}; decorate the function with "
                    f"its @action too, or remove the limit"
                )
            )

    def _check_retries_are_used(self, actions: Collection[Action]) -> None:
        """Refuse retries that no action has.

        Args:
            actions: The actions of this app or blueprint.

        Raises:
            ConfigurationError: There are such retries.
        """
        for declared in self._declared_retries:
            if not any(declared.applies_to(action.handler) for action in actions):
                raise ConfigurationError(
                    f"{describe_handler(declared.function)}: @retry retries nothing: this is not "
                    f"an action of {self!r}; decorate the function with its @action too, above all "
                    f"other decorators"
                )

    def _find_retry(self, action: Action, timeout: float) -> RetryPolicy | None:
        """Return the retries of an action, and warn if its timeout leaves no time for them.

        Args:
            action: The action.
            timeout: Seconds that all of its tries may take together.
        """
        import logging

        declared = [d.value for d in self._declared_retries if d.applies_to(action.handler)]
        if not declared:
            return None
        policy = declared[0]
        if (total := policy.least_total()) >= timeout:
            logging.getLogger("arbprov").warning(
                "%s: the waits between the tries of the action %r take %g s at least, and its "
                "timeout is %g s, so the last tries never begin; raise its timeout, or lower "
                "attempts or wait_initial",
                describe_handler(action.handler),
                action.name,
                total,
                timeout,
            )
        return policy

    def _check_decorated(self, decorators: Iterable[Any]) -> None:
        for decorator in decorators:
            if (function := self._undecorated.get(decorator)) is not None:
                raise ConfigurationError(
                    f"{describe_handler(function)}: @rate_limit takes a limit, as in "
                    f'@app.rate_limit("10/minute")'
                )

    def _action_name(self, handler: Handler, name: Any, kind: str = "action") -> str:
        given = getattr(handler, "__name__", "") if name is None else name
        if not isinstance(given, str) or given in ("", "<lambda>"):
            article = "an" if kind == "action" else "a"
            raise ConfigurationError(
                f"{describe_handler(handler)}: {article} {kind} needs a name; write "
                f'@app.{kind}("name")'
            )
        return given

    def _add_hook(self, kind: str, hook: HookT) -> HookT:
        self._check_setup(hook)
        self._hooks.add(kind, hook)
        return hook

    def _start(self) -> None:
        """Refuse registrations from now on.

        Raises:
            ConfigurationError: A bare @rate_limit decorates a function.
        """
        self._check_decorated(list(self._undecorated))
        self._started = True

    def _check_setup(self, function: Hook) -> None:
        if self._started:
            raise ConfigurationError(
                f"{describe_handler(function)}: registered after the app has started, so no task "
                f"would ever see it; register it at import, before run() or test_client()"
            )
