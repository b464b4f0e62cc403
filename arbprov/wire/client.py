"""A hub over gRPC: protobuf and status codes begin and end here."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Callable, Iterator

import grpc
import grpc.aio

from arbprov._proto import hub_pb2
from arbprov._utils import escape_line
from arbprov.backoff import Backoff
from arbprov.errors import AuthenticationError, ConfigurationError, HubConnectionError
from arbprov.executors.executor import ThreadPool
from arbprov.payload.json import load_object
from arbprov.payload.validation import ValidationFailure
from arbprov.redaction import redact, secrets_in
from arbprov.task import Task
from arbprov.wire.channel import HubChannel, Keepalive
from arbprov.wire.hub import Pause, ResultRefused, ResultTooLarge
from arbprov.wire.messages import encode_poll, with_token
from arbprov.wire.tls import Tls
from arbprov.wire.tls_diagnosis import explain_tls, speaks_tls
from arbprov.wire.tokens import Token
from arbprov.wire.url import parse_hub_url

__all__ = ["GrpcHub"]

logger = logging.getLogger("arbprov")

_GET_TASK = "/Hub/GetTask"
_SUBMIT = "/Hub/SubmitTaskResult"
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
    grpc.StatusCode.RESOURCE_EXHAUSTED: 1024 * 1024,
}
# With these, a hub has taken the poll and has nothing to give.
_NOTHING = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED)
# Seconds before the tries that do not count as trouble.
_AT_ONCE = (0.05, 0.2)
# With these, a connection ends; a server that stops also cancels what has just come.
_CLOSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# The pause of a hub with too many calls, in seconds: from 1 to 10.
_LEAST_PAUSE = 1.0
_MORE_PAUSE = (1.0, 9.0)
# How long the author's function may take to return a token.
_TOKEN_TIMEOUT = 10.0
# Of a poll's time: when this much of it is over, it was not the hub that has ended the poll.
_WHOLE = 0.9


class GrpcHub:
    """One provider's connection to its hub; see `arbprov.wire.hub.Hub`.

    It belongs to the event loop that runs when it is made.

    Args:
        url: As in `arbprov.wire.url`.
        provider: The provider's name.
        token: Its token, which was read already.
        poll_timeout: Seconds that the hub may hold a poll; to give one up can lose its task.
        submit_timeout: Seconds that one try to send a result may take.
        tls: What TLS needs; None for plaintext.
        max_message_size: Bytes of the largest task that is taken.
        keepalive: When to give up a connection on which the hub is silent.
    """

    def __init__(
        self,
        url: str,
        *,
        provider: str,
        token: Token,
        poll_timeout: float,
        submit_timeout: float,
        tls: Tls | None = None,
        max_message_size: int = 64 * 1024 * 1024,
        keepalive: Keepalive | None = None,
    ) -> None:
        self._url = url
        self._target = parse_hub_url(url).target
        self._provider = provider
        self._token = token
        self._poll_timeout = poll_timeout
        self._submit_timeout = submit_timeout
        self._tls = tls
        self._max_message_size = max_message_size
        self._keepalive = keepalive or Keepalive.between(poll_timeout)
        self._loop = asyncio.get_running_loop()
        self._channel = self._new_channel()
        self._retiring: dict[HubChannel, asyncio.Task[None]] = {}
        self._exhausted = Backoff(*_MORE_PAUSE)
        # Whether the last call went well, and whether any ever did.
        self._well = False
        self._ever = False
        self._threads = ThreadPool(self._loop, "arbprov-token")
        self._reading = asyncio.Lock()
        self._unreadable = ""

    async def fetch(self) -> Task | Pause | None:
        """Return what the hub has for us; see `Hub.fetch`."""
        channel, began = self._channel, self._loop.time()
        try:
            answer = await self._ask(_GET_TASK, self._poll, self._poll_timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._unanswered(channel, self._loop.time() - began)
                return None
            if error.code() in _NOTHING:
                return self._nothing(error)
            raise await self._hub_error(error) from None
        self._exhausted.reset()
        task = self._read(answer)
        if task.id:
            return Task(task.id, task.action, task.payload, task.account)
        return _pause(task.payload) if task.action == "rate_limited" else None

    async def submit(self, message: bytes) -> None:
        """Send a result; see `Hub.submit`."""
        try:
            await self._ask(
                _SUBMIT, lambda: with_token(message, self._token.current), self._submit_timeout
            )
        except grpc.aio.AioRpcError as error:
            account = hub_pb2.TaskResult.FromString(message).account.encode()
            reason = self._describe(error, account)
            if _is_too_large(error, len(message)):
                raise ResultTooLarge(reason) from None
            if error.code() in _REFUSED_FOR_GOOD:
                raise ResultRefused(reason) from None
            raise await self._hub_error(error, account) from None

    async def close(self) -> None:
        """Close the connection."""
        for task in self._retiring.values():
            task.cancel()
        for channel in (self._channel, *self._retiring):
            await channel.close()
        self._threads.close()

    # One call.

    async def _ask(self, method: str, message: Callable[[], bytes], timeout: float) -> bytes:
        """Return the hub's answer; asks again if it can be had at once."""
        was_well, pauses = self._well, iter(_AT_ONCE)
        while True:
            token, channel = self._token.current, self._channel
            try:
                answer = await channel.call(method, message(), timeout)
            except grpc.aio.AioRpcError as error:
                if not await self._is_mended(error.code(), token, channel, pauses, was_well):
                    self._note(error.code() in _NOTHING)
                    raise
            else:
                self._note(True)
                return answer

    async def _is_mended(
        self,
        code: grpc.StatusCode,
        token: str,
        channel: HubChannel,
        pauses: Iterator[float],
        was_well: bool,
    ) -> bool:
        """Return whether another try, with the next pause before it, is worth it."""
        if (pause := next(pauses, None)) is None:
            return False
        if code is grpc.StatusCode.CANCELLED:
            # By a server that stops; it may go on to do so on this connection.
            self._leave(channel)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return self._ever and await self._has_new_token(token)
        if code not in _CLOSED or not was_well:
            return False
        # A hub that closes its connections in good order, or is restarted, costs nothing. A call
        # hears of the end of its connection a moment before the channel does.
        await asyncio.sleep(pause)
        return await self._channel.comes_back()

    def _note(self, well: bool) -> None:
        self._well = well
        self._ever = self._ever or well

    def _poll(self) -> bytes:
        return encode_poll(self._provider, self._token.current)

    def _read(self, answer: bytes) -> hub_pb2.Task:
        # Not by gRPC, which only logs what it can't read.
        try:
            return hub_pb2.Task.FromString(answer)
        except Exception as error:
            raise HubConnectionError(
                f"the hub at {self._url} has sent what is no task ({error}); "
                f"if it was one, it is lost"
            ) from None

    # The channel.

    def _new_channel(self) -> HubChannel:
        return HubChannel(
            self._target,
            tls=self._tls,
            max_message_size=self._max_message_size,
            keepalive=self._keepalive,
        )

    def _unanswered(self, channel: HubChannel, waited: float) -> None:
        if waited < self._poll_timeout * _WHOLE:
            return
        is_connected = channel.is_connected
        # The hub may allow no more pings on a connection on which it has sent nothing.
        self._leave(channel)
        if not is_connected:
            raise HubConnectionError(
                f"the hub at {self._url}: nobody has answered within {waited:.3g} s"
            )

    def _leave(self, channel: HubChannel) -> None:
        """Use another channel from now on, unless that was done already."""
        if channel is self._channel:
            self._channel = self._new_channel()
            self._retiring[channel] = self._loop.create_task(self._retire(channel))

    async def _retire(self, channel: HubChannel) -> None:
        await channel.retire()
        del self._retiring[channel]

    # What comes instead of a task.

    def _nothing(self, error: grpc.aio.AioRpcError) -> Pause | None:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            self._exhausted.reset()
            return None
        if "larger than max" in (error.details() or ""):
            logger.error(
                "a task is lost, since it is larger than max_message_size allows: %s; to take such "
                "ones, set ARBPROV_MAX_MESSAGE_SIZE to more bytes",
                self._describe(error),
            )
        return Pause(_LEAST_PAUSE + self._exhausted.next())

    async def _hub_error(self, error: grpc.aio.AioRpcError, account: bytes = b"") -> Exception:
        description = self._describe(error, account)
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(
                f"the hub at {self._url} refuses the token of provider {self._provider!r}: "
                f"{self._details(error, account)}; is PROVIDER_AUTH_TOKEN right?{self._unreadable}"
            )
        if meaning := await self._tls_trouble(error.details() or ""):
            return HubConnectionError(f"the hub at {self._url}: {meaning} ({description})")
        return HubConnectionError(f"the hub at {self._url}: {description}")

    async def _tls_trouble(self, details: str) -> str:
        doubtful = "failed to connect" in details and "refused" not in details
        may_be_tls = self._tls is None and doubtful and not self._ever
        if may_be_tls and await asyncio.to_thread(speaks_tls, self._target):
            return (
                "it speaks TLS, and this provider does not: write grpcs:// in HUB_GRPC_URL, "
                "or set HUB_GRPC_TLS=true"
            )
        return explain_tls(details, self._tls)

    def _describe(self, error: grpc.aio.AioRpcError, account: bytes = b"") -> str:
        return f"{error.code().name}, {self._details(error, account)}"

    def _details(self, error: grpc.aio.AioRpcError, account: bytes = b"") -> str:
        """Return what the hub says of an error; it may quote what it was sent, in any form."""
        return escape_line(redact(error.details() or "", [*self._token, *secrets_in(account)]))

    # The token.

    async def _has_new_token(self, refused: str) -> bool:
        """Return whether there is another token than the refused one, now or after reading."""
        async with self._reading:
            is_new = self._token.current != refused
            self._unreadable = "" if is_new else await self._read_token()
        return self._token.current != refused

    async def _read_token(self) -> str:
        """Read the token; return what is wrong with it, else nothing."""
        # On a thread: it may be a function that asks somebody else.
        reading = self._threads.run(self._token.read)
        try:
            await asyncio.wait_for(reading, _TOKEN_TIMEOUT)
        except asyncio.TimeoutError:
            return f" No other one was returned within {_TOKEN_TIMEOUT:g} s."
        except ConfigurationError as error:
            return f" No other one can be read: {error}"
        return ""


def _is_too_large(error: grpc.aio.AioRpcError, size: int) -> bool:
    details = error.details() or ""
    if "larger than max" in details:
        return True
    large = _LARGE.get(error.code(), math.inf)
    return size > large or (large < math.inf and bool(_TOO_LARGE.search(details)))


def _pause(payload: bytes) -> Pause | None:
    """Return the pause of a `rate_limited` hint; one that can't be read is no hint."""
    try:
        seconds = float(load_object(payload)["wait_time"])
    except (ValidationFailure, ValueError, OverflowError, TypeError, KeyError):
        return None
    return Pause(seconds) if 0 < seconds < math.inf else None
