"""Results as protobuf messages: written once, kept as bytes, and the token added when sent.

Fields of a message that stand one after the other are one message, so the token can follow: a
result stays the same bytes though the token is rotated, and what is kept holds no token.
"""

from __future__ import annotations

import functools
import json

from arbprov._proto import hub_pb2
from arbprov.task import Task, TaskResult

__all__ = ["decode_result", "encode_poll", "encode_result", "with_token"]

# A token is the same for hours: the current one, and those that it has just replaced.
_FEW_TOKENS = functools.lru_cache(maxsize=8)


def encode_result(result: TaskResult, provider: str) -> bytes:
    """Return a result as it goes to the hub, but for the token."""
    task = result.task
    message = hub_pb2.TaskResult(
        id=task.id,
        provider=provider,
        status=result.status.value,
        action=task.action,
        # Back as they came, as far as the field's type, a text, allows.
        payload=task.payload.decode(errors="replace"),
        result=result.body,
        account=task.account.decode(errors="replace"),
    )
    return message.SerializeToString()


def decode_result(message: bytes) -> TaskResult:
    """Return the result that `encode_result` has written."""
    read = hub_pb2.TaskResult.FromString(message)
    envelope = json.loads(read.result)
    return TaskResult(
        Task(read.id, read.action, read.payload.encode(), read.account.encode()),
        read.status,
        envelope["message"],
        envelope["data"]["response"],
        body=read.result,
    )


def with_token(message: bytes, auth_token: str) -> bytes:
    """Return a result's message with the token that the hub wants to see."""
    return message + _token_field(auth_token)


@_FEW_TOKENS
def encode_poll(provider: str, auth_token: str) -> bytes:
    """Return the request for a task."""
    request = hub_pb2.ProviderRequest(provider=provider, auth_token=auth_token)
    message: bytes = request.SerializeToString()
    return message


@_FEW_TOKENS
def _token_field(auth_token: str) -> bytes:
    field: bytes = hub_pb2.TaskResult(auth_token=auth_token).SerializeToString()
    return field
