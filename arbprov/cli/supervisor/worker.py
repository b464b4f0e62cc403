"""A worker of a provider that runs in several processes, from the inside."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

import attrs

from arbprov.app import ProviderApp
from arbprov.cli.supervisor.control_channel import ControlChannel
from arbprov.cli.supervisor.monitoring import metrics_folder
from arbprov.cli.supervisor.restart_policy import Stage
from arbprov.cli.supervisor.spools import warn_of_orphans, worker_spool
from arbprov.errors import ConfigurationError
from arbprov.hooks import Hooks
from arbprov.limits.stores.factory import WorkerPlace
from arbprov.logs.setup import ensure_handler

__all__ = ["WorkerInfo", "run_worker"]


@attrs.frozen
class WorkerInfo:
    """The values of ``--worker``, set by the supervisor.

    Args:
        number: The worker's number, from 1 on.
        count: The number of workers.
        run: A name that the workers have in common, and nothing else.
        folder: A folder for files that a worker leaves to its successor; empty if there is none.
        descriptor: File descriptor of the connection to the supervisor.
    """

    number: int
    count: int
    run: str
    folder: str
    descriptor: int


def run_worker(
    app: ProviderApp, worker: WorkerInfo, *, is_quiet: bool = False, **changes: Any
) -> None:
    """Run an app as a worker of a supervisor; see `ProviderApp.run`.

    Args:
        app: The app.
        worker: The values of ``--worker``.
        is_quiet: Whether to log only warnings and errors.
        changes: Settings that override the app's.

    Raises:
        ConfigurationError: Each worker would count a limit for itself, or a variable is not valid.
    """
    if limits := app._limits_in_memory():
        raise ConfigurationError(
            f"each of {worker.count} workers would count these limits for itself, so together they "
            f"would admit {worker.count} times as many calls: {', '.join(limits)}; share the "
            f'limits with rate_limit_store="redis://..." or ARBPROV_RATE_LIMIT_STORE, or run one '
            f"worker, as a monitor always needs"
        )
    app._worker_place = WorkerPlace(worker.number, worker.count, worker.run, worker.folder)
    # In the log, this is %(processName)s.
    multiprocessing.current_process().name = name = f"worker-{worker.number}"
    ensure_handler(provider=app.name, worker=name, is_quiet=is_quiet)
    if worker.number == 1:
        warn_of_orphans(app.config.spool, worker.count)
    channel = ControlChannel(worker.descriptor, app.config.drain_timeout, app.name)
    channel.on_stop(app.stop)
    hooks = Hooks(
        on_startup=[lambda: channel.report(Stage.RUNNING)],
        on_connect=[lambda: channel.report(Stage.CONNECTED)],
    )
    monitoring = app.config.monitoring
    if monitoring:
        if worker.folder:
            _share_metrics(worker.folder)
        channel.serve(monitoring)
    if app.config.spool:
        changes["spool"] = worker_spool(app.config.spool, worker.number)
    is_watched = monitoring or "NOTIFY_SOCKET" in os.environ
    app._run_with(hooks, channel.beat if is_watched else None, **changes)


def _share_metrics(folder: str) -> None:
    """Have prometheus-client keep the metrics of this process in files, which are added up.

    Raises:
        ConfigurationError: It is too late for that.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return  # the supervisor has set it
    if "prometheus_client" in sys.modules:
        raise ConfigurationError(
            "the provider imports prometheus_client, so the metrics of its workers can be added up "
            "only if their supervisor knows of the monitoring before: set ARBPROV_MONITORING "
            "instead of monitoring="
        )
    path = metrics_folder(folder)
    path.mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)
