"""The channel to a hub: how it keeps alive, reconnects, and encrypts."""

from __future__ import annotations

import asyncio

import attrs
import grpc
import grpc.aio

from arbprov.wire.tls import Tls

__all__ = ["HubChannel", "Keepalive"]

_CONNECTING = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
# How long a connection may take that is to replace one that the hub has closed.
_AT_ONCE = 2.0


@attrs.frozen
class Keepalive:
    """How a connection is tried while the hub holds a call; in seconds.

    Args:
        time: Of silence, after which the hub is pinged.
        timeout: For its answer; then the connection is given up.
    """

    time: float
    timeout: float = 10.0

    @classmethod
    def between(cls, answers: float) -> Keepalive:
        """Return what suits a hub that answers a poll after `answers` seconds at the latest.

        Servers end a connection with ``too_many_pings`` at the fourth ping without any answer
        between, if they allow one in 5 minutes only, as they do by default. So there are two.
        """
        return cls(max(30.0, answers / 2))


class HubChannel:
    """One gRPC channel, with a connection of its own.

    It belongs to the event loop that runs when it is made.

    Args:
        target: What gRPC connects to.
        tls: What TLS needs; None for plaintext.
        max_message_size: Bytes of the largest message that is taken.
        keepalive: When to give a silent connection up.
    """

    def __init__(
        self, target: str, *, tls: Tls | None, max_message_size: int, keepalive: Keepalive
    ) -> None:
        options = _options(max_message_size, keepalive)
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            self._channel = grpc.aio.secure_channel(target, _credentials(tls), options=options)
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}
        self._calls = 0
        # What waits for the end of all calls, if anything does.
        self._idle: asyncio.Event | None = None

    async def call(self, method: str, request: bytes, timeout: float) -> bytes:
        """Return the answer to one call, as it came.

        Raises:
            grpc.aio.AioRpcError: There is none.
        """
        self._calls += 1
        try:
            answer: bytes = await self._method(method)(request, timeout=timeout)
            return answer
        finally:
            self._calls -= 1
            if self._idle is not None and not self._calls:
                self._idle.set()

    def _method(self, name: str) -> grpc.aio.UnaryUnaryMultiCallable:
        method = self._methods.get(name)
        if method is None:
            method = self._methods[name] = self._channel.unary_unary(name)
        return method

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return bool(self._channel.get_state() is grpc.ChannelConnectivity.READY)

    async def comes_back(self) -> bool:
        """Return whether a connection is there again at once, after the hub has closed one."""
        try:
            return await asyncio.wait_for(self._settled(), _AT_ONCE)
        except asyncio.TimeoutError:
            return False

    async def _settled(self) -> bool:
        while (state := self._channel.get_state(try_to_connect=True)) in _CONNECTING:
            await self._channel.wait_for_state_change(state)
        return bool(state is grpc.ChannelConnectivity.READY)

    async def close(self) -> None:
        """Give up the connection, and the calls on it."""
        await self._channel.close()

    async def retire(self) -> None:
        """Give up the connection once its calls have ended."""
        if self._calls:
            self._idle = asyncio.Event()
            await self._idle.wait()
        await self._channel.close()


def _options(max_message_size: int, keepalive: Keepalive) -> list[tuple[str, int | str]]:
    return [
        # gRPC's own limit of 4 MiB would lose each larger task: it is handed out, and never
        # arrives.
        ("grpc.max_receive_message_length", max_message_size),
        ("grpc.max_send_message_length", -1),
        # Whoever calls tries again, and knows when; what gRPC keeps for it costs 7 % of each call.
        ("grpc.enable_retries", 0),
        # An attempt to connect may take this long, and then so long till the next; gRPC adds up to
        # a fifth to the latter, and 10 s are promised.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        ("grpc.max_reconnect_backoff_ms", 8_000),
        ("grpc.keepalive_time_ms", round(keepalive.time * 1000)),
        ("grpc.keepalive_timeout_ms", round(keepalive.timeout * 1000)),
        # Without this one, gRPC waits for the answer to a ping for a minute.
        ("grpc.http2.ping_timeout_ms", round(keepalive.timeout * 1000)),
        # Channels to one target share a connection otherwise, and a new channel would be the old.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca, private_key=tls.key, certificate_chain=tls.certificate
    )
