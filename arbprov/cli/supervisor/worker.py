"""One of several workers of a provider, in its own process."""

from __future__ import annotations

from typing import Any

import attrs

from arbprov.app import ProviderApp
from arbprov.cli.supervisor.control_channel import SupervisorLink
from arbprov.cli.supervisor.restart_policy import Stage
from arbprov.cli.supervisor.spools import warn_of_left, worker_spool
from arbprov.errors import ConfigurationError
from arbprov.hooks import Hooks
from arbprov.logs import ensure_handler

__all__ = ["Place", "work"]

_WHO = "%(processName)s[%(process)d] "


@attrs.frozen
class Place:
    """A worker's place among the others.

    Args:
        number: Which one it is, from 1 on.
        count: How many there are.
        link: The descriptor of its link to the supervisor.
    """

    number: int
    count: int
    link: int


def work(app: ProviderApp, place: Place, **changes: Any) -> None:
    """Run an app as one of several workers; see `ProviderApp.run`.

    Raises:
        ConfigurationError: A limit would be counted by each worker for itself.
    """
    _refuse_own_limits(app, place.count)
    _name_process(f"worker-{place.number}")
    ensure_handler(who=_WHO)
    if place.number == 1:
        warn_of_left(app.config.spool, place.count)
    link = SupervisorLink(place.link, app.config.drain_timeout)
    link.listen(app.stop)
    hooks = Hooks(
        on_startup=[lambda: link.tell(Stage.AT_WORK)],
        on_connect=[lambda: link.tell(Stage.CONNECTED)],
    )
    if app.config.spool:
        changes["spool"] = worker_spool(app.config.spool, place.number)
    app._run_with(hooks, **changes)


def _refuse_own_limits(app: ProviderApp, count: int) -> None:
    if found := app._limits_in_memory():
        raise ConfigurationError(
            f"each of {count} workers would count these limits for itself, and together they would "
            f"admit {count} times as much: {', '.join(found)}; share what was used, with "
            f'rate_limit_store="redis://..." or ARBPROV_RATE_LIMIT_STORE, or run one worker, as '
            f"a monitor always needs"
        )


def _name_process(name: str) -> None:
    # Where logging's %(processName)s comes from, in a format of the author's too.
    from multiprocessing import current_process

    current_process().name = name
