"""Reports of providers: their actions, their slots, and the state of their limits.

The hub keeps the latest report of each process in memory, for its page and API; no decision about
tasks depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from arbprov.errors import Problem
from arbprov.payload.converter import make_converter
from arbprov.payload.validation import ValidationFailure
from arbprov.wire.reports import (
    MAX_ACTIONS,
    MAX_LIMITS,
    ActionReport,
    LimitReport,
    ProviderReport,
)

__all__ = ["ActionReport", "LimitReport", "ProviderReport", "Reports", "read_report"]

# Seconds after which a process that reports no more is forgotten.
_MAX_AGE = 60.0
# Seconds for which a provider that has polled counts as running.
_POLLED_LATELY = 10.0
# Processes whose reports are kept, and providers whose polls are.
_MAX_PROCESSES = 1_000

# A newer provider may have more fields.
_converter = make_converter()


def read_report(request: Mapping[str, Any]) -> ProviderReport:
    """Return what a provider has sent as its report, without actions if it has sent none.

    Raises:
        ValidationFailure: It is not a report, or has too many parts.

    >>> read_report({"provider": "weather", "process": "1", "slots": 8}).slots
    8
    """
    for name, most in (("actions", MAX_ACTIONS), ("limits", MAX_LIMITS)):
        parts = request.get(name, ())
        if isinstance(parts, list) and len(parts) > most:
            raise ValidationFailure([Problem(name, f"must have at most {most} items")])
    try:
        return _converter.structure(request, ProviderReport)
    except Exception as error:
        raise ValidationFailure.from_error(error) from None


@attrs.frozen
class _Known:
    """The latest report of a process, when it came, and whether its actions are known."""

    report: ProviderReport
    at: float
    has_actions: bool


class Reports:
    """The latest report of each process, and when each provider polled last.

    Args:
        clock: Returns a time in seconds that never goes back.
        interval: Seconds between two reports of a process, for which the hub asks; 0 for none.

    >>> reports = Reports()
    >>> reports.put(ProviderReport(provider="weather", process="1", slots=8))
    >>> [report.slots for report, age in reports.latest()]
    [8]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, interval: float = 5.0) -> None:
        self.interval = interval
        self._clock = clock
        # In the order of their last reports.
        self._known: dict[tuple[str, str], _Known] = {}
        self._polled_at: dict[str, float] = {}
        # The last polls of processes that do not say that they report.
        self._silent_at: dict[str, float] = {}

    def put(self, report: ProviderReport) -> None:
        """Keep a complete report in place of the previous report."""
        self.receive(report, has_actions=True)

    def receive(self, report: ProviderReport, *, has_actions: bool) -> bool:
        """Keep a report in place of the previous report, as it was sent.

        Args:
            report: The report.
            has_actions: Whether it has the actions of the process; else they are as before.

        Returns:
            Whether the actions of the process are known.
        """
        known = self._known.pop((report.provider, report.process), None)
        if not has_actions and known is not None and known.has_actions:
            before = known.report
            has_actions = True
            report = attrs.evolve(
                report,
                actions=before.actions,
                actions_cut=before.actions_cut,
                schemas_cut=before.schemas_cut,
            )
        key = (report.provider, report.process)
        self._known[key] = _Known(report, self._clock(), has_actions)
        _drop_oldest(self._known)
        return has_actions

    def note_poll(self, provider: str, *, reports: bool = False) -> None:
        """Note that a provider has polled just now; every provider does, reporting or not.

        Args:
            provider: The provider.
            reports: Whether the process says that it reports.
        """
        for polled_at in (self._polled_at,) if reports else (self._polled_at, self._silent_at):
            polled_at.pop(provider, None)
            polled_at[provider] = self._clock()
            _drop_oldest(polled_at)

    def latest(self) -> list[tuple[ProviderReport, float]]:
        """Return the reports of the processes that still report, with their ages in seconds."""
        return [(known.report, age) for known, age in self._find_latest()]

    def _find_latest(self) -> list[tuple[_Known, float]]:
        now = self._clock()
        self._known = {key: one for key, one in self._known.items() if now - one.at < _MAX_AGE}
        return [(self._known[key], now - self._known[key].at) for key in sorted(self._known)]

    def last_polls(self) -> dict[str, float]:
        """Return the seconds since each provider's last poll."""
        now = self._clock()
        return {provider: now - at for provider, at in self._polled_at.items()}

    def actions(self) -> dict[str, ActionReport]:
        """Return the reported actions by name; the latest report counts."""
        latest = sorted(self.latest(), key=lambda found: -found[1])
        return {action.name: action for report, _ in latest for action in report.actions}

    def running_actions(self, provider: str = "") -> frozenset[str] | None:
        """Return the names of all actions that running providers have; None if that is unknown.

        It is known if each process that has polled lately reports, and there is one.

        Args:
            provider: A provider; empty for all.
        """
        found = [known for known, _ in self._find_latest()]
        found = [known for known in found if provider in ("", known.report.provider)]
        reporting = {known.report.provider for known in found}
        now = self._clock()
        polled = {p for p, at in self._polled_at.items() if now - at < _POLLED_LATELY}
        silent = {p for p, at in self._silent_at.items() if now - at < _POLLED_LATELY}
        of = {provider} if provider else polled
        is_complete = all(known.has_actions and not known.report.actions_cut for known in found)
        if not found or not is_complete or silent & of or not polled & of <= reporting:
            return None
        return frozenset(action.name for known in found for action in known.report.actions)


def _drop_oldest(entries: dict[Any, Any]) -> None:
    """Keep what was added last of too many entries."""
    while len(entries) > _MAX_PROCESSES:
        del entries[next(iter(entries))]
