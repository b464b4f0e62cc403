"""A part of a provider in a module of its own."""

from __future__ import annotations

from typing import Any

import attrs

from arbprov._types import Handler
from arbprov.errors import ConfigurationError
from arbprov.limits import RateLimit, Rule, Scope, declare
from arbprov.scaffold import Scaffold

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

    Raises:
        ConfigurationError: The limit can't be parsed.
    """

    def __init__(
        self, name: str, *, prefix: str = "", rate_limit: str | Rule | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.prefix = prefix
        self._limits = shared_limits(rate_limit, "blueprint", f"blueprint {name!r}")

    def __repr__(self) -> str:
        return f"<Blueprint {self.name!r}>"

    def _action_name(self, handler: Handler, name: Any) -> str:
        return self.prefix + super()._action_name(handler, name)


def shared_limits(limit: str | Rule | None, scope: Scope, owner: str) -> tuple[RateLimit, ...]:
    """Return the limits that all actions of an app or a blueprint share."""
    if limit is None:
        return ()
    try:
        return (attrs.evolve(declare(limit), scope=scope),)
    except ConfigurationError as error:
        raise ConfigurationError(f"{owner}: rate_limit: {error}") from None
