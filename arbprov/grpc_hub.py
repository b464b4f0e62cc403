"""A hub over gRPC: tasks come out of protobuf here, and status codes become errors."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import grpc
import grpc.aio

from arbprov._proto import hub_pb2
from arbprov.errors import AuthenticationError, HubConnectionError
from arbprov.hub import Pause, ResultRefused, ResultTooLarge
from arbprov.messages import with_token
from arbprov.printable import one_line
from arbprov.redaction import redact, secrets_in
from arbprov.task import Task

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
# What gRPC's servers say of a message over their limit, each language in its way, and what a hub of
# its own may say.
_TOO_LARGE = re.compile(r"exceeds (the )?max|too (large|big)", re.IGNORECASE)
# From these sizes on, a refusal without such words is most likely for the size. A hub in trouble
# says RESOURCE_EXHAUSTED too, and no result may be given up for that: it has to be large indeed.
_LARGE = {
    grpc.StatusCode.INVALID_ARGUMENT: 64 * 1024,
    grpc.StatusCode.RESOURCE_EXHAUSTED: _MEBIBYTE,
}


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
        self._channel = grpc.aio.insecure_channel(url, options=_OPTIONS)
        self._get_task = self._channel.unary_unary(
            "/Hub/GetTask", response_deserializer=hub_pb2.Task.FromString
        )
        self._submit_result = self._channel.unary_unary("/Hub/SubmitTaskResult")
        # The same for every poll.
        request = hub_pb2.ProviderRequest(provider=provider, auth_token=auth_token)
        self._poll = request.SerializeToString()

    async def fetch(self) -> Task | Pause | None:
        """Return what the hub has for us; see `Hub.fetch`."""
        try:
            task = await self._get_task(self._poll, timeout=self._poll_timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _NOTHING_NOW:
                return None
            raise self._hub_error(error) from None
        if task.id:
            return Task(task.id, task.action, task.payload, task.account)
        return _pause(task.payload) if task.action == "rate_limited" else None

    async def submit(self, message: bytes) -> None:
        """Send a result; see `Hub.submit`."""
        request = with_token(message, self._auth_token)
        try:
            await self._submit_result(request, timeout=self._submit_timeout)
        except grpc.aio.AioRpcError as error:
            account = hub_pb2.TaskResult.FromString(message).account.encode()
            reason = self._describe(error, account)
            if _is_too_large(error, len(message)):
                raise ResultTooLarge(reason) from None
            if error.code() in _REFUSED_FOR_GOOD:
                raise ResultRefused(reason) from None
            raise self._hub_error(error, account) from None

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _hub_error(self, error: grpc.aio.AioRpcError, account: bytes = b"") -> Exception:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(
                f"the hub at {self._url} refuses the token of provider {self._provider!r}: "
                f"{self._details(error, account)}; is PROVIDER_AUTH_TOKEN right?"
            )
        return HubConnectionError(f"the hub at {self._url}: {self._describe(error, account)}")

    def _describe(self, error: grpc.aio.AioRpcError, account: bytes) -> str:
        return f"{error.code().name}, {self._details(error, account)}"

    def _details(self, error: grpc.aio.AioRpcError, account: bytes) -> str:
        """Return what the hub says of an error; it may quote what it was sent, in any form."""
        secrets = [self._auth_token, *secrets_in(account)]
        return one_line(redact(str(error.details()), secrets))


def _is_too_large(error: grpc.aio.AioRpcError, size: int) -> bool:
    details = error.details() or ""
    if "larger than max" in details:
        return True
    large = _LARGE.get(error.code(), math.inf)
    return size > large or (large < math.inf and bool(_TOO_LARGE.search(details)))


def _pause(payload: bytes) -> Pause | None:
    """Return the pause of a `rate_limited` hint; one that can't be read is no hint."""
    try:
        hint: Any = json.loads(payload)
        seconds = float(hint["wait_time"])
    except (ValueError, TypeError, KeyError):
        return None
    return Pause(seconds) if 0 < seconds < math.inf else None
