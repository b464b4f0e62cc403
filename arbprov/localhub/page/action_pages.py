"""Actions: how they do, and the form that runs one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import attrs
from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.api.parsing import read_path
from arbprov.localhub.page.done import describe_done
from arbprov.localhub.page.hub import PageHub, go_to, task_url
from arbprov.localhub.page.rendering import make_version
from arbprov.localhub.page.requests import field, find_filters, read_form
from arbprov.localhub.page.results import Shown, show_json
from arbprov.localhub.page.run_forms import (
    Entered,
    enter_task,
    make_run_form,
    read_entered,
    switch_mode,
    to_task,
)
from arbprov.localhub.page.statistics import ActionFigures, Statistics, Summary
from arbprov.localhub.page.task_pages import problems_of
from arbprov.localhub.page.task_rows import run_seconds
from arbprov.localhub.reports import ActionReport
from arbprov.localhub.tasks import PauseKind, State, StoredTask
from arbprov.payload.validation import ValidationFailure

__all__ = ["ActionPages"]

# Seconds that a form waits for a result before it is shown without one.
_PATIENCE = 1.5


@attrs.frozen(kw_only=True)
class ActionRow:
    """An action as the list shows it.

    Attributes:
        name: Its name.
        url: The address of its page.
        report: Its latest report; None without a report.
        providers: The providers that report it.
        counts: Its tasks by state.
        figures: Its figures; None if none of its tasks is among the tasks that ended last.
        is_paused: Whether none of its tasks is handed out.
    """

    name: str
    url: str
    report: ActionReport | None
    providers: list[str]
    counts: Mapping[str, int]
    figures: ActionFigures | None
    is_paused: bool


@attrs.frozen(kw_only=True)
class Outcome:
    """A task that the form has submitted.

    Attributes:
        task: The task.
        url: The address of its page.
        result: Its envelope; None without a result.
        seconds: How long it ran.
    """

    task: StoredTask
    url: str
    result: Shown | None
    seconds: float | None


class ActionPages:
    """The pages of actions.

    Args:
        hub: The hub.
        statistics: The figures of actions.
    """

    def __init__(self, hub: PageHub, statistics: Statistics) -> None:
        self._hub = hub
        self._statistics = statistics

    # The list.

    async def list(self, request: Request) -> Response:
        """Show all actions with their figures."""
        summary = await self._statistics.read()
        counts = await self._hub.store.counts()
        names = sorted({*counts, *self._hub.reports.actions()})
        rows = await self._make_rows(names, counts, summary)
        return self._hub.render.page(
            request,
            "actions",
            rows=rows,
            summary=summary,
            done=describe_done(request.query_params.get("did", "")),
            version=make_version(rows, summary),
        )

    async def _make_rows(
        self, names: Sequence[str], counts: Mapping[str, Mapping[State, int]], summary: Summary
    ) -> Sequence[ActionRow]:
        pauses = await self._hub.store.pauses()
        paused = {pause.name for pause in pauses if pause.kind is PauseKind.ACTION}
        reports = self._hub.reports.actions()
        providers: defaultdict[str, set[str]] = defaultdict(set)
        for report, _ in self._hub.reports.latest():
            for action in report.actions:
                providers[action.name].add(report.provider)
        return [
            ActionRow(
                name=name,
                url=f"/actions/{quote(name, safe='')}",
                report=reports.get(name),
                providers=sorted(providers[name]),
                counts={state.value: count for state, count in counts.get(name, {}).items()},
                figures=summary.actions.get(name),
                is_paused=name in paused,
            )
            for name in names
        ]

    # One action, and its form.

    async def show(self, request: Request) -> Response:
        """Show an action with an empty form, or with that of a task to run again."""
        name = read_path(request, "name")
        parameters = find_filters(request.url.query)
        report = self._hub.reports.actions().get(name)
        like = None
        outcome = None
        entered = Entered(mode="form", payload_text="{}")
        if task_id := field(parameters, "from"):
            like = await self._hub.find_task(task_id)
            outcome = make_outcome(like)
            entered = enter_task(report, like, problems_of(like))
        return await self._page(request, name, entered, like, outcome)

    async def run(self, request: Request) -> Response:
        """Submit a task; wait a moment for its result, and show it beside the form."""
        name = read_path(request, "name")
        report = self._hub.reports.actions().get(name)
        entered = read_entered(await read_form(request), report)
        like = await self._find_like(entered)
        try:
            task = to_task(name, entered, like)
        except ValidationFailure as failure:
            entered = attrs.evolve(entered, problems=tuple(failure.problems))
            return await self._page(request, name, entered, like, None, 422)
        (accepted,) = await self._hub.queue.submit([task])
        if "hx-request" not in request.headers:
            return go_to(task_url(accepted.id, did="run"))
        await self._hub.api.or_stop(self._hub.queue.wait([accepted.id], _PATIENCE))
        stored = await self._hub.find_task(accepted.id)
        entered = attrs.evolve(entered, problems=tuple(problems_of(stored)))
        return await self._page(request, name, entered, like, make_outcome(stored))

    async def switch(self, request: Request) -> Response:
        """Show the entered values as JSON, or as fields."""
        name = read_path(request, "name")
        report = self._hub.reports.actions().get(name)
        entered = switch_mode(read_entered(await read_form(request), report), report)
        return await self._page(request, name, entered, await self._find_like(entered), None)

    async def outcome(self, request: Request) -> Response:
        """Show the result of a task that a form has submitted, and its problems at their fields."""
        task = await self._hub.find_task(field(find_filters(request.url.query), "task"))
        return self._hub.render.page(
            request,
            "outcome",
            outcome=make_outcome(task),
            problems=problems_of(task),
            name=task.action,
        )

    async def _find_like(self, entered: Entered) -> StoredTask | None:
        if not entered.account_from:
            return None
        return await self._hub.find_task(entered.account_from)

    async def _page(
        self,
        request: Request,
        name: str,
        entered: Entered,
        like: StoredTask | None,
        outcome: Outcome | None,
        status: int = 200,
    ) -> Response:
        counts = await self._hub.store.counts()
        summary = await self._statistics.read()
        (row,) = await self._make_rows([name], counts, summary)
        is_part = "hx-request" in request.headers
        return self._hub.render.page(
            request,
            "run_form" if is_part else "action",
            status=status,
            row=row,
            name=name,
            summary=summary,
            form=make_run_form(row.report, entered, like),
            outcome=outcome,
            problems=[] if outcome is None else problems_of(outcome.task),
            is_known=row.report is not None or bool(row.counts),
            version=make_version(row, summary.seconds),
            done=describe_done(request.query_params.get("did", "")),
        )


def make_outcome(task: StoredTask) -> Outcome:
    """Return a task's outcome."""
    return Outcome(
        task=task,
        url=task_url(task.id),
        result=show_json(task.result.encode(errors="replace")) if task.result else None,
        seconds=run_seconds(task),
    )
