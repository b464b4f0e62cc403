"""Which observers a run has, by its settings and by what the author has set up."""

from __future__ import annotations

from arbprov.instrumentation import tracing
from arbprov.instrumentation.observer import Observer, Observers

__all__ = ["make_observers"]


def make_observers(provider: str, *, has_metrics: bool) -> Observers | None:
    """Return the observers of a run; None if it has none.

    Args:
        provider: The provider's name.
        has_metrics: Whether the run serves metrics.
    """
    observers: list[Observer] = []
    if tracing.is_set_up():
        observers.append(tracing.Tracing(provider))
    return Observers(observers) if observers else None
