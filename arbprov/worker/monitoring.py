"""What others see of a run: metrics, the pages for probes, and signs of life for a supervisor."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from typing_extensions import Self

from arbprov.dispatcher import Dispatcher
from arbprov.instrumentation.loop_watch import LoopWatch
from arbprov.instrumentation.setup import make_metrics
from arbprov.instrumentation.status import WorkerStatus
from arbprov.instrumentation.systemd import make_notifier
from arbprov.worker.worker import Worker

if TYPE_CHECKING:
    from arbprov.instrumentation.metrics import Metrics
    from arbprov.instrumentation.server import MonitoringServer, Page

__all__ = ["Monitoring", "Report"]

logger = logging.getLogger("arbprov")

# Is told each half second whether the worker has started, and why it gets no task.
Report = Callable[[bool, str], object]
# Seconds between two updates of the metrics that a supervisor reads.
_UPDATE_INTERVAL = 2.0


class Monitoring:
    """Watches the worker of a run; it listens from when it is made until it is left.

    Args:
        address: Where to serve, as ``HOST:PORT``; empty for nowhere.
        dispatcher: Knows the actions and the limits.
        report: Tells the supervisor of this worker, which serves for all workers; None if there is
            no supervisor.

    Attributes:
        metrics: The metrics; None if there are none.

    Raises:
        ConfigurationError: It can't listen at the address.
    """

    def __init__(self, address: str, dispatcher: Dispatcher, report: Report | None = None) -> None:
        self._report = report
        self._notifier = make_notifier() if report is None else None
        self._server: MonitoringServer | None = None
        self.metrics: Metrics | None = None
        if address:
            self.metrics = make_metrics(dispatcher.routes.keys(), dispatcher.limit_stats())
        if address and report is None:
            # Slow to import.
            from arbprov.instrumentation.server import MonitoringServer

            self._server = MonitoringServer(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()

    @contextlib.contextmanager
    def watch(self, worker: Worker) -> Iterator[None]:
        """Watch a worker inside the ``with`` block, on its event loop."""
        if self._server is None and self._report is None and self._notifier is None:
            yield
            return

        def look() -> WorkerStatus:
            status = worker.status()
            if self._report is not None:
                self._report(status.has_started, status.unready)
            if self._notifier is not None:
                self._notifier.tell(
                    has_started=status.has_started,
                    is_draining=status.is_draining,
                    is_alive=True,
                )
            return status

        watch, ended = LoopWatch(look), threading.Event()
        if self._server is not None:
            self._server.start(_pages(watch, self.metrics))
            logger.info("serving the monitoring at http://%s", self._server.address)
        elif self.metrics is not None:
            threading.Thread(
                target=_keep_updating,
                args=(self.metrics, watch, ended),
                name="arbprov-metrics",
                daemon=True,
            ).start()
        try:
            yield
        finally:
            ended.set()
            watch.close()
            look()
            if self.metrics is not None:
                _count_last(self.metrics)


def _update(metrics: Metrics, watch: LoopWatch[WorkerStatus]) -> None:
    metrics.update(watch.seen, watch.lag, watch.silent_for)


def _count_last(metrics: Metrics) -> None:
    """Count the last tasks and decisions of limits, for a supervisor that goes on."""
    try:
        metrics.count()
    except Exception:
        logger.exception("the last metrics could not be counted")


def _keep_updating(
    metrics: Metrics, watch: LoopWatch[WorkerStatus], ended: threading.Event
) -> None:
    """Update the metrics until the end, or until that fails."""
    try:
        while not ended.wait(_UPDATE_INTERVAL):
            _update(metrics, watch)
    except Exception:
        logger.exception("the metrics have failed, and are not updated any more")


def _pages(watch: LoopWatch[WorkerStatus], metrics: Metrics | None) -> dict[str, Page]:
    from arbprov.instrumentation.health import WorkerHealth
    from arbprov.instrumentation.pages import make_pages

    def read() -> list[WorkerHealth]:
        seen = watch.seen
        return [WorkerHealth("", seen.has_started, seen.unready, watch.silent_for)]

    def render() -> bytes:
        assert metrics is not None
        _update(metrics, watch)
        return metrics.render()

    return make_pages(read, None if metrics is None else render)
