"""The list of tasks: filters, counts, pages, and what is done with all that match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import attrs
from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.api.filters import (
    MOST_SEARCHED,
    among,
    find_search_end,
    make_cursor,
    read_cursor,
    to_filter,
)
from arbprov.localhub.api.matching import OPEN_STATES, Change, change_matching, retried_states
from arbprov.localhub.api.parsing import read_path
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.shapes import ListQuery
from arbprov.localhub.page.accounts import find_full_key
from arbprov.localhub.page.done import describe_done
from arbprov.localhub.page.filter_form import make_filter_form
from arbprov.localhub.page.hub import PageHub, go_to
from arbprov.localhub.page.rendering import make_version
from arbprov.localhub.page.requests import (
    AGES,
    Form,
    field,
    find_filters,
    read_form,
    read_list_query,
)
from arbprov.localhub.page.statistics import Statistics
from arbprov.localhub.page.task_rows import PREVIEW, Row, make_rows
from arbprov.localhub.tasks import PauseKind, State, StoredTask, TaskFilter
from arbprov.localhub.tokens import Role

__all__ = ["TaskListPages"]

_PAGE = 50
# Tasks of a filter are counted up to this number while people look at a list.
_MOST = 1_000
# Parameters of the address that are not filters.
_NOT_FILTERS = ("cursor", "did", "limit", "accounts")
_PAUSED_FILTERS = {
    "action": PauseKind.ACTION,
    "account": PauseKind.ACCOUNT,
    "provider": PauseKind.PROVIDER,
}


@attrs.frozen(kw_only=True)
class Tab:
    """A state to filter by.

    Attributes:
        state: The state; empty for all.
        count: How many tasks of the chosen action are in it; None if other filters are set.
        is_current: Whether the list shows it.
        filters: The filters of its list.
    """

    state: str
    count: int | None
    is_current: bool
    filters: Form


class TaskListPages:
    """The list of tasks, and the pages that ask before all that match are changed.

    Args:
        hub: The hub.
        statistics: Has the error types that people can choose.
    """

    def __init__(self, hub: PageHub, statistics: Statistics) -> None:
        self._hub = hub
        self._statistics = statistics

    async def show(self, request: Request) -> Response:
        """Show a page of tasks."""
        parameters = find_filters(request.url.query)
        did = field(parameters, "did")
        parameters = [(name, value) for name, value in parameters if name != "did"]
        query = read_list_query(request, parameters, self._hub.now())
        account = query.account or ""
        if (key := await find_full_key(self._hub.store, account)) != account:
            pairs = [(name, key if name == "account" else value) for name, value in parameters]
            return go_to(self._address(pairs))
        filters = [pair for pair in parameters if pair[0] not in _NOT_FILTERS]
        where = to_filter(query)
        before = None if query.cursor is None else read_cursor(query.cursor)
        store = self._hub.store
        counts = await store.counts()
        end = await find_search_end(store, where, before)
        total, is_exact = await self._count(where, counts, before, end)
        tabs = _make_tabs(counts, filters, query)
        tasks = []
        if total:
            tasks = await store.search(
                where, before=before, after=end, limit=_PAGE + 1, preview=PREVIEW
            )
        has_more = len(tasks) > _PAGE
        rows = await self._make_rows(request, tasks[:_PAGE])
        return self._hub.render.page(
            request,
            "tasks",
            rows=rows,
            tabs=tabs,
            filters=filters,
            form=await make_filter_form(self._hub, self._statistics, filters),
            query=query,
            actions=sorted(counts),
            total=total,
            is_exact=is_exact,
            older=make_cursor(rows[-1].task.number) if has_more else "",
            unsearched="" if end is None else make_cursor(end + 1),
            searched=MOST_SEARCHED,
            paused=await self._find_pauses(filters),
            done=describe_done(did),
            version=make_version(rows, has_more, total),
            tabs_version=make_version(tabs),
        )

    async def _make_rows(self, request: Request, tasks: Sequence[StoredTask]) -> list[Row]:
        return make_rows(
            tasks,
            await self._hub.store.pauses(),
            await self._hub.store.held(),
            self._hub.reports,
            now=self._hub.now(),
            shows_accounts=request.state.role is Role.ADMIN,
        )

    async def _count(
        self,
        where: TaskFilter,
        counts: Mapping[str, Mapping[State, int]],
        before: int | None,
        end: int | None,
    ) -> tuple[int, bool]:
        """Return how many tasks a filter finds, and whether these are all.

        Of a search for a text, only the tasks from this page to the search's end.
        """
        if where == TaskFilter(action=where.action, states=where.states):
            chosen = [counts.get(where.action, {})] if where.action else [*counts.values()]
            states = where.states or tuple(State)
            return sum(found.get(state, 0) for found in chosen for state in states), True
        if not where.text:
            before = None
        total = await self._hub.store.count(where, before=before, after=end, most=_MOST)
        return total, total < _MOST

    async def _find_pauses(self, filters: Form) -> list[tuple[str, str, bool]]:
        """Return what the filters name that can be paused, and whether it is."""
        paused = {(pause.kind, pause.name) for pause in await self._hub.store.pauses()}
        return [
            (name, value, (_PAUSED_FILTERS[name], value) in paused)
            for name, value in filters
            if name in _PAUSED_FILTERS
        ]

    # All that match.

    async def ask(self, request: Request) -> Response:
        """Show how many tasks would be changed, and ask."""
        verb = read_path(request, "verb")
        filters = find_filters(request.url.query)
        where, change = self._find_change(verb, request, filters)
        view = await change_matching(self._hub.queue, where, None, change)
        tasks = []
        if where is not None:
            tasks = await self._hub.store.search(where, limit=5, preview=PREVIEW)
        return self._hub.render.page(
            request,
            "matching",
            verb=verb,
            filters=filters,
            ages=AGES,
            matching=view.matching,
            rows=await self._make_rows(request, tasks),
        )

    async def change(self, request: Request) -> Response:
        """Change the tasks that were counted, and show the list again."""
        verb = read_path(request, "verb")
        form = await read_form(request, 2**16)
        filters = [pair for pair in form if pair[0] != "expect"]
        where, change = self._find_change(verb, request, filters)
        expect = field(form, "expect")
        if not (expect.isascii() and expect.isdecimal() and len(expect) < 10):
            raise ApiProblem(422, "the form does not say how many tasks it was shown for")
        view = await change_matching(self._hub.queue, where, int(expect), change)
        # The state that was filtered by has no such task any more.
        kept = [pair for pair in filters if pair[0] != "state"]
        did = "retried" if verb == "retry" else "cancelled"
        return go_to(self._address([*kept, ("did", f"{did}.{view.changed}")]))

    def _find_change(
        self, verb: str, request: Request, filters: Form
    ) -> tuple[TaskFilter | None, Change]:
        query = read_list_query(request, filters, self._hub.now())
        if verb == "retry":
            return among(to_filter(query), retried_states(query.state)), self._hub.queue.retry
        if verb == "cancel":
            return among(to_filter(query), OPEN_STATES), self._hub.queue.cancel
        raise ApiProblem(404, "there is no such page")

    @staticmethod
    def _address(filters: Form) -> str:
        return "/tasks?" + urlencode(filters)


def _make_tabs(
    counts: Mapping[str, Mapping[State, int]], filters: Form, query: ListQuery
) -> list[Tab]:
    """Return the states, with their counts if only an action is chosen, which costs no search."""
    is_counted = {name for name, _ in filters} <= {"action", "state"}
    chosen = [counts.get(query.action, {})] if query.action else [*counts.values()]
    others = [pair for pair in filters if pair[0] != "state"]
    by_state = {state: sum(found.get(state, 0) for found in chosen) for state in State}
    every = Tab(
        state="",
        count=sum(by_state.values()) if is_counted else None,
        is_current=not query.state,
        filters=others,
    )
    return [
        every,
        *(
            Tab(
                state=state.value,
                count=count if is_counted else None,
                is_current=state in query.state,
                filters=[*others, ("state", state.value)],
            )
            for state, count in by_state.items()
        ),
    ]
