"""The hub's gRPC methods: polls and results, leases and reports, and calls of actions."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import grpc
import grpc.aio

from arbprov._proto import hub_pb2
from arbprov._utils import escape_line
from arbprov.errors import HubError, Problem
from arbprov.localhub.message_fields import find_text_fields
from arbprov.localhub.queue import TaskQueue
from arbprov.localhub.reports import Reports, read_report
from arbprov.localhub.submitting import make_task, read_result
from arbprov.localhub.tasks import Delivery, NewTask
from arbprov.localhub.tickets import Submission
from arbprov.localhub.tokens import Role, Tokens
from arbprov.localhub.waiting import explain_wait
from arbprov.payload.json import parse_object
from arbprov.payload.validation import (
    MISSING,
    Problems,
    ValidationFailure,
    add_unknown_fields,
    expect_object,
    suggest_names,
)
from arbprov.wire.metadata import (
    ATTEMPT,
    RENEW,
    RENEWS,
    REPORT,
    REPORTS,
    TRACEPARENT,
    read_attempt,
    read_texts,
)
from arbprov.wire.reports import MAX_SIZE

__all__ = ["HubMethods"]

# The fields of the token and of the provider's name in the two messages.
_POLL_FIELDS = {"provider": 1, "token": 2}
_RESULT_FIELDS = {"provider": 2, "token": 3}
_MAX_WAIT = 3600.0
_NO_MESSAGE = "the message is not in the format of hub.proto"
# The problems of a task that its refusal has, and their characters: names may be long, and gRPC
# refuses long details.
_MAX_PROBLEMS = 3
_MAX_DETAILS = 1_000
_TASK_FIELDS = inspect.signature(make_task).parameters

Method = Callable[[bytes, Any], Awaitable[bytes]]


class _Refused(Exception):
    """Ends a call with a status of gRPC."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@attrs.define(eq=False)
class HubMethods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds methods by their full names: the hub's service has no package.

    Args:
        queue: The hub's tasks.
        tokens: Check the callers' tokens.
        retries_limits: Whether a task over a limit is tried again; otherwise, it has failed.
        on_result: Called with each result that arrives, before it is recorded.
        reports: Keeps the reports of providers.
    """

    _queue: TaskQueue
    _tokens: Tokens
    _retries_limits: bool
    _on_result: Callable[[Submission], object]
    _reports: Reports
    _methods: dict[str, Method] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        methods: dict[str, Method] = {
            "/Hub/GetTask": self._get_task,
            "/Hub/SubmitTaskResult": self._submit_result,
            "/arbprov.Leases/Renew": self._renew,
            "/arbprov.Providers/Report": self._report,
            "/arbprov.LocalHub/Submit": self._submit,
            "/arbprov.LocalHub/Results": self._results,
            "/arbprov.LocalHub/Explain": self._explain,
        }
        self._methods = {name: _answer_errors(method) for name, method in methods.items()}

    def service(self, details: Any) -> Any:
        """Return the method's handler; None for an unknown method."""
        method = self.find(details.method)
        return None if method is None else grpc.unary_unary_rpc_method_handler(method)

    def find(self, name: str) -> Method | None:
        """Return a method, which takes and returns bytes; None for an unknown name."""
        return self._methods.get(name)

    # The wire's methods.

    async def _get_task(self, message: bytes, context: Any) -> bytes:
        provider = await self._authenticate_provider(message, _POLL_FIELDS)
        asked = read_texts(context.invocation_metadata())
        self._reports.note_poll(provider, reports=asked.get(REPORTS) == "1")
        metadata = [(RENEW, f"{self._queue.settings.renew_interval:g}")]
        if self._reports.interval:
            metadata.append((REPORT, f"{self._reports.interval:g}"))
        delivery = None
        if not self._queue.pause_left:
            delivery = await self._queue.take(provider, renews=asked.get(RENEWS) == "1")
        if delivery is None:
            await context.send_initial_metadata(metadata)
            return self._no_task()
        metadata.append((ATTEMPT, str(delivery.attempt)))
        if delivery.traceparent:
            metadata.append((TRACEPARENT, delivery.traceparent))
        await self._hand_over(delivery, context, metadata)
        answer: bytes = hub_pb2.Task(
            id=delivery.id,
            action=delivery.action,
            payload=delivery.payload,
            account=delivery.account,
        ).SerializeToString()
        return answer

    def _no_task(self) -> bytes:
        answer = hub_pb2.Task()
        if pause := self._queue.pause_left:
            hint = json.dumps({"wait_time": pause})
            answer = hub_pb2.Task(action="rate_limited", payload=hint.encode())
        raw: bytes = answer.SerializeToString()
        return raw

    async def _hand_over(
        self, delivery: Delivery, context: Any, metadata: list[tuple[str, str]]
    ) -> None:
        """Begin the answer; take the task back if the provider has gone."""
        try:
            await context.send_initial_metadata(metadata)
        except BaseException:
            await asyncio.shield(self._queue.give_back(delivery))
            raise
        if context.done():
            await self._queue.give_back(delivery)

    async def _submit_result(self, message: bytes, context: Any) -> bytes:
        await self._authenticate_provider(message, _RESULT_FIELDS)
        try:
            sent = hub_pb2.TaskResult.FromString(message)
        except Exception:
            # Protobuf's own error, which only the wire's modules import.
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, _NO_MESSAGE) from None
        received = read_result(
            sent.id,
            sent.status,
            sent.result,
            attempt=read_attempt(read_texts(context.invocation_metadata()).get(ATTEMPT, "")),
            provider=sent.provider,
            retries_limits=self._retries_limits,
        )
        self._on_result(
            Submission(
                id=sent.id,
                provider=sent.provider,
                action=sent.action,
                status=sent.status,
                payload=sent.payload,
                result=sent.result,
                account=sent.account,
            )
        )
        await self._queue.record(received)
        return b""

    async def _authenticate_provider(self, message: bytes, fields: dict[str, int]) -> str:
        """Return the provider of a message, which is not parsed before its token is right."""
        try:
            found = find_text_fields(message, fields)
        except ValueError:
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, _NO_MESSAGE) from None
        provider, token = found["provider"], found["token"]
        if not await self._tokens.allows_provider(provider, token):
            raise _Refused(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")
        return provider

    # Leases, for providers that renew them.

    async def _renew(self, body: bytes, context: Any) -> bytes:
        request = _read_json(body)
        provider = await self._authenticate_request(request)
        try:
            tasks = [(str(name), int(attempt)) for name, attempt in request.get("tasks", [])]
        except (TypeError, ValueError):
            text = "tasks must be a list of ids and attempts"
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        cancelled, lost = await self._queue.renew(provider, tasks)
        return json.dumps({"cancelled": cancelled, "lost": lost}).encode()

    async def _authenticate_request(self, request: dict[str, Any]) -> str:
        """Return the provider of a request as JSON."""
        provider, token = request.get("provider"), request.get("token")
        if not isinstance(provider, str) or not isinstance(token, str):
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "provider and token must be texts")
        if not await self._tokens.allows_provider(provider, token):
            raise _Refused(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")
        return provider

    # Reports, by providers that the hub asks for them.

    async def _report(self, body: bytes, context: Any) -> bytes:
        if len(body) > MAX_SIZE:
            text = f"a report must have at most {MAX_SIZE} bytes"
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, text)
        try:
            request = parse_object(body)
            await self._authenticate_request(request)
            report = read_report(request)
        except ValidationFailure as failure:
            text = f"this is not a report: {failure.problems[0]}"
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        knows_actions = self._reports.receive(report, has_actions="actions" in request)
        return json.dumps({"wants_actions": not knows_actions}).encode()

    # Calls, by `LocalHubClient`.

    async def _submit(self, body: bytes, context: Any) -> bytes:
        """Add tasks: takes JSON with `tasks`, returns their ids."""
        request = await self._read_call(body)
        tasks = request.get("tasks")
        if not isinstance(tasks, list):
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "tasks must be a list")
        made = [_make_task(task, f"[{index}]") for index, task in enumerate(tasks)]
        accepted = await self._queue.submit(made)
        return json.dumps({"ids": [task.id for task in accepted]}).encode()

    async def _results(self, body: bytes, context: Any) -> bytes:
        """Return the results of tasks that have ended, or wait for the first; takes JSON."""
        request = await self._read_call(body)
        ids = request.get("ids")
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "ids must be a list of texts")
        ended = await self._queue.wait(ids, _read_timeout(request))
        results = [attrs.asdict(Submission.of(task)) for task in ended]
        return json.dumps({"results": results}).encode()

    async def _explain(self, body: bytes, context: Any) -> bytes:
        """Return why a task has no result yet: takes and returns JSON."""
        request = await self._read_call(body)
        store, task_id = self._queue.store, str(request.get("id"))
        reason = await explain_wait(store, task_id, time.time(), self._reports)
        return json.dumps({"reason": reason}).encode()

    async def _read_call(self, body: bytes) -> dict[str, Any]:
        request = _read_json(body)
        token = request.pop("token", None)
        role = await self._tokens.find_role(token) if isinstance(token, str) else None
        if role is not Role.ADMIN:
            raise _Refused(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")
        return request


def _answer_errors(method: Method) -> Method:
    async def call(body: bytes, context: Any) -> bytes:
        try:
            return await method(body, context)
        except _Refused as refusal:
            code, details = refusal.code, refusal.details
        except HubError as error:
            # The store cannot be used now; the provider, or the person, tries again.
            code, details = grpc.StatusCode.UNAVAILABLE, str(error)
        await context.abort(code, details)
        raise AssertionError("context.abort has not raised")

    return call


def _read_json(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(request := json.loads(body), dict):
            return request
    raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "the request must be a JSON object")


def _make_task(request: Any, place: str) -> NewTask:
    """Return a task to submit.

    Args:
        request: The arguments of `make_task`.
        place: Where it is among the tasks that were sent, for errors.
    """
    try:
        _check_fields(request)
    except ValidationFailure as failure:
        problems = suggest_names(failure.prefixed(place)[:_MAX_PROBLEMS])
        text = "; ".join(map(str, problems))
    else:
        try:
            return make_task(**request)
        except (TypeError, ValueError) as error:
            text = f"{place}: {error}"
    raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, escape_line(text, _MAX_DETAILS))


def _check_fields(request: Any) -> None:
    """Raise a ValidationFailure for fields that a task does not have, and for a missing action."""
    fields = expect_object(request)
    problems = Problems()
    add_unknown_fields(problems, fields.keys() - _TASK_FIELDS.keys(), _TASK_FIELDS.keys())
    if "action" not in fields:
        problems.append(Problem("action", MISSING))
    problems.check()


def _read_timeout(request: dict[str, Any]) -> float:
    timeout = request.pop("timeout", 10.0)
    if not isinstance(timeout, (int, float)) or not math.isfinite(timeout) or timeout < 0:
        text = "timeout must be a number of seconds, 0 or more"
        raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, text)
    return min(float(timeout), _MAX_WAIT)
