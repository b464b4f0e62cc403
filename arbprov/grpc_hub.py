"""A hub over gRPC: protobuf and status codes begin and end here."""

from __future__ import annotations

import json
import math
from typing import Any

import grpc
import grpc.aio

from arbprov._proto import hub_pb2
from arbprov.endpoint import parse_hub_url
from arbprov.errors import AuthenticationError, HubConnectionError
from arbprov.hub import Pause, ResultRefused
from arbprov.task import Task, TaskResult

__all__ = ["GrpcHub"]

_MEBIBYTE = 1024 * 1024
_OPTIONS = [
    # gRPC's own limit of 4 MiB would lose each larger task: it is handed out, and never arrives.
    ("grpc.max_receive_message_length", 64 * _MEBIBYTE),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 10_000),
]
_NOTHING_NOW = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DEADLINE_EXCEEDED)
_REFUSED_FOR_GOOD = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
)


class GrpcHub:
    """One provider's connection to its hub; see `arbprov.hub.Hub`.

    It belongs to the event loop that runs when it is made.

    Args:
        url: ``host:port`` or ``unix:path``.
        provider: The provider's name.
        auth_token: Its token.
        poll_timeout: Seconds that the hub may hold a poll; to give one up can lose its task.
        submit_timeout: Seconds that one try to send a result may take.
    """

    def __init__(
        self,
        url: str,
        *,
        provider: str,
        auth_token: str,
        poll_timeout: float,
        submit_timeout: float,
    ) -> None:
        self._url = url
        self._provider = provider
        self._auth_token = auth_token
        self._poll_timeout = poll_timeout
        self._submit_timeout = submit_timeout
        self._channel = grpc.aio.insecure_channel(parse_hub_url(url).target, options=_OPTIONS)
        self._get_task = self._channel.unary_unary("/Hub/GetTask")
        self._submit_result = self._channel.unary_unary(
            "/Hub/SubmitTaskResult",
            request_serializer=hub_pb2.TaskResult.SerializeToString,
        )
        # The same for every poll.
        request = hub_pb2.ProviderRequest(provider=provider, auth_token=auth_token)
        self._poll = request.SerializeToString()

    async def fetch(self) -> Task | Pause | None:
        """Return what the hub has for us; see `Hub.fetch`."""
        try:
            answer = await self._get_task(self._poll, timeout=self._poll_timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _NOTHING_NOW:
                return None
            raise self._hub_error(error) from None
        task = self._read(answer)
        if task.id:
            return Task(task.id, task.action, task.payload, task.account)
        return _pause(task.payload) if task.action == "rate_limited" else None

    async def submit(self, result: TaskResult) -> None:
        """Send a result; see `Hub.submit`."""
        try:
            await self._submit_result(self._message(result), timeout=self._submit_timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSED_FOR_GOOD:
                raise ResultRefused(_describe(error)) from None
            raise self._hub_error(error) from None

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _read(self, answer: bytes) -> hub_pb2.Task:
        # Not by gRPC, which only logs what it can't read.
        try:
            return hub_pb2.Task.FromString(answer)
        except Exception as error:
            raise HubConnectionError(
                f"the hub at {self._url} has sent what is no task ({error}); "
                f"if it was one, it is lost"
            ) from None

    def _message(self, result: TaskResult) -> hub_pb2.TaskResult:
        task = result.task
        return hub_pb2.TaskResult(
            id=task.id,
            provider=self._provider,
            auth_token=self._auth_token,
            status=result.status.value,
            action=task.action,
            # Back as they came, as far as the field's type, a text, allows.
            payload=task.payload.decode(errors="replace"),
            result=result.body,
            account=task.account.decode(errors="replace"),
        )

    def _hub_error(self, error: grpc.aio.AioRpcError) -> Exception:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(
                f"the hub at {self._url} refuses the token of provider {self._provider!r}: "
                f"{error.details()}; is PROVIDER_AUTH_TOKEN right?"
            )
        return HubConnectionError(f"the hub at {self._url}: {_describe(error)}")


def _describe(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}, {error.details()}"


def _pause(payload: bytes) -> Pause | None:
    """Return the pause of a `rate_limited` hint; one that can't be read is no hint."""
    try:
        hint: Any = json.loads(payload)
        seconds = float(hint["wait_time"])
    except (ValueError, TypeError, KeyError):
        return None
    return Pause(seconds) if 0 < seconds < math.inf else None
