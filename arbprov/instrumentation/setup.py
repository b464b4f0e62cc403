"""Which observers a run has, by its settings and by what is installed."""

from __future__ import annotations

from arbprov.instrumentation.observer import Observer, Observers

__all__ = ["make_observers"]


def make_observers(*, has_metrics: bool) -> Observers | None:
    """Return the observers of a run; None if it has none.

    Args:
        has_metrics: Whether the run serves metrics.

    Raises:
        ConfigurationError: A setting needs a package that is not installed.
    """
    observers: list[Observer] = []
    return Observers(observers) if observers else None
