"""From what an app has registered to the dispatcher that runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from arbprov._types import Clock
from arbprov.actions import Action
from arbprov.blueprint import Blueprint
from arbprov.clock import SystemClock
from arbprov.config import Config
from arbprov.dispatcher import Dispatcher, Route
from arbprov.hooks import Hooks, TaskHooks
from arbprov.limits import Limiter, OpenStore, RateLimit, StoreFactory

__all__ = ["Wiring", "live_stores"]


def live_stores(namespace: str, default: Any) -> tuple[Clock, OpenStore]:
    """Return the machine's clock, and what opens the stores of limits that go by it.

    Args:
        namespace: What all have in common that share limits.
        default: The store of a limit that names none; empty for the memory.
    """
    clock = SystemClock()
    return clock, StoreFactory(clock, namespace, default).open_store


class Wiring:
    """Compiles routes, and then the dispatcher of them.

    Args:
        config: The app's settings.
        hooks: The app's hooks.
        clock: Tells the time, to the limits too.
        stores: Opens the stores of limits; without it, all are in memory.
    """

    def __init__(
        self, config: Config, hooks: Hooks, clock: Clock, stores: OpenStore | None
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._clock = clock
        # Providers that share a namespace share the limits that have names, and no others.
        self._limiter = Limiter(clock, stores, config.name if config.rate_limit_namespace else "")

    def route(
        self, action: Action | None, blueprint: Blueprint | None, limits: Iterable[RateLimit]
    ) -> Route:
        """Return the route of an action, or that of all unknown ones.

        Raises:
            ConfigurationError: A limit's store can't be opened.
        """
        name = "" if action is None else action.name
        timeout = None if action is None else action.timeout
        return Route(
            action=action,
            hooks=TaskHooks.compile(self._hooks, blueprint._hooks if blueprint else None),
            limits=self._limiter.compile(
                limits, action=name, blueprint=blueprint.name if blueprint else None
            ),
            timeout=timeout or self._config.execution_timeout,
            logger=logging.getLogger(f"arbprov.{name}" if name else "arbprov"),
            blocking=action is None or not action.is_async,
            pickled=action.pickle_handler() if action and action.isolation == "process" else None,
        )

    def dispatcher(self, routes: Mapping[str, Route]) -> Dispatcher:
        """Return what takes tasks to their actions."""
        token = self._config.auth_token
        return Dispatcher(
            provider=self._config.name,
            routes=routes,
            unknown=self.route(None, None, ()),
            limiter=self._limiter,
            clock=self._clock,
            timezone=self._config.tzinfo,
            timezone_name=self._config.timezone,
            secrets=[token] if isinstance(token, str) and token else [],
        )
