"""Which observers a run has, by its settings and by what is set up and installed."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from arbprov.instrumentation import tracing
from arbprov.instrumentation.observer import Observer, Observers
from arbprov.limits import LimitStats

if TYPE_CHECKING:
    from pathlib import Path

    from arbprov.instrumentation.metrics import Metrics
    from arbprov.instrumentation.totals import Totals

__all__ = ["make_metrics", "make_observers", "make_totals"]

logger = logging.getLogger("arbprov")


def make_observers(provider: str, metrics: Observer | None) -> Observers | None:
    """Return the observers of a run; None if it has none.

    Args:
        provider: The provider's name.
        metrics: Its metrics; None if it has none.
    """
    observers = [] if metrics is None else [metrics]
    if tracing.is_set_up():
        observers.append(tracing.Tracing(provider))
    return Observers(observers) if observers else None


def make_metrics(actions: Collection[str], limits: LimitStats) -> Metrics | None:
    """Return the metrics of a run; None if they can't be made, which the log explains.

    Args:
        actions: The names of the actions.
        limits: The limits.
    """
    try:
        from arbprov.instrumentation.metrics import Metrics

        return Metrics(actions, limits)
    except Exception as error:
        _explain(error)
        return None


def make_totals(folder: Path) -> Totals | None:
    """Return the sum of the metrics of several processes; None if it can't be made.

    Args:
        folder: Where the processes keep their metrics.
    """
    try:
        from arbprov.instrumentation.totals import Totals

        return Totals(folder)
    except Exception as error:
        _explain(error)
        return None


def _explain(error: Exception) -> None:
    if isinstance(error, ImportError):
        logger.info("there are no metrics, since prometheus-client is not installed")
    else:
        logger.error("there are no metrics, since they could not be made", exc_info=error)
