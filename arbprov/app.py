"""`ProviderApp`: an author's entry point, which puts all parts together."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._types import Clock, LifespanT
from arbprov._utils import describe_handler, suggest_name
from arbprov.actions import Action, ActionRegistry
from arbprov.blueprint import Blueprint, shared_limits
from arbprov.checks import Check, CheckRegistry
from arbprov.config import Config, load_config
from arbprov.context import NO_LIFESPAN, NOT_ENTERED
from arbprov.errors import ConfigurationError
from arbprov.executors.forking import ForkGuard, check_not_in_handler_process, importing_grpc
from arbprov.hooks import Hooks, TaskHooks
from arbprov.scaffold import Scaffold
from arbprov.wire.tokens import Token, TokenSource
from arbprov.worker.stopping import StopSignal

if TYPE_CHECKING:
    from arbprov.dispatcher import Dispatcher, Route
    from arbprov.limits import (
        AnyLimit,
        Limiter,
        LimitStats,
        OpenStore,
        RateLimit,
        WorkerPlace,
    )
    from arbprov.limits.monitors import RateLimitMonitor
    from arbprov.payload.arguments import Binding
    from arbprov.payload.serialize import TaskData
    from arbprov.task import TaskResult
    from arbprov.testing import TestClient, VirtualClock
    from arbprov.worker.monitoring import Report

__all__ = ["ProviderApp", "importing_app"]

_being_imported: list[str] = []


class ProviderApp(Scaffold):
    """A provider: its actions, limits, hooks and settings.

    >>> app = ProviderApp("weather")
    >>> @app.action
    ... def forecast(city: str, days: int = 3) -> dict:
    ...     return {"city": city, "days": days}
    >>> app.test_client().call("forecast", {"city": "Paris"}).data
    {'city': 'Paris', 'days': 3}

    Arguments override environment variables, which override defaults. Times are in seconds.

    Args:
        name: The provider's name (``PROVIDER_NAME``).
        auth_token: The hub's token (``PROVIDER_AUTH_TOKEN`` or ``PROVIDER_AUTH_TOKEN_FILE``), or a
            plain function that returns it. The function is called, and the file is read, when `run`
            starts and each time that the hub refuses the token.
        hub_url: The hub's address: ``host:port``, ``grpcs://host:port`` or ``unix:path``
            (``HUB_GRPC_URL``).
        hub_tls: Whether to speak TLS to the hub (``HUB_GRPC_TLS``); the next four arguments turn it
            on too.
        hub_tls_ca: File of the CA that signs the hub's certificate (``HUB_GRPC_TLS_CA``).
        hub_tls_cert: File of the provider's certificate (``HUB_GRPC_TLS_CERT``).
        hub_tls_key: File of the certificate's private key (``HUB_GRPC_TLS_KEY``).
        hub_tls_server_name: Host name in the hub's certificate, if it differs from the URL's
            (``HUB_GRPC_TLS_SERVER_NAME``).
        execution_timeout: How long a handler may run (``TASK_EXECUTION_TIMEOUT``, 1).
        timezone: Time zone of the envelope's local time (``PROVIDER_TIMEZONE``, UTC).
        concurrency: Tasks in flight at once (``ARBPROV_CONCURRENCY``, 32).
        drain_timeout: How long a stop may take (``ARBPROV_DRAIN_TIMEOUT``, 25).
        start_timeout: How long to wait for the hub at the start (``ARBPROV_START_TIMEOUT``, 30).
        poll_timeout: How long the hub may hold a poll (``ARBPROV_POLL_TIMEOUT``, 60).
        submit_timeout: How long one attempt to send a result may take
            (``ARBPROV_SUBMIT_TIMEOUT``, 30).
        max_message_size: Bytes of the largest task to accept (``ARBPROV_MAX_MESSAGE_SIZE``,
            64 MiB).
        forbid_extra: Whether an unknown field of a payload is an error (``ARBPROV_FORBID_EXTRA``);
            an action's own `forbid_extra` overrides it.
        spool: File that keeps tasks and results over a restart (``ARBPROV_SPOOL``).
        rate_limit: Limit that all actions share.
        rate_limit_monitor: Limit that all actions share, written as code: an instance of a subclass
            of `RateLimitMonitor`.
        rate_limit_store: Store that shares the limits' counts with other processes:
            ``"redis://..."`` or a Redis client (``ARBPROV_RATE_LIMIT_STORE``).
        rate_limit_namespace: Namespace of the limits in that store, the provider's name by default
            (``ARBPROV_RATE_LIMIT_NAMESPACE``). Providers of the same namespace share the limits
            that have the same `name`.
        monitoring: ``"HOST:PORT"`` where a run serves ``/livez``, ``/readyz``, ``/startupz`` and
            ``/metrics``; nothing is served by default.

    Raises:
        ConfigurationError: A setting is invalid; the message names its variable or argument.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        auth_token: TokenSource | None = None,
        hub_url: str | None = None,
        hub_tls: bool | None = None,
        hub_tls_ca: str | None = None,
        hub_tls_cert: str | None = None,
        hub_tls_key: str | None = None,
        hub_tls_server_name: str | None = None,
        execution_timeout: float | None = None,
        timezone: str | None = None,
        concurrency: int | None = None,
        drain_timeout: float | None = None,
        start_timeout: float | None = None,
        poll_timeout: float | None = None,
        submit_timeout: float | None = None,
        max_message_size: int | None = None,
        forbid_extra: bool | None = None,
        spool: str | os.PathLike[str] | None = None,
        rate_limit: AnyLimit | None = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
        rate_limit_store: object = None,
        rate_limit_namespace: str | None = None,
        monitoring: str | None = None,
    ) -> None:
        super().__init__()
        is_url = isinstance(rate_limit_store, str)
        self.config: Config = load_config(
            {
                "name": name,
                "auth_token": auth_token,
                "hub_url": hub_url,
                "hub_tls": hub_tls,
                "hub_tls_ca": hub_tls_ca,
                "hub_tls_cert": hub_tls_cert,
                "hub_tls_key": hub_tls_key,
                "hub_tls_server_name": hub_tls_server_name,
                "execution_timeout": execution_timeout,
                "timezone": timezone,
                "concurrency": concurrency,
                "drain_timeout": drain_timeout,
                "start_timeout": start_timeout,
                "poll_timeout": poll_timeout,
                "submit_timeout": submit_timeout,
                "max_message_size": max_message_size,
                "forbid_extra": forbid_extra,
                "spool": None if spool is None else os.fspath(spool),
                "rate_limit_store": rate_limit_store if is_url else None,
                "rate_limit_namespace": rate_limit_namespace,
                "monitoring": monitoring,
            }
        )
        self._limits = shared_limits(
            "app",
            f"app {self.name!r}",
            rate_limit=rate_limit,
            rate_limit_monitor=rate_limit_monitor,
        )
        self._blueprints: dict[str, Blueprint] = {}
        self._stop = StopSignal()
        self._live: Dispatcher | None = None
        self._making_live = threading.RLock()
        self._store_client = None if is_url else rate_limit_store
        # As one of the workers of `arbprov run`: they share limits though the store is away.
        self._worker_place: WorkerPlace | None = None
        self._home = ForkGuard(repr(self))

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.config.name

    def __repr__(self) -> str:
        return f"<ProviderApp {self.name!r}>"

    def register_blueprint(self, blueprint: Blueprint) -> None:
        """Add a blueprint's actions, limits and hooks.

        Raises:
            ConfigurationError: The app has a blueprint of that name already, or it has started.

        >>> app, reports = ProviderApp("weather"), Blueprint("reports", prefix="reports.")
        >>> @reports.action
        ... def daily() -> str:
        ...     return "sunny"
        >>> app.register_blueprint(reports)
        >>> app.test_client().call("reports.daily").data
        'sunny'
        """
        if self._started:
            raise ConfigurationError(f"{blueprint!r} comes too late: the app has started already")
        if self._blueprints.setdefault(blueprint.name, blueprint) is not blueprint:
            raise ConfigurationError(
                f"there is a blueprint {blueprint.name!r} already; give this one another name"
            )

    def lifespan(self, function: LifespanT) -> LifespanT:
        """Hold open what all tasks share: what a context manager yields is their `ctx.state`.

        `run` enters it in each worker's process, on the event loop, before the startup hooks, and
        leaves it after the shutdown hooks, also after a failed start. ``with app.test_client()``
        does the same; `invoke` does not.

        >>> import contextlib
        >>> from arbprov import TaskContext
        >>> app = ProviderApp("shop")
        >>> @app.lifespan
        ... @contextlib.contextmanager
        ... def load_prices():
        ...     yield {"tea": 3.5}
        ...     print("closed")
        >>> @app.action
        ... def price(ctx: TaskContext[dict[str, float]], item: str) -> float:
        ...     return ctx.state[item]
        >>> with app.test_client() as client:
        ...     client.call("price", {"item": "tea"}).data
        3.5
        closed

        Args:
            function: A generator without required parameters that yields once, decorated with
                `contextlib.contextmanager` or `contextlib.asynccontextmanager`. What follows the
                ``yield`` runs at the end, in any case, and without the provider's error.

        Returns:
            The function as it is.

        Raises:
            ConfigurationError: The function is not such a context manager, there is a lifespan
                already, or the app has started. At the start of the app: an action has
                ``isolation="process"``, since another process can't have the state.
        """
        self._check_setup(function)
        self._hooks.set_lifespan(function)
        return function

    def actions(self) -> list[Action]:
        """Return all actions, the blueprints' included, sorted by name.

        Raises:
            ConfigurationError: Two actions have the same name.

        >>> app = ProviderApp("weather")
        >>> @app.action
        ... def forecast(city: str) -> str:
        ...     '''Forecast for a city.'''
        >>> [(action.name, action.description) for action in app.actions()]
        [('forecast', 'Forecast for a city.')]
        """
        return sorted((action for action, _ in self._all_actions()), key=lambda action: action.name)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return the JSON Schema (2020-12) of each action's payload and account.

        Each is a complete document with its own ``$defs``. Descriptions come from docstrings.

        Raises:
            ConfigurationError: Two actions have the same name.

        >>> app = ProviderApp("weather")
        >>> @app.action
        ... def forecast(city: str, days: int = 3) -> str:
        ...     '''Forecast for a city.'''
        >>> schema = app.schema()["forecast"]
        >>> schema["description"], schema["payload"]["required"], schema["account"]["type"]
        ('Forecast for a city.', ['city'], 'object')
        """
        from arbprov.payload.json_schema import describe_binding

        return {
            action.name: {
                "description": action.description,
                **describe_binding(action.binding, action.handler),
            }
            for action in self.actions()
        }

    def checks(self) -> list[Check]:
        """Return all checks, first the app's, then the blueprints'.

        Raises:
            ConfigurationError: Two checks have the same name.

        >>> app = ProviderApp("weather")
        >>> @app.check
        ... def reachable() -> bool:
        ...     return True
        >>> [check.name for check in app.checks()]
        ['reachable']
        """
        registry = CheckRegistry()
        for scaffold in (self, *self._blueprints.values()):
            for check in scaffold._checks:
                registry.add(check)
        return list(registry)

    def limits_by_action(self) -> dict[str, list[RateLimit]]:
        """Return each action's limits: the app's, the blueprint's and its own.

        >>> app = ProviderApp("weather", rate_limit="1000/day")
        >>> @app.action
        ... @app.rate_limit("5/second")
        ... def forecast(city: str) -> str:
        ...     return "sunny"
        >>> [str(limit) for limit in app.limits_by_action()["forecast"]]
        ['1000/day', '5/second']
        """
        return {
            action.name: self._limits_of(action, blueprint)
            for action, blueprint in self._all_actions()
        }

    def _limits_in_memory(self) -> list[str]:
        """Return the limits that no store shares between processes, each with its owner."""
        is_shared = bool(self._default_store)
        found = {
            f"{limit} of {f'action {name!r}' if limit.scope == 'action' else f'the {limit.scope}'}"
            for name, limits in self.limits_by_action().items()
            for limit in limits
            if limit.is_monitor or not (limit.store or is_shared)
        }
        return sorted(found)

    @property
    def _default_store(self) -> Any:
        return self._store_client or self.config.rate_limit_store

    @property
    def limits(self) -> LimitStats:
        """Headroom and counts of the limits that `run` and `invoke` use.

        >>> app = ProviderApp("weather")
        >>> @app.action
        ... @app.rate_limit("100/hour")
        ... def forecast(city: str) -> str:
        ...     return "sunny"
        >>> app.invoke("forecast", {"city": "Paris"}).data
        'sunny'
        >>> app.limits.headroom("forecast")
        [Headroom(limit='100/hour', remaining=99, wait_time=0.0)]
        """
        return self._live_dispatcher().limit_stats()

    def test_client(self, *, clock: VirtualClock | None = None) -> TestClient:
        """Return a client that runs actions in tests, with a virtual clock and without a network.

        Args:
            clock: The time that limits, timeouts and envelopes see; by default, a clock that
                starts at 2026-01-01 UTC.

        Raises:
            ConfigurationError: The app's configuration does not allow it to start.
            ProviderError: The app runs in the process that this one was forked from.

        >>> app = ProviderApp("weather")
        >>> @app.action
        ... @app.rate_limit("1/hour")
        ... def forecast(city: str) -> str:
        ...     return "sunny"
        >>> client = app.test_client()
        >>> [client.call("forecast", {"city": "Paris"}).status.value for _ in range(2)]
        ['success', 'limit']
        >>> client.clock.advance(3600)
        >>> client.call("forecast", {"city": "Paris"}).data
        'sunny'
        """
        from arbprov.testing import TestClient, VirtualClock

        self._home.check()
        clock = clock or VirtualClock()
        return TestClient(self._dispatcher(clock), self._life_hooks(), clock)

    def invoke(
        self, action: str, payload: TaskData = None, *, account: TaskData = None
    ) -> TaskResult:
        """Run an action in this thread, without a hub, with the limits of `run`.

        A call whose limits let it wait sleeps until its turn. Errors of the handler become the
        result. Startup hooks do not run.

        Args:
            action: The action's name.
            payload: A mapping, to be encoded as JSON; or the JSON object as bytes.
            account: A mapping or bytes, like `payload`.

        Raises:
            ConfigurationError: The app's configuration does not allow it to start.
            ProviderError: The app runs in the process that this one was forked from.
            RuntimeError: An event loop runs in this thread, and the handler needs one.
            ValueError: JSON has no form for the payload or the account.

        >>> app = ProviderApp("weather")
        >>> @app.action
        ... async def forecast(city: str) -> dict:
        ...     return {"city": city}
        >>> app.invoke("forecast", {"city": "Paris"}).data
        {'city': 'Paris'}
        >>> app.invoke("forecast", {}).problems
        [{'path': 'city', 'message': 'required field is missing'}]
        """
        import time

        from arbprov.executors.inline import InlineRunner, make_task

        self._home.check()
        task = make_task("invoked", action, payload, account)
        return InlineRunner(self._live_dispatcher(), Hooks(), time.sleep).run(task)

    def run(self, *, hub_url: str | None = None, auth_token: TokenSource | None = None) -> None:
        """Work for the hub until SIGTERM, SIGINT or `stop`; then drain and return.

        Draining means: no more polls, and up to `drain_timeout` seconds to finish the tasks in
        flight and to send their results. A second signal ends the process at once. In other
        threads than the main thread, signals are not handled.

        Args:
            hub_url: Overrides the app's `hub_url`.
            auth_token: Overrides the app's `auth_token`.

        Raises:
            ConfigurationError: The app's configuration does not allow it to start.
            HubConnectionError: The hub was not reached within `start_timeout`.
            AuthenticationError: The hub refuses the token.
            ProviderError: `drain_timeout` was too short for the tasks in flight or their results;
                handlers that can't be ended have taken all slots; or this process was forked from
                a process that has run an app.

        >>> from arbprov.localhub import LocalHub
        >>> from arbprov.testing import serving
        >>> app = ProviderApp("weather")
        >>> @app.action
        ... def forecast(city: str) -> dict:
        ...     return {"city": city}
        >>> with LocalHub(hold=0.1) as hub, serving(app, hub):  # calls app.run() in a thread
        ...     hub.call("forecast", {"city": "Paris"}).data
        {'city': 'Paris'}
        """
        self._run_with(Hooks(), hub_url=hub_url, auth_token=auth_token)

    def _run_with(self, more_hooks: Hooks, report: Report | None = None, **changes: Any) -> None:
        """Do as `run` does.

        Args:
            more_hooks: Hooks of the worker's life that run after the app's.
            report: Tells a supervisor of this worker; see `arbprov.worker.monitoring.Monitoring`.
            changes: Settings that override the app's; None overrides nothing.
        """
        check_not_in_handler_process()
        if _being_imported:
            raise ConfigurationError(
                f"the module {_being_imported[-1]} calls app.run() when it is imported; put that "
                f'under `if __name__ == "__main__":`'
            )
        self._home.check()
        # Slow to import.
        from arbprov.worker.reaping import fork_as_pid_1

        fork_as_pid_1()
        # Imported here: tests and `import arbprov` do without gRPC.
        with importing_grpc():
            from arbprov.worker.run import run_provider

        config = self.config.override(**changes)
        if not config.auth_token:
            raise ConfigurationError(
                "the hub's token is missing: set PROVIDER_AUTH_TOKEN or PROVIDER_AUTH_TOKEN_FILE, "
                "or give the provider an auth_token="
            )
        token = Token(config.auth_token)
        token.read()
        dispatcher = attrs.evolve(self._live_dispatcher(), secrets=token)
        with self._home.hold():
            hooks = self._life_hooks().join_lifecycle([more_hooks])
            run_provider(config, token, dispatcher, hooks, self._stop, report)

    def stop(self) -> None:
        """Stop `run` as SIGTERM does; any thread may call it, even before `run`.

        Raises:
            ProviderError: The app runs in the process that this one was forked from, or that this
                one runs handlers for.

        >>> app = ProviderApp("weather", auth_token="sample-token")
        >>> app.stop()
        >>> app.run()  # returns at once
        """
        check_not_in_handler_process()
        self._home.check()
        self._stop.set()

    def _dispatcher(self, clock: Clock, stores: OpenStore | None = None) -> Dispatcher:
        """Return a dispatcher with all actions compiled; nothing can be registered after that.

        Args:
            clock: The time that limits, timeouts and envelopes see.
            stores: Opens the stores of limits; without it, limits are counted in memory.

        Raises:
            ConfigurationError: Two actions have the same name, or a limit's store can't be opened.
        """
        # Imported here: these modules take longer to import than `import arbprov` does.
        from arbprov.dispatcher import Dispatcher
        from arbprov.limits import Limiter

        config = self.config
        # In a shared namespace, providers share only the limits that have a `name`.
        limiter = Limiter(clock, stores, config.name if config.rate_limit_namespace else "")
        routes = {
            action.name: self._compile_route(limiter, action, blueprint)
            for action, blueprint in self._all_actions()
        }
        self._check_limits_are_used(self.actions())
        for scaffold in (self, *self._blueprints.values()):
            scaffold._check_retries_are_used(list(scaffold._actions))
        for blueprint in self._blueprints.values():
            blueprint._check_limits_are_used(list(blueprint._actions))
        self._check_limits_are_registered()
        self._check_limit_keys(routes)
        self._check_state()
        for scaffold in (self, *self._blueprints.values()):
            scaffold._start()
        token = config.auth_token
        return Dispatcher(
            provider=config.name,
            routes=routes,
            unknown=self._compile_route(limiter, None, None),
            limiter=limiter,
            clock=clock,
            timezone=config.tzinfo,
            timezone_name=config.timezone,
            secrets=[token] if isinstance(token, str) and token else [],
            state=NO_LIFESPAN if self._hooks.lifespan is None else NOT_ENTERED,
        )

    def _compile_route(
        self, limiter: Limiter, action: Action | None, blueprint: Blueprint | None
    ) -> Route:
        """Return the route of an action, or of tasks whose action does not exist."""
        import logging

        from arbprov.dispatcher import HOOKS_GRACE, Route

        timeout = (action and action.timeout) or self.config.execution_timeout
        name = action.name if action else ""
        if action:
            action = action.with_default(forbid_extra=self.config.forbid_extra)
        return Route(
            action=action,
            hooks=TaskHooks.compile(self._hooks, blueprint._hooks if blueprint else None),
            limits=limiter.compile(
                self._limits_of(action, blueprint) if action else (),
                action=name,
                blueprint=blueprint.name if blueprint else None,
                probe_timeout=timeout + HOOKS_GRACE,
            ),
            timeout=timeout,
            retry=(blueprint or self)._find_retry(action, timeout) if action else None,
            logger=logging.getLogger(f"arbprov.{name}" if name else "arbprov"),
            blocking=not (action and action.is_async),
            pickled=action.pickle_handler() if action and action.isolation == "process" else None,
            # Known by its import: it needs no registration.
            hides_tokens="arbprov.http.tokens" in sys.modules,
        )

    def _life_hooks(self) -> Hooks:
        """Return the hooks of the worker's life: the app's, then the blueprints'."""
        hooks = (blueprint._hooks for blueprint in self._blueprints.values())
        return self._hooks.join_lifecycle(hooks)

    def _live_dispatcher(self) -> Dispatcher:
        """Return the dispatcher of `run` and `invoke`, made once: its limits keep counting."""
        # Two threads that invoke for the first time must not have limits of their own.
        with self._making_live:
            if self._live is None:
                from arbprov.clock import SystemClock
                from arbprov.limits import StoreFactory

                clock = SystemClock()
                namespace = self.config.rate_limit_namespace or self.name
                stores = StoreFactory(clock, namespace, self._default_store, self._worker_place)
                self._live = self._dispatcher(clock, stores.open_store)
            return self._live

    def _all_actions(self) -> list[tuple[Action, Blueprint | None]]:
        """Return all actions, each with its blueprint, if it has one.

        Raises:
            ConfigurationError: Two actions have the same name.
        """
        registry = ActionRegistry()
        found: list[tuple[Action, Blueprint | None]] = []
        for blueprint in (None, *self._blueprints.values()):
            for action in (blueprint or self)._actions:
                registry.add(action)
                found.append((action, blueprint))
        return found

    def _check_state(self) -> None:
        """Refuse handlers that could not have the lifespan's state.

        Raises:
            ConfigurationError: There is such a handler.
        """
        lifespan = self._hooks.lifespan
        for check in self.checks():
            self._check_declared_state(
                check.binding, f"{describe_handler(check.function)}: the check {check.name!r}"
            )
        for action in self.actions():
            where = f"{describe_handler(action.handler)}: the action {action.name!r}"
            self._check_declared_state(action.binding, where)
            if lifespan is not None and action.isolation == "process":
                raise ConfigurationError(
                    f'{where} has isolation="process", and another process can\'t have the state '
                    f"of the app's lifespan {describe_handler(lifespan.function)}; leave out the "
                    f"isolation, move the action to an app of its own, or open what tasks share in "
                    f"an @app.on_startup hook"
                )

    def _check_declared_state(self, binding: Binding, where: str) -> None:
        if self._hooks.lifespan is None and binding.takes_state:
            raise ConfigurationError(
                f"{where} declares a TaskContext with a state, and the app has no lifespan to "
                f"yield it; decorate a context manager with @app.lifespan, or declare a bare "
                f"TaskContext"
            )

    def _check_limits_are_registered(self) -> None:
        """Refuse a limit on an own action that an unregistered blueprint has declared.

        Raises:
            ConfigurationError: There is such a limit.
        """
        for blueprint in set(Blueprint.created) - set(self._blueprints.values()):
            for declared in blueprint._declared_limits:
                for action in self.actions():
                    # Another app may have registered the blueprint, with the function as an action.
                    own = any(declared.applies_to(each.handler) for each in blueprint._actions)
                    if declared.applies_to(action.handler) and not own:
                        raise ConfigurationError(
                            f"{describe_handler(declared.function)}: the rate limit "
                            f"{declared.value} does not limit the action {action.name!r}: "
                            f"{blueprint!r} declares it and is not registered; declare it with "
                            f"the app, or register the blueprint"
                        )

    def _check_limit_keys(self, routes: Mapping[str, Route]) -> None:
        """Refuse a limit's key that no payload can have, and warn of a key that may be misspelt.

        Without `forbid_extra`, a task may send a field that its handler does not take.

        Raises:
            ConfigurationError: There is such a key.
        """
        import logging

        from arbprov.limits.keys import payload_fields

        for name, limits in self.limits_by_action().items():
            action = routes[name].action
            assert action is not None
            use = action.binding.use
            unknown = [
                (limit, field)
                for limit in limits
                for field in payload_fields(limit.key)
                if use.is_by_name and field not in use.fields
            ]
            for limit, field in unknown:
                advice = suggest_name(field, use.fields)
                text = (
                    f"{describe_handler(action.handler)}: the rate limit {limit} is counted by the "
                    f"field {field!r}, and the action {name!r} takes no such field{advice}"
                )
                if use.converter.forbid_extra_keys:
                    raise ConfigurationError(text)
                if advice:
                    logging.getLogger("arbprov").warning("%s", text)

    def _limits_of(self, action: Action, blueprint: Blueprint | None) -> list[RateLimit]:
        shared = blueprint._limits if blueprint else ()
        owners: list[Scaffold] = [self] if blueprint is None else [blueprint, self]
        declared = [
            declared.value
            for owner in owners
            for declared in owner._declared_limits
            if declared.applies_to(action.handler)
        ]
        return [*self._limits, *shared, *declared, *action.limits]


@contextlib.contextmanager
def importing_app(name: str) -> Iterator[None]:
    """Forbid `ProviderApp.run` while the module `name` is imported, to get its app."""
    _being_imported.append(name)
    try:
        yield
    finally:
        _being_imported.pop()
