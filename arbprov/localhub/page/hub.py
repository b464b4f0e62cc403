"""`PageHub`: the parts that the pages share."""

from __future__ import annotations

import time
from urllib.parse import quote

import attrs
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.parsing import read_path
from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.page.rendering import Renderer
from arbprov.localhub.page.sessions import Sessions
from arbprov.localhub.queue import TaskQueue
from arbprov.localhub.reports import Reports
from arbprov.localhub.store import Store
from arbprov.localhub.tasks import StoredTask

__all__ = ["PageHub", "go_to", "task_url"]


@attrs.define(eq=False)
class PageHub:
    """The hub as the pages see it.

    Attributes:
        api: The hub as the API sees it.
        sessions: The browsers that are signed in.
        render: Renders the templates.
    """

    api: ApiHub
    sessions: Sessions
    render: Renderer

    @property
    def queue(self) -> TaskQueue:
        """The hub's tasks."""
        return self.api.queue

    @property
    def store(self) -> Store:
        """Keeps the tasks."""
        return self.api.queue.store

    @property
    def reports(self) -> Reports:
        """What providers report."""
        return self.api.reports

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time()

    async def find_task(self, id: str) -> StoredTask:
        """Return a task.

        Raises:
            ApiProblem: There is none with this id.
        """
        task = None if "\0" in id else await self.store.get(id)
        if task is None:
            raise ApiProblem(404, "the hub has no task with this id")
        return task

    async def task_of(self, request: Request) -> StoredTask:
        """Return the task that a request's path names.

        Raises:
            ApiProblem: There is none with this id.
        """
        return await self.find_task(read_path(request, "id"))


def task_url(id: str, **parameters: str) -> str:
    """Return the address of a task's page.

    >>> task_url("a/b", did="retried")
    '/tasks/a%2Fb?did=retried'
    """
    query = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
    return f"/tasks/{quote(id, safe='')}" + (f"?{query}" if query else "")


def go_to(address: str) -> Response:
    """Return the answer to a form that was sent: the browser shows another page."""
    return RedirectResponse(address, 303)
