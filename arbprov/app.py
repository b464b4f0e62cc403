"""`ProviderApp`: what an author imports, and where everything is wired together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._types import Clock
from arbprov.actions import Action, ActionRegistry, attached_limits
from arbprov.blueprint import Blueprint, shared_limits
from arbprov.config import Config, load_config
from arbprov.errors import ConfigurationError
from arbprov.executors.forking import ForkGuard, check_not_in_handler_process, without_fork_handlers
from arbprov.hooks import Hooks, TaskHooks
from arbprov.scaffold import Scaffold
from arbprov.wire.tokens import Token, TokenSource
from arbprov.worker.stopping import StopSignal

if TYPE_CHECKING:
    from arbprov.dispatcher import Dispatcher, Route
    from arbprov.limits import AnyLimit, Limiter, LimitStats, OpenStore, RateLimit
    from arbprov.limits.monitors import RateLimitMonitor
    from arbprov.payload.serialize import TaskData
    from arbprov.task import TaskResult
    from arbprov.testing import TestClient, VirtualClock

__all__ = ["ProviderApp", "importing_app"]

_being_imported: list[str] = []


class ProviderApp(Scaffold):
    """A provider: its actions, limits and hooks, and what runs them.

    >>> app = ProviderApp("weather")
    >>> @app.action
    ... def forecast(city: str, days: int = 3) -> dict:
    ...     return {"city": city, "days": days}
    >>> app.test_client().call("forecast", {"city": "Paris"}).data
    {'city': 'Paris', 'days': 3}

    Each argument goes before its environment variable, which goes before the default; times are
    in seconds.

    Args:
        name: The provider's name (``PROVIDER_NAME``).
        auth_token: The hub's token (``PROVIDER_AUTH_TOKEN`` or ``PROVIDER_AUTH_TOKEN_FILE``), or a
            plain function that returns it; it is called, and the file is read, at the start of
            `run` and when the hub refuses the last one.
        hub_url: The hub, as ``host:port``, ``grpcs://host:port`` or ``unix:path``
            (``HUB_GRPC_URL``).
        hub_tls: Whether to speak TLS to the hub (``HUB_GRPC_TLS``); the next four turn it on too.
        hub_tls_ca: The file of the CA that signs the hub's certificate (``HUB_GRPC_TLS_CA``).
        hub_tls_cert: The file of the provider's certificate (``HUB_GRPC_TLS_CERT``).
        hub_tls_key: The file of its private key (``HUB_GRPC_TLS_KEY``).
        hub_tls_server_name: The host name in the hub's certificate, if it is not that of the URL
            (``HUB_GRPC_TLS_SERVER_NAME``).
        execution_timeout: How long a handler may run (``TASK_EXECUTION_TIMEOUT``, 1).
        timezone: Of the envelope's local time (``PROVIDER_TIMEZONE``, UTC).
        concurrency: Tasks in flight at once (``ARBPROV_CONCURRENCY``, 32).
        drain_timeout: How long a stop may take (``ARBPROV_DRAIN_TIMEOUT``, 25).
        start_timeout: How long to wait for the hub at the start (``ARBPROV_START_TIMEOUT``, 30).
        poll_timeout: How long the hub may hold a poll (``ARBPROV_POLL_TIMEOUT``, 60).
        submit_timeout: How long one try to send a result may take (``ARBPROV_SUBMIT_TIMEOUT``, 30).
        max_message_size: Bytes of the largest task that is taken (``ARBPROV_MAX_MESSAGE_SIZE``,
            64 MiB).
        spool: A file that keeps tasks and results over a restart (``ARBPROV_SPOOL``).
        rate_limit: A limit that all actions share.
        rate_limit_monitor: The same, as code: a subclass of `RateLimitMonitor`.
        rate_limit_store: Where what was used of the limits is kept, to share it with other
            processes: ``"redis://..."`` or a Redis client (``ARBPROV_RATE_LIMIT_STORE``).
        rate_limit_namespace: What they are kept under there, if not the provider's name
            (``ARBPROV_RATE_LIMIT_NAMESPACE``); providers of one share their limits of one `name`.

    Raises:
        ConfigurationError: A setting makes no sense; the message names its variable or argument.
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
        spool: str | os.PathLike[str] | None = None,
        rate_limit: AnyLimit | None = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
        rate_limit_store: Any = None,
        rate_limit_namespace: str | None = None,
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
                "spool": None if spool is None else os.fspath(spool),
                "rate_limit_store": rate_limit_store if is_url else None,
                "rate_limit_namespace": rate_limit_namespace,
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
        self._store_client = None if is_url else rate_limit_store
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
            ConfigurationError: There is one of that name already, or the app has started.
        """
        if self._started:
            raise ConfigurationError(f"{blueprint!r} comes too late: the app has started already")
        if self._blueprints.setdefault(blueprint.name, blueprint) is not blueprint:
            raise ConfigurationError(
                f"there is a blueprint {blueprint.name!r} already; give this one another name"
            )

    def actions(self) -> list[Action]:
        """Return all actions, the blueprints' included, by name.

        Raises:
            ConfigurationError: Two have one name.
        """
        return sorted((action for action, _ in self._owned()), key=lambda action: action.name)

    def limits_by_action(self) -> dict[str, list[RateLimit]]:
        """Return the limits of each action: the app's, its blueprint's and its own."""
        return {one.name: self._limits_of(one, owner) for one, owner in self._owned()}

    def _limits_in_memory(self) -> list[str]:
        """Return the limits that each process counts for itself, with whose they are."""
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
        """What is left of the limits that `run` keeps to, and what they have decided."""
        return self._live_dispatcher().limit_stats()

    def test_client(self, *, clock: VirtualClock | None = None) -> TestClient:
        """Return a client that runs actions here, with a virtual clock and without a network.

        Args:
            clock: Tells the time; one that begins with the year 2026, if not given.

        Raises:
            ConfigurationError: The app can't start as it is.
            ProviderError: The app runs in the process that this one was forked from.
        """
        from arbprov.testing import TestClient, VirtualClock

        self._home.check()
        clock = clock or VirtualClock()
        return TestClient(self._dispatcher(clock), self._life_hooks(), clock)

    def invoke(
        self, action: str, payload: TaskData = None, *, account: TaskData = None
    ) -> TaskResult:
        """Run an action here and now, without a hub: on the machine's time, and by `run`'s limits.

        A call that may wait for a limit waits; what fails becomes the result. There are no startup
        hooks.

        Args:
            action: Its name.
            payload: A mapping that becomes JSON, or the bytes of a task as they are.
            account: The same.

        Raises:
            ConfigurationError: The app can't start as it is.
            ProviderError: The app runs in the process that this one was forked from.
        """
        import time

        from arbprov.executors.inline import InlineRunner, make_task

        self._home.check()
        task = make_task("invoked", action, payload, account)
        return InlineRunner(self._live_dispatcher(), Hooks(), time.sleep).run(task)

    def run(self, *, hub_url: str | None = None, auth_token: TokenSource | None = None) -> None:
        """Work for the hub until SIGTERM, SIGINT or `stop`; then finish what was begun.

        A second signal ends the process at once. Off the main thread, it takes no signals.

        Args:
            hub_url: The hub, before what the app was made with.
            auth_token: Its token, likewise.

        Raises:
            ConfigurationError: The app can't start as it is.
            HubConnectionError: The hub was not reached within `start_timeout`.
            AuthenticationError: The hub refuses the token.
            ProviderError: `drain_timeout` was too short to finish everything; handlers that can't
                be ended have left no slot; or this process was forked from one that has run an app.
        """
        self._run_with(Hooks(), hub_url=hub_url, auth_token=auth_token)

    def _run_with(self, more_hooks: Hooks, **changes: Any) -> None:
        """Do what `run` does, and raise what it raises.

        Args:
            more_hooks: Hooks around the worker's life, which run after the app's.
            changes: Settings, before what the app was made with; None leaves one as it is.
        """
        check_not_in_handler_process()
        _check_not_importing()
        self._home.check()
        # The test client must do without gRPC, and so must the import of arbprov.
        with without_fork_handlers():
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
            run_provider(config, token, dispatcher, hooks, self._stop)

    def stop(self) -> None:
        """Do what SIGTERM does; any thread may call it, before or during `run`.

        Raises:
            ProviderError: The app runs in the process that this one was forked from, or that it
                runs a handler for.
        """
        check_not_in_handler_process()
        self._home.check()
        self._stop.set()

    def _dispatcher(self, clock: Clock, stores: OpenStore | None = None) -> Dispatcher:
        """Return what takes tasks to the actions, compiled once for all of them.

        From here on, nothing can be registered any more.

        Args:
            clock: Tells the time, to the limits too.
            stores: Opens the stores of limits; without it, all are in memory.

        Raises:
            ConfigurationError: Two actions have one name, or a limit's store can't be opened.
        """
        # Not needed before, and nothing takes longer to import.
        from arbprov.dispatcher import Dispatcher
        from arbprov.limits import Limiter

        config = self.config
        # Providers that share a namespace share the limits that have names, and no others.
        limiter = Limiter(clock, stores, config.name if config.rate_limit_namespace else "")
        routes = {
            action.name: self._route(limiter, action, blueprint)
            for action, blueprint in self._owned()
        }
        self._freeze()
        token = config.auth_token
        return Dispatcher(
            provider=config.name,
            routes=routes,
            unknown=self._unknown_route(limiter),
            limiter=limiter,
            clock=clock,
            timezone=config.tzinfo,
            timezone_name=config.timezone,
            secrets=[token] if isinstance(token, str) and token else [],
        )

    def _route(self, limiter: Limiter, action: Action, blueprint: Blueprint | None) -> Route:
        """Return an action with its hooks, limits and timeout, all compiled."""
        import logging

        from arbprov.dispatcher import Route

        return Route(
            action=action,
            hooks=TaskHooks.compile(self._hooks, blueprint._hooks if blueprint else None),
            limits=limiter.compile(
                self._limits_of(action, blueprint),
                action=action.name,
                blueprint=blueprint.name if blueprint else None,
            ),
            timeout=action.timeout or self.config.execution_timeout,
            logger=logging.getLogger(f"arbprov.{action.name}"),
            blocking=not action.is_async,
            pickled=action.pickle_handler() if action.isolation == "process" else None,
        )

    def _unknown_route(self, limiter: Limiter) -> Route:
        """Return the route of the tasks whose action is not there, which the hooks see too."""
        import logging

        from arbprov.dispatcher import Route

        return Route(
            action=None,
            hooks=TaskHooks.compile(self._hooks, None),
            limits=limiter.compile((), action=""),
            timeout=self.config.execution_timeout,
            logger=logging.getLogger("arbprov"),
        )

    def _life_hooks(self) -> Hooks:
        """Return the hooks around the worker's life, the blueprints' after the app's."""
        hooks = (blueprint._hooks for blueprint in self._blueprints.values())
        return self._hooks.join_lifecycle(hooks)

    def _live_dispatcher(self) -> Dispatcher:
        """Return what `run` runs on: the same again, so that stopping does not reset a limit."""
        if self._live is None:
            from arbprov.clock import SystemClock
            from arbprov.limits import StoreFactory

            clock = SystemClock()
            namespace = self.config.rate_limit_namespace or self.name
            stores = StoreFactory(clock, namespace, self._default_store)
            self._live = self._dispatcher(clock, stores.open_store)
        return self._live

    def _freeze(self) -> None:
        for scaffold in (self, *self._blueprints.values()):
            scaffold._start()

    def _owned(self) -> list[tuple[Action, Blueprint | None]]:
        everything = ActionRegistry()
        owned: list[tuple[Action, Blueprint | None]] = []
        for owner in (None, *self._blueprints.values()):
            for action in (self if owner is None else owner)._actions:
                everything.add(action)
                owned.append((action, owner))
        return owned

    def _limits_of(self, action: Action, blueprint: Blueprint | None) -> list[RateLimit]:
        shared = blueprint._limits if blueprint else ()
        return [*self._limits, *shared, *attached_limits(action.handler)]


@contextlib.contextmanager
def importing_app(name: str) -> Iterator[None]:
    """Have no app run until the module of this name is imported."""
    _being_imported.append(name)
    try:
        yield
    finally:
        _being_imported.pop()


def _check_not_importing() -> None:
    """Refuse to run an app whose module is being imported.

    Raises:
        ConfigurationError: One is, so whoever wants its app would never get it.
    """
    if _being_imported:
        raise ConfigurationError(
            f"the module {_being_imported[-1]} calls app.run() when it is imported; put that under "
            f'`if __name__ == "__main__":`'
        )
