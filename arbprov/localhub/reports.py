"""What providers report of themselves: their actions, their slots, and how their limits stand.

The hub keeps the latest report of each provider's process in memory, for people who look at it; no
decision about tasks depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

__all__ = ["ActionReport", "LimitReport", "ProviderReport", "Reports"]

# Seconds after which a process that reports no more is forgotten.
_MAX_AGE = 60.0


@attrs.frozen(kw_only=True)
class ActionReport:
    """An action of a provider.

    Attributes:
        name: The action's name.
        description: The first sentence of its docstring; empty without one.
        payload_schema: The JSON Schema of its payload.
        account_schema: The JSON Schema of its account; None if it takes none.
        limits: Its limits as texts, such as ``5/minute``.
    """

    name: str
    description: str = ""
    payload_schema: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    account_schema: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    limits: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LimitReport:
    """How a limit stands for one key.

    Attributes:
        action: The action; empty for a limit of the whole app.
        limit: The limit as text, such as ``5/minute``.
        key: The key's hash; empty for a limit without keys.
        account_key: The hub's key of an account that the limit counted last; empty if unknown.
        total: How many calls the limit admits; None if it has no such number.
        left: How many it would admit now; None if unknown.
        opens_in: Seconds until a closed gate opens; None while it is open.
        closed_by: Who has closed it, in words; empty while it is open.
        waiting: How many tasks of the provider wait for it.
    """

    action: str
    limit: str
    key: str = ""
    account_key: str = ""
    total: float | None = None
    left: float | None = None
    opens_in: float | None = None
    closed_by: str = ""
    waiting: int = 0


@attrs.frozen(kw_only=True)
class ProviderReport:
    """A process of a provider.

    Attributes:
        provider: The provider's name.
        process: A text that tells its processes apart.
        version: arbprov's version in it.
        slots: How many tasks it can run at once.
        free_slots: How many more it could begin now.
        actions: Its actions.
        limits: How its limits stand: those that have counted something lately.
    """

    provider: str
    process: str
    version: str = ""
    slots: int = 0
    free_slots: int = 0
    actions: tuple[ActionReport, ...] = ()
    limits: tuple[LimitReport, ...] = ()


class Reports:
    """The latest report of each process, and when each provider polled last.

    Args:
        clock: Returns a time in seconds that never goes back.

    >>> reports = Reports()
    >>> reports.put(ProviderReport(provider="weather", process="1", slots=8))
    >>> [report.slots for report, age in reports.latest()]
    [8]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reports: dict[tuple[str, str], tuple[ProviderReport, float]] = {}
        self._polled_at: dict[str, float] = {}

    def put(self, report: ProviderReport) -> None:
        """Keep a report in place of the one before."""
        self._reports[report.provider, report.process] = report, self._clock()

    def note_poll(self, provider: str) -> None:
        """Note that a provider has polled just now; every provider does, reporting or not."""
        self._polled_at[provider] = self._clock()

    def latest(self) -> list[tuple[ProviderReport, float]]:
        """Return the reports of the processes that still report, with their ages in seconds."""
        now = self._clock()
        self._reports = {
            key: (report, at) for key, (report, at) in self._reports.items() if now - at < _MAX_AGE
        }
        return [(report, now - at) for report, at in self._reports.values()]

    def last_polls(self) -> dict[str, float]:
        """Return the seconds since each provider's last poll."""
        now = self._clock()
        return {provider: now - at for provider, at in self._polled_at.items()}

    def actions(self) -> dict[str, ActionReport]:
        """Return the reported actions by name."""
        return {action.name: action for report, _ in self.latest() for action in report.actions}
