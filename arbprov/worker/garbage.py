"""Python's garbage collector, set for a process that runs many tasks at once."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["tuned_gc"]

_GENERATIONS = range(3)

# Objects that a task may hold while it is in flight; most hold about 45 that the collector tracks.
_OBJECTS_PER_TASK = 150


@contextlib.contextmanager
def tuned_gc(tasks: int) -> Iterator[None]:
    """Spare the collector what is not garbage: whatever was imported, and tasks in flight.

    With Python's own threshold, each task in flight is looked through several times before it
    ends, which takes up to a tenth of the time of a tiny task. A collector that is disabled, has
    a higher threshold or has objects frozen already is the author's, and is left so.

    Args:
        tasks: How many are in flight at once.
    """
    thresholds = gc.get_threshold()
    raises = gc.isenabled() and 0 < thresholds[0] < tasks * _OBJECTS_PER_TASK
    freezes = gc.get_freeze_count() == 0
    if raises:
        gc.set_threshold(tasks * _OBJECTS_PER_TASK, *thresholds[1:])
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        # What is left of the connections must not end in a process that is forked from now on.
        _collect()
        if freezes:
            # What came since has to stand behind it again, not before it.
            gc.freeze()
            gc.unfreeze()
        if raises:
            gc.set_threshold(*thresholds)


def _collect() -> None:
    """Collect everything, one generation after the other.

    All in one, objects of the youngest generation end before those of the next: a socket before the
    connection that closes it, and Python would warn of a socket that nobody has closed.
    """
    for generation in _GENERATIONS:
        gc.collect(generation)
