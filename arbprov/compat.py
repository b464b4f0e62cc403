"""Class-based providers, as in the framework before arbprov; docs/migration.md explains their use.

>>> class Shop(Provider):
...     def __init__(self):
...         super().__init__(name="shop")
...         self.actions.register("price", "What an item costs", {"item": str})(self.price)
...
...     def price(self, item):
...         return {"item": item, "price": 3.5}
>>> Shop().app.test_client().call("price", {"item": "tea"}).data
{'item': 'tea', 'price': 3.5}
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
from collections.abc import Callable
from inspect import Parameter
from logging.handlers import RotatingFileHandler
from typing import Any, TypeVar

from arbprov import (
    ActionNotFoundError,
    AdvancedRateLimitMonitor,
    AuthenticationError,
    ConfigurationError,
    InvalidPayloadError,
    ProviderApp,
    ProviderError,
    ProviderResponse,
    RateLimitMonitor,
    TaskContext,
    TaskError,
    TimeBasedRateLimitMonitor,
)
from arbprov import HubConnectionError as ConnectionError  # noqa: A004 - the guide's name

__all__ = [
    "ActionNotFoundError",
    "Actions",
    "AdvancedRateLimitMonitor",
    "AuthenticationError",
    "ConnectionError",
    "InvalidPayloadError",
    "Provider",
    "ProviderError",
    "ProviderResponse",
    "RateLimitMonitor",
    "TimeBasedRateLimitMonitor",
]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

# Arguments that a handler may take besides the payload, its fields and the account.
_EXTRAS = ("provider", "timezone", "now", "now_utc", "logger")
_CONTEXT = "arbprov_context"
_DEFAULTS = {"hub_url": "hub-grpc:50051", "execution_timeout": 1, "timezone": "UTC"}
_LOG_OPTIONS = {"exc_info", "stack_info", "stacklevel", "extra"}
_LOG_LINE = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class Actions:
    """A provider's actions and their limits, until its `app` is made of them.

    >>> actions = Actions()
    >>> _ = actions.register("price", "What an item costs", {"item": str})(lambda item: item)
    >>> actions.set_rate_limit("price", min_delay=0.5)
    """

    def __init__(self) -> None:
        self.registered: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.is_final = False
        self._default: RateLimitMonitor | None = None

    def register(
        self,
        name: str,
        description: str | None = None,
        payload_schema: Any = None,
        account_schema: Any = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> Callable[[HandlerT], HandlerT]:
        """Register a function as an action; without a schema, any payload and account fit.

        >>> provider = Provider("shop")
        >>> @provider.actions.register("price", "What an item costs", {"item": str})
        ... def price(item):
        ...     return {"item": item}

        Args:
            name: The action's name in tasks; it replaces an action of the same name.
            description: One sentence; the first line of the docstring by default.
            payload_schema: A dict of types, or a class.
            account_schema: The same for the account.
            rate_limit_monitor: The action's limit; the default limit by default.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            ConfigurationError: The provider's app is made already.
        """
        options = {
            "description": description,
            "payload_schema": payload_schema,
            "account_schema": account_schema,
            "rate_limit_monitor": rate_limit_monitor or self._default,
        }
        return functools.partial(self._put, name, options)

    def set_rate_limit(self, action_name: str, min_delay: float = 1.0) -> None:
        """Replace an action's limit: keep `min_delay` seconds between its calls.

        >>> provider = Provider("shop")
        >>> _ = provider.actions.register("price")(lambda: 3.5)
        >>> provider.actions.set_rate_limit("price", min_delay=2)
        >>> [provider.process_task("price", {})["status"] for _ in range(2)]
        ['success', 'limit']

        Raises:
            ConfigurationError: There is no such action, or the provider's app is made already.
        """
        self.set_custom_rate_limit(action_name, TimeBasedRateLimitMonitor(min_delay))

    def set_default_rate_limit(self, min_delay: float = 1.0) -> None:
        """Keep `min_delay` seconds between calls of all actions registered later without a limit.

        >>> provider = Provider("shop")
        >>> provider.actions.set_default_rate_limit(2)
        >>> _ = provider.actions.register("price")(lambda: 3.5)
        >>> [provider.process_task("price", {})["status"] for _ in range(2)]
        ['success', 'limit']
        """
        self._default = TimeBasedRateLimitMonitor(min_delay)

    def set_custom_rate_limit(self, action_name: str, monitor: RateLimitMonitor) -> None:
        """Replace an action's limit by `monitor`.

        >>> provider = Provider("shop")
        >>> _ = provider.actions.register("price")(lambda: 3.5)
        >>> monitor = AdvancedRateLimitMonitor(requests_per_minute=60, burst_size=1)
        >>> provider.actions.set_custom_rate_limit("price", monitor)
        >>> [provider.process_task("price", {})["status"] for _ in range(2)]
        ['success', 'limit']

        Raises:
            ConfigurationError: There is no such action, or the provider's app is made already.
        """
        if action_name not in self.registered:
            raise ConfigurationError(
                f"there is no action {action_name!r} to limit; register it first"
            )
        handler, options = self.registered[action_name]
        self._put(action_name, options | {"rate_limit_monitor": monitor}, handler)

    def _put(self, name: str, options: dict[str, Any], handler: HandlerT) -> HandlerT:
        if self.is_final:
            raise ConfigurationError(
                f"action {name!r}: too late, since the provider's app is made; register and limit "
                f"all actions before the first use of `app` or `start`"
            )
        self.registered[name] = handler, options
        return handler


class Provider:
    """A provider to subclass; the subclass registers its actions after ``super().__init__``.

    Handlers run one at a time, unless ``ARBPROV_CONCURRENCY`` is set. An environment variable
    applies where its argument is left out or equals the default.

    Args:
        name: The provider's name.
        auth_token: The hub's token (``PROVIDER_AUTH_TOKEN``); required to start.
        hub_url: The hub (``HUB_GRPC_URL``).
        execution_timeout: Seconds that a handler may run (``TASK_EXECUTION_TIMEOUT``).
        rate_limit_monitor: A limit that all actions share.
        timezone: The time zone of the time in results (``PROVIDER_TIMEZONE``).
        log_file: A file for arbprov's log, besides stderr: 10 MiB, and five older files.
        log_level: The lowest level that arbprov logs, unless its logger has a level already.
    """

    def __init__(
        self,
        name: str,
        auth_token: str | None = None,
        hub_url: str = "hub-grpc:50051",
        execution_timeout: float = 1,
        rate_limit_monitor: RateLimitMonitor | None = None,
        timezone: str = "UTC",
        log_file: str | None = None,
        log_level: int | str | None = None,
    ) -> None:
        self.name = name
        self.auth_token = auth_token
        self.hub_url = hub_url
        self.execution_timeout = execution_timeout
        self.rate_limit_monitor = rate_limit_monitor
        self.timezone = timezone
        self.actions = Actions()
        self.logger: Any = _ContextLogger(logging.getLogger(f"arbprov.{name}"), {})
        self._app: ProviderApp | None = None
        self._lock = threading.Lock()
        _set_up_log(log_file, log_level)

    @property
    def app(self) -> ProviderApp:
        """The provider's `ProviderApp`: made at the first use, and final from then on.

        >>> Provider("shop").app
        <ProviderApp 'shop'>

        Raises:
            ConfigurationError: A setting or an action is not valid, or `process_task` is
                overridden.
        """
        with self._lock:
            self._app = self._app or self._make_app()
            return self._app

    def start(self) -> None:
        """Run tasks of the hub until SIGTERM, SIGINT or `stop`.

        >>> provider = Provider("shop", "sample-token", hub_url="127.0.0.1:1")
        >>> provider.stop()  # from another thread, or from a signal handler
        >>> provider.start()

        Raises:
            ProviderError: See `ProviderApp.run`.
        """
        self.app.run()

    def stop(self) -> None:
        """Let `start` finish its running tasks and return; safe to call from any thread.

        >>> Provider("shop").stop()  # a later start returns at once
        """
        self.app.stop()

    def process_task(self, action: str, payload: Any, account: Any = None) -> dict[str, Any]:
        """Run an action without a hub, within all limits, and return its envelope.

        >>> provider = Provider("shop")
        >>> _ = provider.actions.register("price")(lambda: 3.5)
        >>> provider.process_task("price", {})["data"]["response"]
        3.5
        """
        return self.app.invoke(action, payload, account=account).envelope

    def handle_task_exception(self, e: Exception, action: str, payload: Any, account: Any) -> Any:
        """Return the response to a handler's exception; override it to choose.

        >>> class Shop(Provider):
        ...     def handle_task_exception(self, e, action, payload, account):
        ...         return ProviderResponse("warning", message=f"{action} failed")
        >>> shop = Shop("shop")
        >>> _ = shop.actions.register("price")(lambda: 1 / 0)
        >>> shop.process_task("price", {})["message"]
        'price failed'

        Args:
            e: The exception; a `TaskError` of arbprov never comes here.
            action: The action's name.
            payload: The payload, before any typing.
            account: The account, likewise.

        Returns:
            A `ProviderResponse`, or a dict of its arguments.

        Raises:
            Exception: `e`, for arbprov's error result; the base class always does.
        """
        raise e

    # Overrides of `handle_task_exception` call this.
    _handle_response: Any = staticmethod(lambda response, action="": response)

    def _make_app(self) -> ProviderApp:
        if type(self).process_task is not Provider.process_task:
            raise ConfigurationError(
                f"{type(self).__name__}.process_task: tasks of the hub do not pass through it, so "
                f"it can't be overridden; use provider.app.before_task"
            )
        app = ProviderApp(
            self.name,
            auth_token=self.auth_token or None,
            concurrency=None if "ARBPROV_CONCURRENCY" in os.environ else 1,
            rate_limit_monitor=self.rate_limit_monitor,
            **{n: value for n in _DEFAULTS if (value := getattr(self, n)) != _DEFAULTS[n]},
        )
        for name, (handler, options) in self.actions.registered.items():
            app.action(name, **options)(self._adapt(handler, options["payload_schema"]))
        if type(self).handle_task_exception is not Provider.handle_task_exception:
            app.errorhandler(Exception)(self._handle_error)
        self.actions.is_final = True
        return app

    def _adapt(self, handler: Any, schema: Any) -> Any:
        """Return a function that arbprov can call, which adds the class-based arguments."""
        wanted, signature = _split_parameters(handler, schema)

        @functools.wraps(handler)
        def call(**given: Any) -> Any:
            config, now = self.app.config, given.pop(_CONTEXT).now
            extras = {
                "provider": {"name": self.name, "token": self.auth_token},
                "timezone": config.timezone,
                "now": now.astimezone(config.tzinfo).isoformat(),
                "now_utc": now.isoformat(),
                "logger": self.logger,
            }
            return handler(**given | {name: extras[name] for name in wanted})

        vars(call)["__signature__"] = signature
        return call

    def _handle_error(self, error: Exception, ctx: TaskContext) -> ProviderResponse:
        if isinstance(error, TaskError):  # such as a refused payload
            raise error
        answer = self.handle_task_exception(error, ctx.action, dict(ctx.payload), dict(ctx.account))
        try:
            return answer if isinstance(answer, ProviderResponse) else ProviderResponse(**answer)
        except TypeError:
            raise TypeError(
                f"{type(self).__name__}.handle_task_exception must return a ProviderResponse or a "
                f"dict of its arguments, not {answer!r:.99}"
            ) from error


def _split_parameters(handler: Any, schema: Any) -> tuple[list[str], inspect.Signature]:
    """Return the names of the extras that a handler takes, and the signature that tasks fill."""
    parameters = inspect.signature(handler).parameters
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    # A handler without `payload` takes fields by name, and a field may be called `timezone`.
    fields = named.keys() & schema if isinstance(schema, dict) and "payload" not in named else ()
    extras = [n for n in _EXTRAS if n not in fields and (n in named or takes_all)]
    defaults = dict.fromkeys(("payload", "account") if takes_all else (), Parameter.empty)
    defaults |= {n: p.default for n, p in named.items() if n not in extras}
    filled = [Parameter(n, Parameter.KEYWORD_ONLY, default=d) for n, d in defaults.items()]
    filled += [Parameter(_CONTEXT, Parameter.KEYWORD_ONLY, annotation=TaskContext)]
    filled += [Parameter("arbprov_others", Parameter.VAR_KEYWORD)] if takes_all else []
    return extras, inspect.Signature(filled)


class _ContextLogger(logging.LoggerAdapter):  # type: ignore[type-arg]
    # Takes context by name, as in `logger.info("sent", rows=5)`.
    def log(self, level: int, msg: Any, /, *args: Any, **context: Any) -> None:  # type: ignore[override]
        options = {"stacklevel": 1} | {n: context.pop(n) for n in _LOG_OPTIONS & context.keys()}
        options["stacklevel"] += 1  # the record names this method's caller
        end = "".join(f" {n}={value!r}" for n, value in context.items())
        self.logger.log(level, f"{msg}{end.replace('%', '%%') if args else end}", *args, **options)


def _set_up_log(file: str | None, level: int | str | None) -> None:
    log = logging.getLogger("arbprov")
    log.setLevel(log.level or level or logging.NOTSET)
    path = os.path.abspath(file or "")
    if file and path not in [getattr(handler, "baseFilename", "") for handler in log.handlers]:
        # With only the file's handler, arbprov would stop writing to stderr.
        others: list[Any] = [] if log.hasHandlers() else [logging.StreamHandler()]
        for handler in (*others, RotatingFileHandler(path, "a", 10 * 2**20, 5, "utf-8", True)):
            handler.setFormatter(_LOG_LINE)
            log.addHandler(handler)
