"""The hub over gRPC: status codes become results, pauses and errors here, and calls are retried."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio

from arbprov._proto import hub_pb2
from arbprov._utils import MEBIBYTE, escape_line
from arbprov.backoff import Backoff
from arbprov.errors import AuthenticationError, ConfigurationError, HubConnectionError
from arbprov.executors.threads import ThreadPool
from arbprov.redaction import find_secrets_in_json, redact
from arbprov.task import Task, TaskKey
from arbprov.wire.channel import HubChannel, Keepalive
from arbprov.wire.hub import Pause, Renewal, ResultRefused, ResultTooLarge
from arbprov.wire.leases import decode_renewal, encode_renewal
from arbprov.wire.messages import decode_answer, encode_poll, with_token
from arbprov.wire.metadata import (
    ATTEMPT,
    RENEW,
    RENEWS,
    REPORT,
    REPORTS,
    TRACEPARENT,
    Metadata,
    read_attempt,
    read_interval,
    read_texts,
)
from arbprov.wire.proxies import find_proxy, http_status
from arbprov.wire.reports import decode_report_answer, encode_report
from arbprov.wire.tls import Tls
from arbprov.wire.tls_diagnosis import explain_tls, speaks_tls
from arbprov.wire.tokens import Token
from arbprov.wire.url import parse_hub_url

__all__ = ["GrpcHub"]

logger = logging.getLogger("arbprov")

_GET_TASK = "/Hub/GetTask"
_SUBMIT = "/Hub/SubmitTaskResult"
_RENEW_LEASES = "/arbprov.Leases/Renew"
_REPORT = "/arbprov.Providers/Report"
# Tells the hub that its leases may be short.
_RENEWING = ((RENEWS, "1"),)
# Tells the hub that it knows, or will know, the actions of this process.
_REPORTING = ((REPORTS, "1"),)
_REFUSED_FOR_GOOD = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
)
# How gRPC's servers, in several languages, and a hub's own code call a message too large.
_TOO_LARGE = re.compile(r"exceeds (the )?max|too (large|big)", re.IGNORECASE)
# A refusal without such words is about the size if the result has more bytes than this. A hub in
# trouble says RESOURCE_EXHAUSTED too, and must not cost a result: hence the higher limit.
_LARGE = {
    grpc.StatusCode.INVALID_ARGUMENT: 64 * 1024,
    grpc.StatusCode.RESOURCE_EXHAUSTED: MEBIBYTE,
}
# The hub has received the poll and has no task to hand out.
_NO_TASK = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED)
# The connection has ended; a server that stops also cancels the calls it has just received.
_DISCONNECTED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# Seconds before each immediate retry; these retries are not reported as trouble.
_RETRY_PAUSES = (0.05, 0.2)
# Seconds to pause after RESOURCE_EXHAUSTED: the minimum, and a backoff on top, 10 s in all.
_MIN_PAUSE = 1.0
_EXTRA_PAUSE = (1.0, 9.0)
# Seconds that the author's function may take to return a token.
_TOKEN_TIMEOUT = 10.0
# Seconds beyond its timeout after which a call on a replaced channel is cancelled.
_CLOSING_GRACE = 1.0
# A poll that lasted this share of its timeout has timed out here; the hub did not end it earlier.
_FULL_POLL = 0.9
_TLS_HUB = (
    "it speaks TLS, and this provider does not: write grpcs:// in HUB_GRPC_URL, "
    "or set HUB_GRPC_TLS=true"
)


class GrpcHub:
    """One provider's connection to its hub, for the event loop that creates it; see `Hub`.

    Args:
        url: The hub's URL; see `arbprov.wire.url`.
        provider: The provider's name.
        token: The provider's token; `Token.read` has been called.
        poll_timeout: Seconds that the hub may hold a poll; giving up earlier can lose a task.
        submit_timeout: Seconds for one attempt to send a result.
        tls: TLS settings; None for plaintext.
        max_message_size: Bytes of the largest task to accept.
        keepalive: When to give up a silent connection; by default, it suits `poll_timeout`.
        reads_traces: Whether tasks get the trace context that the hub may send as metadata.

    Attributes:
        renew_interval: See `Hub.renew_interval`.
        report_interval: See `Hub.report_interval`.

    >>> from arbprov.localhub import LocalHub
    >>> async def poll(url: str, auth_token: str) -> Task | Pause | None:
    ...     token = Token(auth_token)
    ...     token.read()
    ...     hub = GrpcHub(url, provider="weather", token=token, poll_timeout=5, submit_timeout=5)
    ...     try:
    ...         return await hub.fetch()
    ...     finally:
    ...         await hub.close()
    >>> with LocalHub() as hub:
    ...     ticket = hub.put("forecast", {"city": "Paris"})
    ...     asyncio.run(poll(hub.url, hub.token)).action
    'forecast'
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
        max_message_size: int = 64 * MEBIBYTE,
        keepalive: Keepalive | None = None,
        reads_traces: bool = False,
    ) -> None:
        self._target = parse_hub_url(url).target
        # The hub's name in errors.
        self._name = f"the hub at {url}"
        self._proxy = find_proxy(self._target)
        if self._proxy:
            self._name += f" through the proxy {self._proxy}"
        self._provider = provider
        self._token = token
        self._poll_timeout = poll_timeout
        self._submit_timeout = submit_timeout
        self._tls = tls
        self._max_message_size = max_message_size
        self._keepalive = keepalive or Keepalive.for_poll_timeout(poll_timeout)
        self._reads_traces = reads_traces
        self.renew_interval = self.report_interval = 0.0
        self._loop = asyncio.get_running_loop()
        self._channel = self._new_channel()
        # Replaced channels, each closed by its task when its last call has ended.
        self._replaced: dict[HubChannel, asyncio.Task[None]] = {}
        # The pauses of a hub that is overloaded; None if it is not.
        self._overload_backoff: Backoff | None = None
        # Whether the hub answered the last call, and whether it ever answered a call.
        self._healthy = False
        self._ever_connected = False
        self._threads = ThreadPool(self._loop, "arbprov-token")
        self._token_lock = asyncio.Lock()
        self._token_problem = ""

    @property
    def is_connected(self) -> bool:
        """Whether an unanswered poll may bring a task; see `Hub.is_connected`.

        After an answer, it may even if no connection is seen: a hub that closes its connections in
        an orderly way still answers the polls on them.
        """
        channels = (self._channel, *self._replaced)
        return self._healthy or any(channel.is_connected for channel in channels)

    async def fetch(self) -> Task | Pause | None:
        """Poll once; see `Hub.fetch`."""
        channel, started_at = self._channel, self._loop.time()
        try:
            call, answer = await self._call(
                _GET_TASK,
                lambda: encode_poll(self._provider, self._token.current),
                self._poll_timeout,
                self._poll_metadata(),
            )
        except grpc.aio.AioRpcError as error:
            return await self._after_failed_poll(error, channel, self._loop.time() - started_at)
        self._overload_backoff = None
        metadata = read_texts(await call.initial_metadata())
        self.renew_interval = read_interval(metadata.get(RENEW, ""))
        self.report_interval = read_interval(metadata.get(REPORT, ""))
        attempt = read_attempt(metadata.get(ATTEMPT, ""))
        traceparent = metadata.get(TRACEPARENT, "") if self._reads_traces else ""
        try:
            return decode_answer(answer, attempt=attempt, traceparent=traceparent)
        except Exception as error:
            raise HubConnectionError(
                f"{self._name} sent an answer that is not a task ({error}); a task in it is lost"
            ) from None

    async def submit(self, message: bytes, attempt: int = 0) -> None:
        """Send a result; see `Hub.submit`."""
        try:
            await self._call(
                _SUBMIT,
                lambda: with_token(message, self._token.current),
                self._submit_timeout,
                ((ATTEMPT, str(attempt)),) if attempt else None,
            )
        except grpc.aio.AioRpcError as error:
            account = hub_pb2.TaskResult.FromString(message).account.encode()
            reason = self._describe(error, account)
            if _is_too_large(error, len(message)):
                raise ResultTooLarge(reason) from None
            if _code(error) in _REFUSED_FOR_GOOD:
                raise ResultRefused(reason) from None
            raise await self._hub_error(error, account) from None

    async def renew(self, tasks: Sequence[TaskKey]) -> Renewal:
        """Renew the leases of tasks; see `Hub.renew`.

        The call is made once: the next one comes soon, and polls and results look after the token
        and the connection.
        """
        request = encode_renewal(self._token.current, self._provider, tasks)
        answer = await self._call_once(_RENEW_LEASES, request, self.renew_interval)
        try:
            return decode_renewal(answer)
        except ValueError as error:
            raise HubConnectionError(
                f"{self._name} sent an answer that is not a renewal ({error})"
            ) from None

    async def report(self, fields: bytes) -> bool:
        """Report how this process stands, by a single call; see `Hub.report`."""
        request = encode_report(self._token.current, self._provider, fields)
        answer = await self._call_once(_REPORT, request, self.report_interval)
        try:
            return decode_report_answer(answer)
        except ValueError as error:
            raise HubConnectionError(
                f"{self._name} sent an answer that is not one to a report ({error})"
            ) from None

    async def close(self) -> None:
        """Close all connections and cancel their calls."""
        for closing in self._replaced.values():
            closing.cancel()
        for channel in (self._channel, *self._replaced):
            await channel.close()
        self._threads.close()

    # Calls and retries.

    def _poll_metadata(self) -> Metadata | None:
        if not (self.renew_interval or self.report_interval):
            return None
        renewing = _RENEWING if self.renew_interval else ()
        return renewing + _REPORTING if self.report_interval else renewing

    async def _call_once(self, method: str, request: bytes, interval: float) -> bytes:
        """Return the hub's answer to a call that is made again after `interval` seconds anyway."""
        # A call that outlives a replaced channel would be cancelled with it.
        timeout = min(interval, self._submit_timeout)
        try:
            answer: bytes = await self._channel.methods[method](request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise HubConnectionError(f"{self._name}: {self._describe(error)}") from None
        return answer

    async def _call(
        self,
        method: str,
        message: Callable[[], bytes],
        timeout: float,
        metadata: Metadata | None,
    ) -> tuple[Any, bytes]:
        """Return gRPC's call and the hub's answer, after immediate retries if they can help."""
        was_healthy, pauses = self._healthy, iter(_RETRY_PAUSES)
        while True:
            token, channel = self._token.current, self._channel
            try:
                call = channel.methods[method](message(), timeout=timeout, metadata=metadata)
                answer: bytes = await call
            except grpc.aio.AioRpcError as error:
                code = _code(error)
                if not await self._prepare_retry(code, token, channel, pauses, was_healthy):
                    self._record(code in _NO_TASK)
                    raise
            else:
                self._record(True)
                return call, answer

    async def _prepare_retry(
        self,
        code: grpc.StatusCode,
        token: str,
        channel: HubChannel,
        pauses: Iterator[float],
        was_healthy: bool,
    ) -> bool:
        """Renew the channel or the token, and pause; return False if a retry would not help."""
        if (pause := next(pauses, None)) is None:
            return False
        if code is grpc.StatusCode.CANCELLED:
            # A server that stops may cancel every further call on this connection.
            self._replace_channel(channel)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return self._ever_connected and await self._renew_token(token)
        if code not in _DISCONNECTED or not was_healthy:
            return False
        # A hub that restarts, or closes old connections, must cost nothing. The call fails a moment
        # before the channel's state changes.
        await asyncio.sleep(pause)
        return await self._channel.reconnects()

    def _record(self, healthy: bool) -> None:
        self._healthy = healthy
        self._ever_connected = self._ever_connected or healthy

    # The channel.

    def _new_channel(self) -> HubChannel:
        return HubChannel(
            self._target,
            tls=self._tls,
            max_message_size=self._max_message_size,
            keepalive=self._keepalive,
            methods=(_GET_TASK, _SUBMIT, _RENEW_LEASES, _REPORT),
        )

    def _replace_channel(self, channel: HubChannel) -> None:
        """Use a new channel from now on, unless `channel` has been replaced already."""
        if channel is self._channel:
            self._channel = self._new_channel()
            longest_call = max(self._poll_timeout, self._submit_timeout) + _CLOSING_GRACE
            closing = self._loop.create_task(channel.close_when_idle(longest_call))
            self._replaced[channel] = closing
            closing.add_done_callback(lambda _: self._replaced.pop(channel))

    # Answers without a task.

    async def _after_failed_poll(
        self, error: grpc.aio.AioRpcError, channel: HubChannel, waited: float
    ) -> Pause | None:
        """Return the pause before the next poll; raise an error if the hub cannot answer now."""
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            if waited >= self._poll_timeout * _FULL_POLL:
                # A channel that another poll has replaced just now may be closed already.
                is_connected = channel is not self._channel or channel.is_connected
                # The hub has sent nothing on this connection, so it may not allow more pings on it.
                self._replace_channel(channel)
                if not is_connected:
                    raise HubConnectionError(f"{self._name} did not answer within {waited:.3g} s")
            return None
        code = _code(error)
        if code not in _NO_TASK:
            raise await self._hub_error(error) from None
        # Only an answer with a message must have it: without one, gRPC may leave it out.
        metadata = read_texts(error.initial_metadata())
        self.renew_interval = read_interval(metadata.get(RENEW, "")) or self.renew_interval
        self.report_interval = read_interval(metadata.get(REPORT, "")) or self.report_interval
        if code is grpc.StatusCode.NOT_FOUND:
            self._overload_backoff = None
            return None
        if "larger than max" in (error.details() or ""):
            logger.error(
                "a task is lost because it is larger than max_message_size: %s; "
                "set ARBPROV_MAX_MESSAGE_SIZE to more bytes",
                self._describe(error),
            )
        if self._overload_backoff is None:
            self._overload_backoff = Backoff(*_EXTRA_PAUSE)
        return Pause(_MIN_PAUSE + self._overload_backoff.next())

    async def _hub_error(self, error: grpc.aio.AioRpcError, account: bytes = b"") -> Exception:
        hub, details = self._name, error.details() or ""
        if _code(error) is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(
                f"{hub} refuses the token of provider {self._provider!r}: "
                f"{self._redact(details, account)}; "
                f"is PROVIDER_AUTH_TOKEN right?{self._token_problem}"
            )
        explanation = explain_tls(details, self._tls)
        never_reached = "failed to connect" in details and not self._ever_connected
        may_be_tls = (
            self._tls is None and not self._proxy and never_reached and "refused" not in details
        )
        if may_be_tls and await asyncio.to_thread(speaks_tls, self._target):
            explanation = _TLS_HUB
        description = self._describe(error, account)
        if explanation:
            return HubConnectionError(f"{hub}: {explanation} ({description})")
        return HubConnectionError(f"{hub}: {description}")

    def _describe(self, error: grpc.aio.AioRpcError, account: bytes = b"") -> str:
        details = error.details() or ""
        if status := http_status(details):
            return f"HTTP status {status} without a gRPC status, as a proxy answers, not the hub"
        return f"{error.code().name}, {self._redact(details, account)}"

    def _redact(self, details: str, account: bytes) -> str:
        """Return the hub's details without token and account: the hub may have quoted them."""
        return escape_line(redact(details, [*self._token, *find_secrets_in_json(account)]))

    # The token.

    async def _renew_token(self, refused: str) -> bool:
        """Read the token again; return whether it differs from the refused token now."""
        problem = ""
        async with self._token_lock:
            # Another call, refused at the same time, may have read a new token already.
            if self._token.current == refused:
                # On a thread, since the author's function may block.
                reading = self._threads.run(self._token.read)
                try:
                    await asyncio.wait_for(reading, _TOKEN_TIMEOUT)
                except asyncio.TimeoutError:
                    problem = f" No other token was returned within {_TOKEN_TIMEOUT:g} s."
                except ConfigurationError as error:
                    problem = f" No other token can be read: {error}"
            self._token_problem = problem
        return self._token.current != refused


def _code(error: grpc.aio.AioRpcError) -> grpc.StatusCode:
    """Return the hub's status; UNAVAILABLE if a proxy has answered in its place."""
    if http_status(error.details() or ""):
        return grpc.StatusCode.UNAVAILABLE
    return error.code()


def _is_too_large(error: grpc.aio.AioRpcError, size: int) -> bool:
    details = error.details() or ""
    if "larger than max" in details:
        return True
    large = _LARGE.get(_code(error), math.inf)
    return size > large or (large < math.inf and bool(_TOO_LARGE.search(details)))
