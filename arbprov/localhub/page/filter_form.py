"""The form with the filters of a list: what its fields suggest, and what it carries besides."""

from __future__ import annotations

import attrs

from arbprov.localhub.page.hub import PageHub
from arbprov.localhub.page.requests import AGES, Form, field
from arbprov.localhub.page.statistics import Statistics

__all__ = ["FilterForm", "make_filter_form"]

# Suggestions may be this many seconds old.
_MAX_AGE = 60.0
_PAYLOAD = "payload."
_FIELDS = frozenset({"text", "action", "account", "error_type", "provider", "created_after"})


@attrs.frozen(kw_only=True)
class Extra:
    """A filter without a field in the form.

    Attributes:
        text: Its words.
        others: The filters without it.
    """

    text: str
    others: Form


@attrs.frozen(kw_only=True)
class FilterForm:
    """The form.

    Attributes:
        ages: The times that a list can look back.
        since: The chosen time of these, or another; empty for all tasks.
        where: The field of the payload, as NAME=VALUE.
        hidden: The filters without a field, which the form carries on.
        extras: The same, but for the states, which have tabs.
        error_types: Error types to choose from.
        providers: Providers to choose from.
    """

    ages: list[str]
    since: str
    where: str
    hidden: Form
    extras: list[Extra]
    error_types: list[str]
    providers: list[str]


async def make_filter_form(hub: PageHub, statistics: Statistics, filters: Form) -> FilterForm:
    """Return the form that shows filters.

    Args:
        hub: The hub.
        statistics: Has the error types of the tasks that ended last.
        filters: The filters of the list.
    """
    where = next((pair for pair in filters if pair[0].startswith(_PAYLOAD)), None)
    hidden = [pair for pair in filters if pair[0] not in _FIELDS and pair != where]
    summary = await statistics.read(_MAX_AGE)
    reported = [report.provider for report, _ in hub.reports.latest()]
    return FilterForm(
        ages=[*AGES],
        since=field(filters, "created_after"),
        where=_describe(*where) if where else "",
        hidden=hidden,
        extras=[
            Extra(
                text=_describe(name, value),
                others=[pair for pair in filters if pair != (name, value)],
            )
            for name, value in hidden
            if name != "state"
        ],
        error_types=summary.error_types,
        providers=sorted({*hub.reports.last_polls(), *reported}),
    )


def _describe(name: str, value: str) -> str:
    if name.startswith(_PAYLOAD):
        return f"{name.removeprefix(_PAYLOAD)}={value}"
    return f"{name.replace('_', ' ')} {value}"
