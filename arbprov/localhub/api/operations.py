"""All operations of the API: the routes and OpenAPI are made from this list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.api.events import EventEndpoints
from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.hub_endpoints import HubEndpoints
from arbprov.localhub.api.shapes import (
    AcceptedTasks,
    ActionsView,
    CancelBody,
    CountsView,
    HealthView,
    LimitsView,
    ListQuery,
    MadeToken,
    MatchingBody,
    MatchingView,
    NewTasksBody,
    PageView,
    PauseBody,
    PausesView,
    ProvidersView,
    TaskBody,
    TaskQuery,
    TaskView,
    TokenBody,
    TokensView,
    WaitQuery,
)
from arbprov.localhub.api.tasks_endpoints import TaskEndpoints

__all__ = ["HEALTH", "OPENAPI", "PREFIX", "Endpoint", "Operation", "list_operations"]

Endpoint = Callable[[Request], Awaitable[Response]]

PREFIX = "/api/v1"
HEALTH = "/healthz"
OPENAPI = "/openapi.json"


@attrs.frozen(kw_only=True)
class Operation:
    """An operation of the API.

    Attributes:
        method: The HTTP method.
        path: The path, with its parts in braces.
        name: A name for clients that are generated.
        endpoint: Answers the requests.
        summary: Its purpose, in a line.
        description: More about it.
        query: The shape of the parameters, if there are any.
        bodies: The shapes that the body may have.
        needs_body: Whether there has to be a body.
        answers: The shapes of answers by status; None for an empty answer, and a text for the type
            of another one.
        refusals: The statuses of refusals that are its own.
    """

    method: str
    path: str
    name: str
    endpoint: Endpoint
    summary: str
    description: str = ""
    query: type | None = None
    bodies: tuple[Any, ...] = ()
    needs_body: bool = True
    answers: Mapping[int, tuple[Any, ...] | type | str | None]
    refusals: tuple[int, ...] = ()

    @property
    def needs_token(self) -> bool:
        """Whether requests need a token."""
        return self.path.startswith(PREFIX)


_PAYLOAD_TEXT = (
    "Also `payload.NAME=VALUE`, any number of times: tasks whose payload has this top-level value, "
    "as text."
)
_MATCHING_TEXT = (
    "Without `expect`, only the number of tasks that match is answered, and nothing is changed. "
    "Send this number as `expect` to change them: if more match by then, the answer is 409, and "
    "nothing is changed. "
)


def list_operations(hub: ApiHub) -> list[Operation]:
    """Return all operations, for a hub."""
    return [*_task_operations(TaskEndpoints(hub)), *_hub_operations(hub)]


def _task_operations(tasks: TaskEndpoints) -> list[Operation]:
    path = f"{PREFIX}/tasks"
    return [
        Operation(
            method="POST",
            path=path,
            name="submitTask",
            endpoint=tasks.submit,
            summary="Submit a task, or thousands at once",
            description="All tasks are added, or none of them. The status is 200 if the hub had "
            "them before, by their ids or idempotency keys.",
            bodies=(TaskBody, NewTasksBody, list[TaskBody]),
            answers=dict.fromkeys((200, 201), (TaskView, AcceptedTasks)),
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path=path,
            name="listTasks",
            endpoint=tasks.find,
            summary="List tasks, the latest submitted first",
            description=_PAYLOAD_TEXT,
            query=ListQuery,
            answers={200: PageView},
        ),
        Operation(
            method="POST",
            path=f"{path}/retry",
            name="retryTasks",
            endpoint=tasks.retry_matching,
            summary="Retry all failed, cancelled and dead tasks that match",
            description=f"{_MATCHING_TEXT}Tasks that are done are run again only if the filter "
            "names the state `done`.",
            bodies=(MatchingBody,),
            answers={200: MatchingView},
            refusals=(409,),
        ),
        Operation(
            method="POST",
            path=f"{path}/cancel",
            name="cancelTasks",
            endpoint=tasks.cancel_matching,
            summary="Cancel all waiting and running tasks that match",
            description=_MATCHING_TEXT.strip(),
            bodies=(MatchingBody,),
            answers={200: MatchingView},
            refusals=(409,),
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}",
            name="getTask",
            endpoint=tasks.show,
            summary="Show a task with its attempts",
            query=TaskQuery,
            answers={200: TaskView},
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}/wait",
            name="waitForTask",
            endpoint=tasks.wait,
            summary="Wait until a task has ended",
            description="The task is answered when it has ended, or when the time is over: look at "
            "its state, and ask again.",
            query=WaitQuery,
            answers={200: TaskView},
            refusals=(404,),
        ),
        Operation(
            method="POST",
            path=f"{path}/{{id}}/retry",
            name="retryTask",
            endpoint=tasks.retry,
            summary="Have a task that has ended wait again",
            answers={200: TaskView},
            refusals=(404, 409),
        ),
        Operation(
            method="POST",
            path=f"{path}/{{id}}/cancel",
            name="cancelTask",
            endpoint=tasks.cancel,
            summary="Cancel a task that has not ended",
            bodies=(CancelBody,),
            needs_body=False,
            answers={200: TaskView},
            refusals=(404, 409),
        ),
    ]


def _hub_operations(hub: ApiHub) -> list[Operation]:
    endpoints, events = HubEndpoints(hub), EventEndpoints(hub)
    return [
        Operation(
            method="GET",
            path=f"{PREFIX}/counts",
            name="getCounts",
            endpoint=endpoints.counts,
            summary="Count tasks by action and state, and the tasks that ended lately",
            description="The rates are of this process of the hub, in the last five minutes.",
            answers={200: CountsView},
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/limits",
            name="getLimits",
            endpoint=endpoints.limits,
            summary="List the groups over a limit, and the state of the providers' limits",
            answers={200: LimitsView},
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/providers",
            name="getProviders",
            endpoint=endpoints.providers,
            summary="List the providers and their processes",
            description="They are as they have reported to this process of the hub.",
            answers={200: ProvidersView},
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/actions",
            name="getActions",
            endpoint=endpoints.actions,
            summary="List the actions of the providers that report, with their schemas",
            description="They are as they were reported to this process of the hub.",
            answers={200: ActionsView},
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/pauses",
            name="getPauses",
            endpoint=endpoints.pauses,
            summary="List the pauses",
            answers={200: PausesView},
        ),
        Operation(
            method="POST",
            path=f"{PREFIX}/pauses",
            name="pause",
            endpoint=endpoints.pause,
            summary="Pause an action, a provider or an account",
            bodies=(PauseBody,),
            answers={200: PausesView},
        ),
        Operation(
            method="DELETE",
            path=f"{PREFIX}/pauses/{{kind}}/{{name}}",
            name="resume",
            endpoint=endpoints.resume,
            summary="End a pause",
            answers={204: None},
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/events",
            name="getEvents",
            endpoint=events.stream,
            summary="Get each change of a task as a server-sent event",
            description="An event `task` has a task's `id` and its new `state`. An event `all` "
            "says that any task may have changed. A stream that is read too slowly misses events.",
            answers={200: "text/event-stream"},
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/tokens",
            name="getTokens",
            endpoint=endpoints.tokens,
            summary="List the tokens that were made",
            answers={200: TokensView},
        ),
        Operation(
            method="POST",
            path=f"{PREFIX}/tokens",
            name="makeToken",
            endpoint=endpoints.make_token,
            summary="Make a token, which is shown only once",
            bodies=(TokenBody,),
            answers={201: MadeToken},
            refusals=(409,),
        ),
        Operation(
            method="DELETE",
            path=f"{PREFIX}/tokens/{{name}}",
            name="removeToken",
            endpoint=endpoints.remove_token,
            summary="Remove a token",
            answers={204: None},
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path=HEALTH,
            name="getHealth",
            endpoint=endpoints.health,
            summary="Tell whether the hub runs",
            answers={200: HealthView},
        ),
    ]
