"""A task's page, and the actions on a single task."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response

from arbprov.errors import Problem
from arbprov.localhub.api.answers import answer
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.api.views import view_task
from arbprov.localhub.page.accounts import mask_name
from arbprov.localhub.page.bars import Bar, make_bar
from arbprov.localhub.page.commands import make_call_command
from arbprov.localhub.page.done import describe_done
from arbprov.localhub.page.hub import PageHub, go_to, task_url
from arbprov.localhub.page.rendering import make_version
from arbprov.localhub.page.results import Shown, find_problems, show_json
from arbprov.localhub.page.waits import explain
from arbprov.localhub.submitting import make_task, read_result
from arbprov.localhub.tasks import Attempt, NewTask, StoredTask
from arbprov.localhub.tokens import Role
from arbprov.task import Status

__all__ = ["TaskPages", "problems_of"]

_MAX_ATTEMPTS = 100


@attrs.frozen(kw_only=True)
class AttemptRow:
    """An attempt as the page shows it.

    Attributes:
        attempt: The attempt.
        seconds: How long it took; None while it runs.
        error: The type of its error, or the limit that it was over; empty without either.
        message: What its result says, unless it is a success, or says what the problems say.
        bar: When it was, in the time of its task.
        result: Its envelope; None without a result.
        aside: Other results that came for it.
    """

    attempt: Attempt
    seconds: float | None
    error: str
    message: str
    bar: Bar
    result: Shown | None
    aside: list[Shown]


class TaskPages:
    """The pages of a task.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: PageHub) -> None:
        self._hub = hub

    async def show(self, request: Request) -> Response:
        """Show a task with its attempts, and why it waits."""
        task = await self._hub.task_of(request)
        is_admin = request.state.role is Role.ADMIN
        shows_account = request.query_params.get("account") == "shown"
        if shows_account and not is_admin:
            raise ApiProblem(403, "your token may not see the values of accounts")
        attempts = await self._hub.store.attempts(task.id)
        whole = (task.created_at, task.ended_at or self._hub.now())
        pauses = {(pause.kind.value, pause.name) for pause in await self._hub.store.pauses()}
        result = show_json(task.result.encode(errors="replace")) if task.result else None
        wait = await explain(self._hub.store, self._hub.reports, task, self._hub.now())
        return self._hub.render.page(
            request,
            "task",
            task=task,
            url=task_url(task.id),
            attempts=[_make_row(one, whole) for one in attempts[: -_MAX_ATTEMPTS - 1 : -1]],
            attempt_count=len(attempts),
            payload=show_json(task.payload),
            command=make_call_command(task.action, task.payload, task.provider),
            account=show_json(task.account or b"{}") if shows_account else None,
            account_name=mask_name(task.account) if is_admin else "",
            result=result,
            problems=[] if result is None else find_problems(result.value),
            wait=wait,
            waited=max(0.0, attempts[0].started_at - task.created_at) if attempts else None,
            seconds=_find_seconds(attempts[-1]) if attempts else None,
            pauses=pauses,
            done=describe_done(request.query_params.get("did", "")),
            version=make_version(task, attempts, wait, pauses),
        )

    async def download(self, request: Request) -> Response:
        """Return a task as the API shows it, with its account masked, as a file to keep."""
        task = await self._hub.task_of(request)
        attempts = await self._hub.store.attempts(task.id)
        # The id may have characters that a header or the name of a file must not have.
        headers = {"Content-Disposition": 'attachment; filename="task.json"'}
        return answer(view_task(task, masks_account=True, attempts=attempts), headers=headers)

    async def retry(self, request: Request) -> Response:
        """Have a task that has ended wait again."""
        task = await self._hub.task_of(request)
        if not await self._hub.queue.retry([task.id]):
            raise ApiProblem(409, f"the task has not ended: it is {task.state.value}")
        return go_to(task_url(task.id, did="retried.1"))

    async def cancel(self, request: Request) -> Response:
        """Cancel a task that has not ended."""
        task = await self._hub.task_of(request)
        if not await self._hub.queue.cancel([task.id]):
            raise ApiProblem(409, f"the task has ended: it is {task.state.value}")
        return go_to(task_url(task.id, did="cancelled.1"))

    async def run_again(self, request: Request) -> Response:
        """Submit a new task that is like this one."""
        task = await self._hub.task_of(request)
        new = _copy_task(task)
        (accepted,) = await self._hub.queue.submit([new])
        return go_to(task_url(accepted.id, did="run"))


def _copy_task(task: StoredTask) -> NewTask:
    """Return a new task for the same action, payload, account and provider."""
    return make_task(
        task.action,
        task.payload,
        account=task.account or None,
        account_key=task.account_key,
        provider=task.provider,
        priority=task.priority,
        max_deliveries=task.max_deliveries,
    )


def problems_of(task: StoredTask) -> list[Problem]:
    """Return the problems that a provider has found in a task's payload or account."""
    return find_problems(show_json(task.result.encode(errors="replace")).value)


def _make_row(attempt: Attempt, whole: tuple[float, float]) -> AttemptRow:
    result = read_result("", attempt.status, attempt.result)
    shown = show_json(attempt.result.encode(errors="replace")) if attempt.result else None
    # Problems stand above the attempts, and the message only repeats them.
    says_more = attempt.status != Status.SUCCESS and not (shown and find_problems(shown.value))
    ended_at = whole[1] if attempt.ended_at is None else attempt.ended_at
    return AttemptRow(
        attempt=attempt,
        seconds=_find_seconds(attempt),
        error=result.error_type or (result.limit if attempt.status == Status.LIMIT else ""),
        message=result.message if says_more else "",
        bar=make_bar(attempt.started_at, ended_at, whole),
        result=shown,
        aside=[show_json(text.encode(errors="replace")) for text in attempt.aside],
    )


def _find_seconds(attempt: Attempt) -> float | None:
    """Return how long an attempt took; None while it runs."""
    if attempt.ended_at is None:
        return None
    return max(0.0, attempt.ended_at - attempt.started_at)
