"""Blueprints: parts of a provider, each in a module of its own."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from arbprov._types import Handler
from arbprov.errors import ConfigurationError
from arbprov.scaffold import Scaffold

if TYPE_CHECKING:
    from arbprov.limits import AnyLimit, RateLimit, Scope
    from arbprov.limits.monitors import RateLimitMonitor

__all__ = ["Blueprint"]


class Blueprint(Scaffold):
    """Actions with their own hooks and limits, for `ProviderApp.register_blueprint`.

    A blueprint has the decorators of `ProviderApp`. Its hooks see only its own tasks.

    >>> from arbprov import ProviderApp
    >>> reports = Blueprint("reports", prefix="reports.", rate_limit="10/minute")
    >>> @reports.action
    ... def daily(day: str) -> dict:
    ...     return {"day": day}
    >>> app = ProviderApp("office")
    >>> app.register_blueprint(reports)
    >>> app.test_client().call("reports.daily", {"day": "Monday"}).data
    {'day': 'Monday'}

    Args:
        name: Identifies the blueprint in its app.
        prefix: Is put before the names of its actions.
        rate_limit: A limit that its actions share.
        rate_limit_monitor: A limit as code that its actions share.

    Raises:
        ConfigurationError: The limit is not valid.
    """

    # All blueprints, to find those that an app has not registered.
    created: ClassVar[weakref.WeakSet[Blueprint]] = weakref.WeakSet()

    def __init__(
        self,
        name: str,
        *,
        prefix: str = "",
        rate_limit: AnyLimit | None = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> None:
        super().__init__()
        self.created.add(self)
        self.name = name
        self.prefix = prefix
        self._limits = shared_limits(
            "blueprint",
            f"blueprint {name!r}",
            rate_limit=rate_limit,
            rate_limit_monitor=rate_limit_monitor,
        )

    def __repr__(self) -> str:
        return f"<Blueprint {self.name!r}>"

    def _action_name(self, handler: Handler, name: Any, kind: str = "action") -> str:
        return self.prefix + super()._action_name(handler, name, kind)


def shared_limits(scope: Scope, owner: str, **limits: AnyLimit | None) -> tuple[RateLimit, ...]:
    """Return the limits that all actions of an app or a blueprint share.

    Args:
        scope: ``"app"`` or ``"blueprint"``.
        owner: The name of the app or the blueprint in error messages.
        limits: The limits by the name of their argument; None was not given.

    Raises:
        ConfigurationError: A limit is not valid.
    """
    given = {argument: limit for argument, limit in limits.items() if limit is not None}
    if not given:
        return ()
    from arbprov.limits import declare

    shared = []
    for argument, limit in given.items():
        try:
            shared.append(declare(limit, scope=scope))
        except ConfigurationError as error:
            raise ConfigurationError(f"{owner}: {argument}: {error}") from None
    return tuple(shared)
