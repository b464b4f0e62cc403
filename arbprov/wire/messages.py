"""The messages of `hub.proto` as bytes: polls, tasks and results; protobuf ends here.

A result is encoded once, without the token, and stays the same bytes until the hub has it.
Protobuf reads two concatenated messages of the same type as a merged message: so the token is
appended when the result is sent, and is never stored.
"""

from __future__ import annotations

import functools
import json
import math

from arbprov._proto import hub_pb2
from arbprov.payload.json import parse_object
from arbprov.payload.validation import ValidationFailure
from arbprov.task import Task, TaskResult
from arbprov.wire.hub import Pause

__all__ = [
    "decode_answer",
    "decode_result",
    "encode_poll",
    "encode_result",
    "read_result_id",
    "with_token",
]

# The first byte of the field `id`, and the least length that takes more than a byte.
_ID_TAG = 0x0A
_LONG = 0x80
# A token stays the same for hours: this keeps the current token and the few before it.
_cache_per_token = functools.lru_cache(maxsize=8)


@_cache_per_token
def encode_poll(provider: str, auth_token: str) -> bytes:
    """Return the request for a task.

    >>> hub_pb2.ProviderRequest.FromString(encode_poll("weather", "sample-token")).provider
    'weather'
    """
    request = hub_pb2.ProviderRequest(provider=provider, auth_token=auth_token)
    message: bytes = request.SerializeToString()
    return message


def decode_answer(
    message: bytes, *, attempt: int = 0, traceparent: str = ""
) -> Task | Pause | None:
    """Return the task or the pause in the answer to a poll; None if it holds neither.

    Args:
        message: The answer.
        attempt: The task's attempt, from the answer's metadata.
        traceparent: The task's trace context, likewise.

    Raises:
        google.protobuf.message.DecodeError: The answer is not a task.

    >>> decode_answer(hub_pb2.Task(id="t1", action="forecast").SerializeToString()).action
    'forecast'
    >>> hint = hub_pb2.Task(action="rate_limited", payload=b'{"wait_time": 2.5}')
    >>> decode_answer(hint.SerializeToString())
    Pause(seconds=2.5)
    """
    task = hub_pb2.Task.FromString(message)
    if task.id:
        return Task(task.id, task.action, task.payload, task.account, traceparent, attempt)
    if task.action != "rate_limited":
        return None
    try:
        seconds = float(parse_object(task.payload)["wait_time"])
    except OverflowError:
        seconds = math.inf
    except (ValidationFailure, ValueError, TypeError, KeyError):
        return None
    return Pause(seconds) if seconds > 0 else None


def encode_result(result: TaskResult, provider: str) -> bytes:
    """Return a result as the hub gets it, but without the token.

    >>> from arbprov.task import Status
    >>> body = '{"message": "done", "data": {"response": {"rows": 1}}}'
    >>> task = Task("t1", "forecast")
    >>> result = TaskResult(task, Status.SUCCESS, "done", {"rows": 1}, body=body)
    >>> decode_result(encode_result(result, "weather")) == result
    True
    """
    task = result.task
    message = hub_pb2.TaskResult(
        id=task.id,
        provider=provider,
        status=result.status.value,
        action=task.action,
        # The hub gets both back as it sent them, as far as a text field can hold them.
        payload=task.payload.decode(errors="replace"),
        result=result.body,
        account=task.account.decode(errors="replace"),
    )
    return message.SerializeToString()


def decode_result(message: bytes, attempt: int = 0) -> TaskResult:
    """Return the result that `encode_result` has encoded.

    Args:
        message: The encoded result.
        attempt: The attempt of its task, which is not a part of the message.
    """
    decoded = hub_pb2.TaskResult.FromString(message)
    envelope = json.loads(decoded.result)
    payload, account = decoded.payload.encode(), decoded.account.encode()
    return TaskResult(
        Task(decoded.id, decoded.action, payload, account, attempt=attempt),
        decoded.status,
        envelope["message"],
        envelope["data"]["response"],
        body=decoded.result,
    )


def read_result_id(message: bytes) -> str:
    """Return the task's id in a result that `encode_result` has encoded, without decoding the rest.

    >>> read_result_id(hub_pb2.TaskResult(id="t1").SerializeToString())
    't1'
    """
    # The first field: its tag, its length, its text.
    if message[0] == _ID_TAG and (length := message[1]) < _LONG:
        return message[2 : 2 + length].decode()
    decoded: str = hub_pb2.TaskResult.FromString(message).id
    return decoded


def with_token(message: bytes, auth_token: str) -> bytes:
    """Return a result's message with the token that the hub requires.

    >>> hub_pb2.TaskResult.FromString(with_token(b"", "sample-token")).auth_token
    'sample-token'
    """
    return message + _token_field(auth_token)


@_cache_per_token
def _token_field(auth_token: str) -> bytes:
    field: bytes = hub_pb2.TaskResult(auth_token=auth_token).SerializeToString()
    return field
