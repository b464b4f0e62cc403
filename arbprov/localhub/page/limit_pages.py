"""Limits: how much each key has left, which gates are closed, and which tasks wait for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import attrs
from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.page.accounts import mask_name
from arbprov.localhub.page.done import describe_done
from arbprov.localhub.page.hub import PageHub
from arbprov.localhub.page.rendering import make_version
from arbprov.localhub.reports import LimitReport, ProviderReport
from arbprov.localhub.tasks import Scope, State, TaskFilter
from arbprov.localhub.tokens import Role

__all__ = ["LimitPages", "LimitRow", "join_limits"]

_MAX_ROWS = 200
# Waiting tasks are counted for so many groups, up to this number each.
_MAX_GROUPS = 50
_MOST = 1_000
_MAX_NAMES = 1_000


@attrs.frozen(kw_only=True)
class LimitRow:
    """A limit for one key, over all processes of a provider.

    Attributes:
        provider: The provider.
        report: The report of the process that has least left.
        processes: How many processes report it.
        waiting: How many tasks wait for it in these processes.
        opens_at: When a closed gate opens, in seconds since 1970; None while it is open.
        next_at: When it admits another call, if it does not now and is open.
        used: The part that is used up, from 0 to 100; None if unknown.
    """

    provider: str
    report: LimitReport
    processes: int
    waiting: int
    opens_at: float | None
    next_at: float | None
    used: float | None

    @property
    def is_trying(self) -> bool:
        """Whether a single call tries whether the API admits calls again."""
        return self.opens_at is None and self.report.opens_in == 0

    @property
    def is_used_up(self) -> bool:
        """Whether it admits no call now; its provider may not say until when."""
        if self.report.next_in is not None:
            return self.next_at is not None
        return self.report.left == 0


@attrs.frozen(kw_only=True)
class HeldGroup:
    """A group of tasks that the hub holds back, since a limit said so.

    Attributes:
        scope: The group.
        waiting: How many of its tasks wait; None if that was not counted.
        is_capped: Whether more wait.
        name: The account's masked name; empty if unknown.
    """

    scope: Scope
    waiting: int | None
    is_capped: bool
    name: str


class LimitPages:
    """The page of limits.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: PageHub) -> None:
        self._hub = hub
        # By account key; an account's name does not change.
        self._names: dict[str, str] = {}

    async def show(self, request: Request) -> Response:
        """Show all limits that providers report, and all groups that the hub holds back."""
        now = self._hub.now()
        reports = self._hub.reports.latest()
        cut = sum(report.limits_cut for report, _ in reports)
        rows = join_limits(reports, now)
        held = sorted(await self._hub.store.held(), key=lambda scope: scope.held_until)
        is_admin = request.state.role is Role.ADMIN
        keys = [row.report.account_key for row in rows[:_MAX_ROWS]]
        keys += [scope.account_key for scope in held[:_MAX_GROUPS]]
        names = {key: await self._find_name(key) for key in {*keys} if key and is_admin}
        groups = [
            await self._count_group(scope, names, is_counted=place < _MAX_GROUPS)
            for place, scope in enumerate(held[:_MAX_ROWS])
        ]
        pauses = await self._hub.store.pauses()
        return self._hub.render.page(
            request,
            "limits",
            rows=rows[:_MAX_ROWS],
            hidden_rows=max(0, len(rows) - _MAX_ROWS) + cut,
            groups=groups,
            hidden_groups=max(0, len(held) - _MAX_ROWS),
            names=names,
            pauses=pauses,
            now=now,
            closed=sum(row.opens_at is not None for row in rows),
            done=describe_done(request.query_params.get("did", "")),
            version=make_version(rows, groups, pauses),
        )

    async def _find_name(self, key: str) -> str:
        """Return the masked name of an account, as any of its tasks has it."""
        if key not in self._names:
            while len(self._names) >= _MAX_NAMES:
                del self._names[next(iter(self._names))]
            tasks = await self._hub.store.search(TaskFilter(account_key=key), limit=1, preview=0)
            if not tasks:
                return ""
            self._names[key] = mask_name(tasks[0].account)
        return self._names[key]

    async def _count_group(
        self, scope: Scope, names: dict[str, str], *, is_counted: bool
    ) -> HeldGroup:
        waiting = None
        if is_counted:
            where = TaskFilter(
                action=scope.action, account_key=scope.account_key, states=(State.WAITING,)
            )
            waiting = await self._hub.store.count(where, most=_MOST)
        return HeldGroup(
            scope=scope,
            waiting=waiting,
            is_capped=waiting == _MOST,
            name=names.get(scope.account_key, ""),
        )


def join_limits(reports: Iterable[tuple[ProviderReport, float]], now: float) -> list[LimitRow]:
    """Return the limits of all processes: closed gates first, then by the calls left.

    Args:
        reports: The reports, with their ages in seconds.
        now: The time in seconds since 1970.

    >>> limit = LimitReport(action="forecast", limit="5/minute", total=5, left=2)
    >>> report = ProviderReport(provider="weather", process="1", limits=(limit,))
    >>> [(row.used, row.processes) for row in join_limits([(report, 1.0)], 0.0)]
    [(60.0, 1)]
    """
    found: defaultdict[tuple[str, ...], list[tuple[LimitReport, float]]] = defaultdict(list)
    for report, age in reports:
        for limit in report.limits:
            own = (limit.owner, limit.action, limit.limit, limit.by, limit.key)
            key = (report.provider, *own)
            found[key].append((limit, age))
    rows = [_join(provider, limits, now) for (provider, *_), limits in found.items()]
    return sorted(rows, key=_urgency)


def _join(provider: str, limits: Sequence[tuple[LimitReport, float]], now: float) -> LimitRow:
    opens = [
        (now - age + limit.opens_in, limit) for limit, age in limits if limit.opens_in is not None
    ]
    closed = [(at, limit) for at, limit in opens if at > now]
    opens_at: float | None = None
    tightest, age = min(limits, key=lambda pair: _left(pair[0]))
    next_at = None if tightest.next_in is None else now - age + tightest.next_in
    if closed:
        opens_at, tightest = max(closed, key=lambda pair: pair[0])
    used = None
    if tightest.total and tightest.left is not None:
        used = min(max(100 * (1 - tightest.left / tightest.total), 0.0), 100.0)
    return LimitRow(
        provider=provider,
        report=tightest,
        processes=len(limits),
        waiting=sum(limit.waiting for limit, _ in limits),
        opens_at=opens_at,
        next_at=next_at if next_at is not None and next_at > now else None,
        used=used,
    )


def _left(limit: LimitReport) -> float:
    return float("inf") if limit.left is None else limit.left


def _urgency(row: LimitRow) -> tuple[bool, float, str, str, str]:
    used = 0.0 if row.used is None else row.used
    report = row.report
    return row.opens_at is None, -used, report.action, report.limit, report.key
