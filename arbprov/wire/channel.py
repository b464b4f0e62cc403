"""A gRPC channel to the hub: keepalive pings, reconnecting, encryption."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import attrs
import grpc
import grpc.aio

from arbprov.wire.proxies import is_local
from arbprov.wire.tls import Tls

__all__ = ["HubChannel", "Keepalive"]

_CONNECTING = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
# Seconds to reconnect after the hub has closed the connection.
_RECONNECT_TIMEOUT = 2.0
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", -1),
    # GrpcHub retries by itself; gRPC's bookkeeping for retries costs 7 % of each call.
    ("grpc.enable_retries", 0),
    # The longest attempt to connect, and the longest pause before the next attempt. gRPC adds up
    # to a fifth to the pause, and the promise is 10 s.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 8_000),
    # By default, channels to the same target share a connection, so a new channel would not help.
    ("grpc.use_local_subchannel_pool", 1),
)


@attrs.frozen
class Keepalive:
    """When to give up a silent connection.

    Args:
        time: Seconds of silence before a ping.
        timeout: Seconds to wait for the ping's answer.
    """

    time: float
    timeout: float = 10.0

    @classmethod
    def for_poll_timeout(cls, poll_timeout: float) -> Keepalive:
        """Return the keepalive for polls that the hub holds for up to `poll_timeout` seconds.

        By default, a gRPC server allows one ping in 5 minutes, and closes the connection
        (``too_many_pings``) at the fourth ping in a row. This sends two at most during a poll.

        >>> Keepalive.for_poll_timeout(120.0)
        Keepalive(time=60.0, timeout=10.0)
        """
        return cls(max(30.0, poll_timeout / 2))


class HubChannel:
    """One gRPC channel with its own connection, for the event loop that creates it.

    Args:
        target: Address in gRPC's notation; see `arbprov.wire.url.Endpoint`.
        tls: TLS settings; None for plaintext.
        max_message_size: Bytes of the largest message to accept.
        keepalive: When to give up a silent connection.
        methods: The full names of the hub's methods, such as ``/Hub/GetTask``.

    Attributes:
        methods: What calls each method: it takes the encoded message and a `timeout`, and returns
            the answer's bytes or raises `grpc.aio.AioRpcError`.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None,
        max_message_size: int,
        keepalive: Keepalive,
        methods: Iterable[str],
    ) -> None:
        options = [
            *_OPTIONS,
            # gRPC's default of 4 MiB would lose a larger task: the hub has handed it out already.
            ("grpc.max_receive_message_length", max_message_size),
            ("grpc.keepalive_time_ms", round(keepalive.time * 1000)),
            ("grpc.keepalive_timeout_ms", round(keepalive.timeout * 1000)),
            # By default, gRPC waits a minute for the answer to a ping.
            ("grpc.http2.ping_timeout_ms", round(keepalive.timeout * 1000)),
        ]
        if is_local(target):
            # A proxy, which gRPC takes from the environment, cannot reach this machine.
            options.append(("grpc.enable_http_proxy", 0))
        # None after its end.
        self._channel: grpc.aio.Channel | None
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        self.methods = {name: self._channel.unary_unary(name) for name in methods}

    @property
    def is_connected(self) -> bool:
        """Whether the channel has a connection now."""
        channel = self._channel
        return channel is not None and channel.get_state() is grpc.ChannelConnectivity.READY

    async def reconnects(self) -> bool:
        """Connect again after the hub has closed the connection; return whether that worked."""
        if (channel := self._channel) is None:
            return False
        loop = asyncio.get_running_loop()
        gives_up_at = loop.time() + _RECONNECT_TIMEOUT
        while (state := channel.get_state(try_to_connect=True)) in _CONNECTING:
            change = channel.wait_for_state_change(state)
            try:
                await asyncio.wait_for(change, gives_up_at - loop.time())
            except asyncio.TimeoutError:
                return False
        return bool(state is grpc.ChannelConnectivity.READY)

    async def close(self) -> None:
        """Close the connection and cancel its calls."""
        await self._close(grace=None)

    async def close_when_idle(self, timeout: float) -> None:
        """Close the connection once its calls have ended, after `timeout` seconds at the latest."""
        await self._close(grace=timeout)

    async def _close(self, grace: float | None) -> None:
        if self._channel is not None:
            await self._channel.close(grace)
        # An error's traceback may keep this object until Python exits. If it kept gRPC's channel,
        # gRPC could wait then for its polling thread, which Python has ended: for ever.
        self._channel, self.methods = None, {}
