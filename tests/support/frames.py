"""A TCP proxy that records the HTTP/2 frames it forwards."""

from __future__ import annotations

import attrs

from arbprov.testing import TcpProxy

DATA, HEADERS, PING, GOAWAY = 0, 1, 6, 7
ACK = 1
ENHANCE_YOUR_CALM = 11
# Bytes that a client sends before its first frame.
PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


@attrs.frozen
class Frame:
    sender: str
    kind: int
    flags: int
    payload: bytes


@attrs.define
class Connection:
    """The frames of a connection, in the order of arrival."""

    frames: list[Frame] = attrs.field(factory=list)

    @property
    def pings(self) -> int:
        """The pings of the client."""
        return sum(map(self._is_ping, self.frames))

    @property
    def most_strikes(self) -> int:
        """The most strikes that a server with the defaults of gRPC has counted.

        A ping is a strike if it comes less than 5 minutes after another ping, and the server has
        sent neither headers nor data in between. More than 2 strikes end the connection.
        """
        pings, most = 0, 0
        for frame in self.frames:
            if frame.sender == "server" and frame.kind in (DATA, HEADERS):
                pings = 0
            pings += self._is_ping(frame)
            most = max(most, pings - 1)
        return most

    @property
    def goaways(self) -> list[int]:
        """The error codes of the server's GOAWAY frames."""
        return [
            int.from_bytes(frame.payload[4:8], "big")
            for frame in self.frames
            if frame.sender == "server" and frame.kind == GOAWAY
        ]

    def _is_ping(self, frame: Frame) -> bool:
        return frame.sender == "client" and frame.kind == PING and not frame.flags & ACK


class _Tap:
    """A reader that records the frames in the bytes it reads."""

    def __init__(self, reader, sender, connection, skip):
        self._reader = reader
        self._sender = sender
        self._connection = connection
        self._skip = skip
        self._rest = b""

    async def read(self, most):
        data = await self._reader.read(most)
        self._rest += data
        self._take()
        return data

    def _take(self):
        skipped = min(self._skip, len(self._rest))
        self._rest, self._skip = self._rest[skipped:], self._skip - skipped
        while len(self._rest) >= 9 and not self._skip:
            end = 9 + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < end:
                return
            frame = Frame(self._sender, self._rest[3], self._rest[4], self._rest[9:end])
            self._connection.frames.append(frame)
            self._rest = self._rest[end:]


class WatchingProxy(TcpProxy):
    """A proxy that knows the frames of all its connections."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.seen: list[Connection] = []

    async def _forward(self, up, down):
        connection = Connection()
        self.seen.append(connection)
        await super()._forward(
            (_Tap(up[0], "client", connection, PREFACE), up[1]),
            (_Tap(down[0], "server", connection, 0), down[1]),
        )
