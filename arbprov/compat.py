"""The class-based face of the framework before arbprov; docs/migration.md tells how it is used."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from inspect import Parameter, Signature, signature
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

# What a handler gets by name beside the payload, its fields and the account.
_OFFERED = ("provider", "timezone", "now", "now_utc", "logger")
_CONTEXT = "arbprov_context"
_DEFAULTS = {"hub_url": "hub-grpc:50051", "execution_timeout": 1, "timezone": "UTC"}
_LOG_OPTIONS = {"exc_info", "stack_info", "stacklevel", "extra"}
_LOG_LINE = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class Actions:
    """A provider's actions and their limits, until its `app` is made of them."""

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
        """Register a function as an action; without a schema, any payload and account will do."""
        options = {
            "description": description,
            "payload_schema": payload_schema,
            "account_schema": account_schema,
            "rate_limit_monitor": rate_limit_monitor or self._default,
        }
        return functools.partial(self._put, name, options)

    def set_rate_limit(self, action_name: str, min_delay: float = 1.0) -> None:
        """Keep `min_delay` seconds between the calls of an action, instead of its former limit."""
        self.set_custom_rate_limit(action_name, TimeBasedRateLimitMonitor(min_delay))

    def set_default_rate_limit(self, min_delay: float = 1.0) -> None:
        """Do so for all actions together that are registered later, with no limit of their own."""
        self._default = TimeBasedRateLimitMonitor(min_delay)

    def set_custom_rate_limit(self, action_name: str, monitor: RateLimitMonitor) -> None:
        """Limit an action by `monitor`, instead of its former limit."""
        if action_name not in self.registered:
            raise ConfigurationError(f"there is no action {action_name!r} to limit; register it")
        handler, options = self.registered[action_name]
        self._put(action_name, options | {"rate_limit_monitor": monitor}, handler)

    def _put(self, name: str, options: dict[str, Any], handler: HandlerT) -> HandlerT:
        if self.is_final:
            raise ConfigurationError(f"action {name!r}: too late, the provider's app is made")
        self.registered[name] = handler, options
        return handler


class Provider:
    """A provider to subclass: its ``__init__`` calls this one, and then registers its actions.

    Handlers run one at a time, as they used to, unless ``ARBPROV_CONCURRENCY`` is set. An argument
    that is left out, or is the default, is left to its variable.

    Args:
        name: The provider's name.
        auth_token: The hub's token (``PROVIDER_AUTH_TOKEN``); needed to start.
        hub_url: The hub (``HUB_GRPC_URL``).
        execution_timeout: Seconds that a handler may run (``TASK_EXECUTION_TIMEOUT``).
        rate_limit_monitor: A limit that all actions share.
        timezone: Of the time in results (``PROVIDER_TIMEZONE``).
        log_file: Where arbprov's log goes too: 10 MiB, and five former files of that size.
        log_level: The lowest level of arbprov's log that is shown, unless one is set already.
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
        """The functional app that this provider is; made at its first use, and final then."""
        with self._lock:
            self._app = self._app or self._make_app()
            return self._app

    def start(self) -> None:
        """Work for the hub until SIGTERM, SIGINT or `stop`; `ProviderApp.run` has the errors."""
        self.app.run()

    def stop(self) -> None:
        """Have `start` finish what it has begun, and return; any thread may call it."""
        self.app.stop()

    def process_task(self, action: str, payload: Any, account: Any = None) -> dict[str, Any]:
        """Run an action here, without a hub but by all limits, and return its envelope."""
        return self.app.invoke(action, payload, account=account).envelope

    def handle_task_exception(self, e: Exception, action: str, payload: Any, account: Any) -> Any:
        """Return a response for what a handler raised; this one leaves that to arbprov."""
        raise e

    _handle_response: Any = staticmethod(lambda response, action="": response)  # overrides call it

    def _make_app(self) -> ProviderApp:
        if type(self).process_task is not Provider.process_task:
            raise ConfigurationError(
                f"{type(self).__name__}.process_task: the hub's tasks skip it; use app.before_task"
            )
        app = ProviderApp(
            self.name,
            auth_token=self.auth_token or None,
            concurrency=None if "ARBPROV_CONCURRENCY" in os.environ else 1,
            rate_limit_monitor=self.rate_limit_monitor,
            **{n: value for n in _DEFAULTS if (value := getattr(self, n)) != _DEFAULTS[n]},
        )
        for name, (handler, options) in self.actions.registered.items():
            app.action(name, **options)(self._adapted(handler, options["payload_schema"]))
        if type(self).handle_task_exception is not Provider.handle_task_exception:
            app.errorhandler(Exception)(self._mended)
        self.actions.is_final = True
        return app

    def _adapted(self, handler: Any, schema: Any) -> Any:
        """Return a handler as arbprov can call it, with what it does not know of added."""
        offered, filled = _told_apart(handler, schema)

        @functools.wraps(handler)
        def call(**given: Any) -> Any:
            config, now = self.app.config, given.pop(_CONTEXT).now
            offer = {
                "provider": {"name": self.name, "token": self.auth_token},
                "timezone": config.timezone,
                "now": now.astimezone(config.tzinfo).isoformat(),
                "now_utc": now.isoformat(),
                "logger": self.logger,
            }
            return handler(**given | {name: offer[name] for name in offered})

        vars(call)["__signature__"] = filled
        return call

    def _mended(self, error: Exception, ctx: TaskContext) -> ProviderResponse:
        if isinstance(error, TaskError):  # such as a payload that was refused
            raise error
        answer = self.handle_task_exception(error, ctx.action, dict(ctx.payload), dict(ctx.account))
        try:
            return answer if isinstance(answer, ProviderResponse) else ProviderResponse(**answer)
        except TypeError:
            wanted = f"{type(self).__name__}.handle_task_exception has to return a ProviderResponse"
            raise TypeError(f"{wanted} or its fields, not {answer!r:.99}") from error


def _told_apart(handler: Any, schema: Any) -> tuple[list[str], Signature]:
    """Return what a handler takes of the offered, and a signature of all that tasks fill."""
    wanted = signature(handler).parameters
    named = {n: p for n, p in wanted.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in wanted.values())
    # Without `payload`, it takes fields by name, and one of them may be called `timezone`.
    fields = named.keys() & schema if isinstance(schema, dict) and "payload" not in named else ()
    offered = [n for n in _OFFERED if n not in fields and (n in named or takes_all)]
    defaults = dict.fromkeys(("payload", "account") if takes_all else (), Parameter.empty)
    defaults |= {n: p.default for n, p in named.items() if n not in offered}
    filled = [Parameter(n, Parameter.KEYWORD_ONLY, default=d) for n, d in defaults.items()]
    filled += [Parameter(_CONTEXT, Parameter.KEYWORD_ONLY, annotation=TaskContext)]
    filled += [Parameter("arbprov_others", Parameter.VAR_KEYWORD)] if takes_all else []
    return offered, Signature(filled)


class _ContextLogger(logging.LoggerAdapter):  # type: ignore[type-arg]
    # Takes context by name, as in `logger.info("sent", rows=5)`.
    def log(self, level: int, msg: Any, /, *args: Any, **context: Any) -> None:  # type: ignore[override]
        options = {"stacklevel": 1} | {n: context.pop(n) for n in _LOG_OPTIONS & context.keys()}
        options["stacklevel"] += 1  # this method is not who logs
        end = "".join(f" {n}={value!r}" for n, value in context.items())
        self.logger.log(level, f"{msg}{end.replace('%', '%%') if args else end}", *args, **options)


def _set_up_log(file: str | None, level: int | str | None) -> None:
    log = logging.getLogger("arbprov")
    log.setLevel(log.level or level or logging.NOTSET)
    path = os.path.abspath(file or "")
    if file and path not in [getattr(handler, "baseFilename", "") for handler in log.handlers]:
        # The one for the file alone would keep arbprov from writing to stderr.
        others: list[Any] = [] if log.hasHandlers() else [logging.StreamHandler()]
        for handler in (*others, RotatingFileHandler(path, "a", 10 * 2**20, 5, "utf-8", True)):
            handler.setFormatter(_LOG_LINE)
            log.addHandler(handler)
