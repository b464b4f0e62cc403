"""The providers' reports, as the API shows them."""

from __future__ import annotations

from collections import defaultdict

from arbprov.localhub.api.fields import to_datetime
from arbprov.localhub.api.shapes import (
    ActionsView,
    ActionView,
    ProcessView,
    ProvidersView,
    ProviderView,
    ReportedLimitView,
)
from arbprov.localhub.reports import LimitReport, ProviderReport, Reports

__all__ = ["view_actions", "view_providers", "view_reported_limits"]


def view_providers(reports: Reports, now: float) -> ProvidersView:
    """Return the providers and their processes.

    Args:
        reports: The providers' reports.
        now: The time in seconds since 1970.
    """
    processes: defaultdict[str, list[ProcessView]] = defaultdict(list)
    for report, age in reports.latest():
        processes[report.provider].append(_view_process(report, now - age))
    polls = reports.last_polls()
    return ProvidersView(
        providers=[
            ProviderView(
                name=name,
                polled_at=to_datetime(now - polls[name]) if name in polls else None,
                processes=processes[name],
            )
            for name in sorted({*processes, *polls})
        ]
    )


def view_actions(reports: Reports) -> ActionsView:
    """Return the actions of all providers that report."""
    providers: defaultdict[str, set[str]] = defaultdict(set)
    for report, _ in reports.latest():
        for action in report.actions:
            providers[action.name].add(report.provider)
    actions = [
        ActionView(
            name=name,
            description=action.description,
            providers=sorted(providers[name]),
            payload_schema={**action.payload_schema},
            account_schema=None if action.account_schema is None else {**action.account_schema},
            limits=[*action.limits],
        )
        for name, action in sorted(reports.actions().items())
    ]
    return ActionsView(actions=actions, complete=reports.running_actions() is not None)


def view_reported_limits(reports: Reports, now: float) -> list[ReportedLimitView]:
    """Return how limits stand in all processes that report, closed gates first.

    Args:
        reports: The providers' reports.
        now: The time in seconds since 1970.
    """
    limits = [
        _view_limit(report, limit, now - age)
        for report, age in reports.latest()
        for limit in report.limits
    ]
    return sorted(limits, key=lambda limit: limit.opens_at is None)


def _view_process(report: ProviderReport, at: float) -> ProcessView:
    return ProcessView(
        process=report.process,
        version=report.version,
        slots=report.slots,
        free_slots=report.free_slots,
        actions=[action.name for action in report.actions],
        reported_at=to_datetime(at),
        actions_cut=report.actions_cut,
        schemas_cut=report.schemas_cut,
        limits_cut=report.limits_cut,
    )


def _view_limit(report: ProviderReport, limit: LimitReport, at: float) -> ReportedLimitView:
    return ReportedLimitView(
        provider=report.provider,
        process=report.process,
        action=limit.action,
        limit=limit.limit,
        owner=limit.owner,
        by=limit.by,
        key=limit.key,
        account_key=limit.account_key,
        total=limit.total,
        left=limit.left,
        next_at=None if limit.next_in is None else to_datetime(at + limit.next_in),
        opens_at=None if limit.opens_in is None else to_datetime(at + limit.opens_in),
        closed_by=limit.closed_by,
        waiting=limit.waiting,
        shadow=limit.shadow,
        reported_at=to_datetime(at),
    )
