"""The requests of the API and how their answers are read, for every kind of client."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import attrs

from arbprov._utils import MEBIBYTE, suggest_name
from arbprov.errors import HubError
from arbprov.localhub.api.shapes import (
    AcceptedTask,
    AcceptedTasks,
    ActionsView,
    ActionView,
    CountsView,
    LimitsView,
    MadeToken,
    MatchingView,
    PageView,
    PausesView,
    PauseView,
    ProvidersView,
    ProviderView,
    ReportedLimitView,
    ScopeView,
    TaskView,
    TokensView,
    TokenView,
)
from arbprov.localhub.tasks import PauseKind, State
from arbprov.localhub.tokens import Role
from arbprov.payload.converter import make_converter
from arbprov.payload.serialize import dumps, to_builtins
from arbprov.payload.validation import ValidationFailure, field_path, join_paths

__all__ = [
    "Call",
    "Filter",
    "States",
    "When",
    "actions",
    "cancel",
    "change_matching",
    "counts",
    "events",
    "get",
    "limits",
    "make_token",
    "page",
    "pause",
    "pauses",
    "providers",
    "remove_token",
    "reported_limits",
    "resume",
    "retry",
    "submit",
    "submit_chunks",
    "tokens",
    "wait",
    "waits",
]

ReturnT = TypeVar("ReturnT")
ShapeT = TypeVar("ShapeT")
MemberT = TypeVar("MemberT", bound=enum.Enum)

When = dt.datetime | float
States = str | State | Iterable[str | State]
#: The fields of a filter, as the API has them.
Filter = Mapping[str, Any]

# Of a request with many tasks.
_MAX_TASKS = 2_000
_MAX_SIZE = 8 * MEBIBYTE
# Seconds that the hub holds a wait.
_HOLD = 30.0

# A newer hub may have more fields.
_converter = make_converter()


@attrs.frozen
class Call(Generic[ReturnT]):
    """A request, and how its answer is read.

    Attributes:
        method: The HTTP method.
        path: The path below the API's address, with its query.
        read: Makes the value that is returned from the answer's JSON.
        body: The body as JSON; None for none.
        hold: Seconds for which the hub may hold the answer back.
        first: Which of all tasks is the first in the body, from 0, if they go in several requests.
    """

    method: str
    path: str
    read: Callable[[Any], ReturnT]
    body: bytes | None = None
    hold: float = 0.0
    first: int = 0


def _reader(shape: type[ShapeT]) -> Callable[[Any], ShapeT]:
    return lambda value: _converter.structure(value, shape)


def _encode(fields: Mapping[str, Any], place: str = "") -> bytes:
    """Return a JSON object, in which each value may have the greatest depth.

    Args:
        fields: The object.
        place: Where it is in what is sent, for errors.
    """
    parts = []
    for name, value in fields.items():
        try:
            parts.append(f"{dumps(name)}:{dumps(value)}")
        except ValueError as error:
            raise _refuse(error, join_paths(place, field_path(name)), "JSON") from None
    return f"{{{','.join(parts)}}}".encode()


def _refuse(error: ValueError, path: str, form: str) -> HubError:
    """Return the error for a value that has no form in which it can be sent."""
    problems = ValidationFailure.from_error(error).prefixed(path)
    return HubError(f"the hub can't get this as {form}: {'; '.join(map(str, problems))}")


def _path(*parts: str, **query: Any) -> str:
    path = "/".join(["/api/v1", *map(_quote, parts)])
    pairs = [
        (name, _to_text(item, name))
        for name, value in query.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _quote(part: str) -> str:
    # httpx takes the parts . and .. out of an address, with the part before.
    return part.replace(".", "%2E") if part in (".", "..") else quote(_to_text(part), safe="")


def _to_text(value: Any, name: str = "") -> str:
    try:
        plain = to_builtins(value)
        return plain if isinstance(plain, str) else dumps(plain)
    except ValueError as error:
        raise _refuse(error, name, "text") from None


def _list_states(states: States) -> list[str]:
    listed = [states] if isinstance(states, str) else states
    return [_find_member(State, state, "state").value for state in listed]


def _find_member(kinds: type[MemberT], value: Any, name: str) -> MemberT:
    """Return the member of an enumeration.

    Args:
        kinds: The enumeration.
        value: The member, or its text.
        name: What the value is for, for errors.

    Raises:
        HubError: There is no such member.
    """
    try:
        return kinds(value)
    except ValueError:
        known = [member.value for member in kinds]
        near = suggest_name(value, known) if isinstance(value, str) else ""
        raise HubError(f"{name}: {value!r} is not one of {', '.join(known)}{near}") from None


# Tasks.


def submit(
    action: str, payload: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Call[TaskView]:
    """Submit a task."""
    task = {"action": action, "payload": payload, **options}
    return Call("POST", _path("tasks"), _reader(TaskView), _encode(_without_none(task)))


def submit_chunks(tasks: Iterable[Mapping[str, Any]]) -> Iterator[Call[Sequence[AcceptedTask]]]:
    """Submit many tasks, in requests of a bounded size."""
    chunk: list[bytes] = []
    first = size = 0
    for index, task in enumerate(tasks):
        encoded = _encode(_without_none(task), f"[{index}]")
        if chunk and (len(chunk) >= _MAX_TASKS or size + len(encoded) > _MAX_SIZE):
            yield _submit_chunk(chunk, first)
            chunk, first, size = [], index, 0
        chunk.append(encoded)
        size += len(encoded)
    if chunk:
        yield _submit_chunk(chunk, first)


def _submit_chunk(tasks: Sequence[bytes], first: int) -> Call[Sequence[AcceptedTask]]:
    read = _reader(AcceptedTasks)
    body = b"[" + b",".join(tasks) + b"]"
    return Call("POST", _path("tasks"), lambda value: read(value).tasks, body, first=first)


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def get(id: str, accounts: str | None) -> Call[TaskView]:
    """Read a task with its attempts."""
    return Call("GET", _path("tasks", id, accounts=accounts), _reader(TaskView))


def page(
    filters: Filter, limit: int | None, cursor: str | None, accounts: str | None
) -> Call[PageView]:
    """Read a page of tasks."""
    query = _plain_filter(filters)
    fields = query.pop("payload", {})
    for name, value in fields.items():
        key = f"payload.{name}"
        if isinstance(value, (list, dict)):
            raise HubError(f"{key}: an array or an object can't be searched for")
        # A text already, since null is a value here, and not a filter that is left out.
        query[key] = _to_text(value, key)
    path = _path("tasks", **query, limit=limit, cursor=cursor, accounts=accounts)
    return Call("GET", path, _reader(PageView))


def _plain_filter(filters: Filter) -> dict[str, Any]:
    """Return the fields of a filter that are set.

    Raises:
        HubError: A state is wrong, or an empty list of ids or states would mean every task.
    """
    plain = _without_none(filters)
    if "state" in plain:
        plain["state"] = _list_states(plain["state"])
    if "id" in plain:
        ids = plain["id"]
        plain["id"] = [ids] if isinstance(ids, str) else [*ids]
    for name in ("id", "state"):
        if name in plain and not plain[name]:
            raise HubError(f"{name}: an empty list matches no task; leave it out for any {name}")
    return plain


def retry(id: str) -> Call[TaskView]:
    """Retry a task."""
    return Call("POST", _path("tasks", id, "retry"), _reader(TaskView))


def cancel(id: str, reason: str | None) -> Call[TaskView]:
    """Cancel a task."""
    body = None if reason is None else _encode({"reason": reason})
    return Call("POST", _path("tasks", id, "cancel"), _reader(TaskView), body)


def change_matching(verb: str, filters: Filter, expect: int | None) -> Call[MatchingView]:
    """Retry or cancel the tasks that match, or count them."""
    body = _encode({"filter": _plain_filter(filters), "expect": expect})
    return Call("POST", _path("tasks", verb), _reader(MatchingView), body)


def wait(id: str, seconds: float) -> Call[TaskView]:
    """Wait for a task's end."""
    path = _path("tasks", id, "wait", timeout=seconds)
    return Call("GET", path, _reader(TaskView), hold=seconds)


def waits(id: str, timeout: float | None, clock: Callable[[], float]) -> Iterator[Call[TaskView]]:
    """Yield the waits until a task's end; the last one is over when the time is.

    Raises:
        TimeoutError: The task has not ended in time.
    """
    end = None if timeout is None else clock() + timeout
    while True:
        left = _HOLD if end is None else max(0.0, end - clock())
        yield wait(id, min(_HOLD, left))
        if end is not None and clock() >= end:
            raise TimeoutError(
                f"the task {id} has not ended within {timeout:g} s; it stays in the hub, until it "
                f"is cancelled: client.cancel({id!r}), or `arbprov tasks cancel {id}`"
            )


# The hub itself.


def events() -> Call[None]:
    """Read the changes of tasks."""
    return Call("GET", _path("events"), lambda _: None)


def counts() -> Call[CountsView]:
    """Read how many tasks there are."""
    return Call("GET", _path("counts"), _reader(CountsView))


def limits() -> Call[Sequence[ScopeView]]:
    """Read what limits hold back."""
    read = _reader(LimitsView)
    return Call("GET", _path("limits"), lambda value: read(value).limits)


def reported_limits() -> Call[Sequence[ReportedLimitView]]:
    """Read how the limits of providers stand."""
    read = _reader(LimitsView)
    return Call("GET", _path("limits"), lambda value: read(value).reported)


def providers() -> Call[Sequence[ProviderView]]:
    """Read the providers."""
    read = _reader(ProvidersView)
    return Call("GET", _path("providers"), lambda value: read(value).providers)


def actions() -> Call[Sequence[ActionView]]:
    """Read the providers' actions."""
    read = _reader(ActionsView)
    return Call("GET", _path("actions"), lambda value: read(value).actions)


def pauses() -> Call[Sequence[PauseView]]:
    """Read the pauses."""
    read = _reader(PausesView)
    return Call("GET", _path("pauses"), lambda value: read(value).pauses)


def pause(kind: str | PauseKind, name: str) -> Call[Sequence[PauseView]]:
    """Pause an action, a provider or an account."""
    read = _reader(PausesView)
    body = _encode({"kind": _find_member(PauseKind, kind, "kind").value, "name": name})
    return Call("POST", _path("pauses"), lambda value: read(value).pauses, body)


def resume(kind: str | PauseKind, name: str) -> Call[None]:
    """End a pause."""
    path = _path("pauses", _find_member(PauseKind, kind, "kind").value, name)
    return Call("DELETE", path, lambda _: None)


def tokens() -> Call[Sequence[TokenView]]:
    """Read the tokens that were made."""
    read = _reader(TokensView)
    return Call("GET", _path("tokens"), lambda value: read(value).tokens)


def make_token(name: str, role: str | Role, provider: str) -> Call[MadeToken]:
    """Make a token."""
    found = _find_member(Role, role, "role")
    body = _encode({"name": name, "role": found.value, "provider": provider})
    return Call("POST", _path("tokens"), _reader(MadeToken), body)


def remove_token(name: str) -> Call[None]:
    """Remove a token."""
    return Call("DELETE", _path("tokens", name), lambda _: None)
