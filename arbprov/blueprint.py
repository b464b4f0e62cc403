"""A part of a provider in a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arbprov._types import Handler
from arbprov.errors import ConfigurationError
from arbprov.scaffold import Scaffold

if TYPE_CHECKING:
    from arbprov.limits import AnyLimit, RateLimit, Scope
    from arbprov.limits.monitors import RateLimitMonitor

__all__ = ["Blueprint"]


class Blueprint(Scaffold):
    """Actions with hooks and limits of their own, for `ProviderApp.register_blueprint`.

    >>> reports = Blueprint("reports", prefix="reports.")
    >>> @reports.action
    ... def daily(day: str) -> dict:
    ...     return {"day": day}

    Args:
        name: Tells it from the app's other blueprints.
        prefix: Stands before the names of its actions.
        rate_limit: A limit that its actions share.
        rate_limit_monitor: The same, as code.

    Raises:
        ConfigurationError: The limit can't be parsed.
    """

    def __init__(
        self,
        name: str,
        *,
        prefix: str = "",
        rate_limit: AnyLimit | None = None,
        rate_limit_monitor: RateLimitMonitor | None = None,
    ) -> None:
        super().__init__()
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

    def _action_name(self, handler: Handler, name: Any) -> str:
        return self.prefix + super()._action_name(handler, name)


def shared_limits(scope: Scope, owner: str, **limits: AnyLimit | None) -> tuple[RateLimit, ...]:
    """Return the limits that all actions of an app or a blueprint share.

    Args:
        scope: Who shares them.
        owner: How an error names the app or the blueprint.
        limits: By the argument that gave it; None is one that was not given.
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
