"""The endpoints of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from arbprov.errors import Problem
from arbprov.localhub.api.answers import answer
from arbprov.localhub.api.fields import to_seconds
from arbprov.localhub.api.filters import (
    among,
    find_search_end,
    make_cursor,
    read_cursor,
    to_filter,
)
from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.matching import OPEN_STATES, Change, change_matching, retried_states
from arbprov.localhub.api.parsing import check, read_body, read_path, read_query, structure
from arbprov.localhub.api.problems import ApiProblem, invalid, invalid_value
from arbprov.localhub.api.shapes import (
    MAX_TASKS,
    AcceptedTask,
    AcceptedTasks,
    CancelBody,
    ListQuery,
    MatchingBody,
    PageView,
    TaskBody,
    TaskQuery,
    TaskView,
    WaitQuery,
)
from arbprov.localhub.api.views import view_task
from arbprov.localhub.submitting import make_task
from arbprov.localhub.tasks import NewTask, State, StoredTask, TaskFilter
from arbprov.localhub.tokens import Role
from arbprov.payload.serialize import encode_task_data
from arbprov.payload.validation import Problems, ValidationFailure, json_kind

__all__ = ["TaskEndpoints"]

# A page ends behind the task with which its payloads and results have this many bytes.
_MAX_PAGE_SIZE = 16 * 2**20
# Tasks that are read from the store at once.
_STEP = 50
# Tasks that are checked before other work goes on.
_SLICE = 100


class TaskEndpoints:
    """The endpoints of tasks.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: ApiHub) -> None:
        self._hub = hub
        self._queue = hub.queue
        self._store = hub.queue.store

    # Submit.

    async def submit(self, request: Request) -> Response:
        """Add a task, or many of them."""
        body = await read_body(request)
        if isinstance(body, dict) and "tasks" not in body:
            try:
                task = _make_task(body)
            except ValidationFailure as failure:
                raise invalid(failure.problems, failure.count) from None
            (accepted,) = await self._queue.submit([task])
            view = await self._view(request, accepted.id)
            return answer(view, 201 if accepted.is_new else 200)
        tasks = await _make_tasks(body)
        accepted_tasks = await self._queue.submit(tasks)
        view_all = AcceptedTasks(
            tasks=[AcceptedTask(id=one.id, is_new=one.is_new) for one in accepted_tasks]
        )
        return answer(view_all, 201 if any(one.is_new for one in accepted_tasks) else 200)

    # Read.

    async def find(self, request: Request) -> Response:
        """Return a page of tasks."""
        query = read_query(request, ListQuery)
        masks_account = _masks_account(request, query.accounts)
        where = to_filter(query)
        before = None if query.cursor is None else read_cursor(query.cursor)
        tasks, next_before = await self._read_page(where, before, query.limit)
        return answer(
            PageView(
                tasks=[view_task(task, masks_account=masks_account) for task in tasks],
                next=None if next_before is None else make_cursor(next_before),
            )
        )

    async def _read_page(
        self, where: TaskFilter, before: int | None, limit: int
    ) -> tuple[list[StoredTask], int | None]:
        """Return tasks, and the `before` of the next page; None if there is none."""
        end = await find_search_end(self._store, where, before)
        tasks: list[StoredTask] = []
        size = 0
        while True:
            count = min(_STEP, limit + 1 - len(tasks))
            found = await self._store.search(where, before=before, after=end, limit=count)
            for task in found:
                if len(tasks) == limit or size > _MAX_PAGE_SIZE:
                    return tasks, tasks[-1].number
                tasks.append(task)
                size += len(task.payload) + len(task.account) + len(task.result)
            if len(found) < count:
                return tasks, None if end is None else end + 1
            before = found[-1].number

    async def show(self, request: Request) -> Response:
        """Return a task with its attempts."""
        query = read_query(request, TaskQuery)
        task = await self._get(read_path(request, "id"))
        attempts = await self._store.attempts(task.id)
        masks_account = _masks_account(request, query.accounts)
        return answer(view_task(task, masks_account=masks_account, attempts=attempts))

    async def wait(self, request: Request) -> Response:
        """Return a task when it has ended, or when the time is over."""
        query = read_query(request, WaitQuery)
        masks_account = _masks_account(request, query.accounts)
        name = read_path(request, "id")
        await self._get(name)
        await self._hub.or_stop(self._queue.wait([name], query.timeout))
        return answer(view_task(await self._get(name), masks_account=masks_account))

    # Change.

    async def retry(self, request: Request) -> Response:
        """Have a task that has ended wait again."""
        await _expect_no_body(request)
        task = await self._get(read_path(request, "id"))
        if not await self._queue.retry([task.id]):
            raise ApiProblem(409, f"the task has not ended: it is {task.state.value}")
        return answer(await self._view(request, task.id))

    async def cancel(self, request: Request) -> Response:
        """Cancel a task that has not ended."""
        body = structure(await read_body(request), CancelBody)
        task = await self._get(read_path(request, "id"))
        if not await self._queue.cancel([task.id], body.reason):
            task = await self._get(task.id)
            # A client whose first request had no answer asks again.
            if task.state is not State.CANCELLED:
                raise ApiProblem(409, f"the task has ended: it is {task.state.value}")
        return answer(await self._view(request, task.id))

    async def retry_matching(self, request: Request) -> Response:
        """Have all tasks of a filter that have ended wait again."""
        body = structure(await read_body(request), MatchingBody)
        return await self._change_matching(
            body, retried_states(body.filter.state), self._queue.retry
        )

    async def cancel_matching(self, request: Request) -> Response:
        """Cancel all tasks of a filter that have not ended."""
        body = structure(await read_body(request), MatchingBody)
        return await self._change_matching(body, OPEN_STATES, self._queue.cancel)

    async def _change_matching(
        self, body: MatchingBody, states: Sequence[State], change: Change
    ) -> Response:
        where = among(to_filter(body.filter), states)
        return answer(await change_matching(self._queue, where, body.expect, change))

    # Helpers.

    async def _get(self, name: str) -> StoredTask:
        task = None if "\0" in name else await self._store.get(name)
        if task is None:
            raise ApiProblem(404, "the hub has no task with this id")
        return task

    async def _view(self, request: Request, name: str) -> TaskView:
        return view_task(await self._get(name), masks_account=_masks_account(request, None))


def _masks_account(request: Request, asked: str | None) -> bool:
    is_admin = request.state.role is Role.ADMIN
    if asked == "full" and not is_admin:
        raise ApiProblem(403, "this token may not see the values of accounts")
    return asked == "masked" or not is_admin


async def _expect_no_body(request: Request) -> None:
    if await read_body(request) != {}:
        raise invalid_value("this request has no body")


async def _make_tasks(body: Any) -> list[NewTask]:
    """Return the tasks of ``[...]`` or ``{"tasks": [...]}``."""
    prefix = ""
    if isinstance(body, dict):
        if others := body.keys() - {"tasks"}:
            raise invalid([Problem(name, "not together with `tasks`") for name in sorted(others)])
        body, prefix = body["tasks"], "tasks"
    if not isinstance(body, list):
        raise invalid_value(f"expected an object or an array, got {json_kind(body)}", prefix)
    if len(body) > MAX_TASKS:
        raise invalid_value(
            f"{len(body):,} tasks are too many; send at most {MAX_TASKS:,} at once", prefix
        )
    tasks = []
    problems = Problems()
    for index, item in enumerate(body):
        try:
            tasks.append(_make_task(item))
        except ValidationFailure as failure:
            problems.add(failure, f"{prefix}[{index}]")
            if problems.is_full:
                break
        if index % _SLICE == _SLICE - 1:
            # Providers poll, and their leases run, in the same event loop.
            await asyncio.sleep(0)
    if problems.count:
        raise invalid(problems.listed, problems.count)
    return tasks


def _make_task(value: Any) -> NewTask:
    """Return a task to submit.

    Raises:
        ValidationFailure: It is not valid.
    """
    body = check(value, TaskBody)
    payload = _encode(body.payload, "payload")
    account = None if body.account is None else _encode(body.account, "account")
    try:
        return make_task(
            body.action,
            payload,
            account=account,
            account_key=body.account_key,
            provider=body.provider,
            id=body.id,
            priority=body.priority,
            not_before=to_seconds(body.not_before),
            ttl=body.ttl,
            max_deliveries=body.max_deliveries,
            idempotency_key=body.idempotency_key,
            traceparent=body.traceparent,
        )
    except ValueError as error:
        raise ValidationFailure.from_error(error) from None


def _encode(data: dict[str, Any], path: str) -> bytes:
    try:
        return encode_task_data(data)
    except ValidationFailure as failure:
        raise ValidationFailure(failure.prefixed(path), failure.count) from None
