"""A proxy in front of a hub that now and then answers by itself, as a gateway of HTTP does."""

from __future__ import annotations

import asyncio
import contextlib

from arbprov.testing import TcpProxy

_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_PREFACE = 24
# HPACK: `:status` is the static table's entry 8, `content-type` its entry 31.
_STATUS, _CONTENT_TYPE = b"\x08", b"\x0f\x10"


class Gateway(TcpProxy):
    """Forwards to the hub, or answers each request with a status of HTTP and no status of gRPC."""

    def __init__(self, target: str, address: str = "127.0.0.1:0") -> None:
        super().__init__(target, address)
        self._code = 0

    def answer(self, code: int) -> None:
        """Answer each request with `code`, until `let_pass`."""
        self._code = code
        self.cut()

    def let_pass(self) -> None:
        if self._code:
            self._code = 0
            self.cut()
        super().let_pass()

    async def _serve(
        self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]
    ) -> None:
        if not self._code:
            await super()._serve(reader, writers)
            return
        with contextlib.suppress(asyncio.IncompleteReadError):
            await _answer_all(reader, writers[0], self._code)
        writers[0].close()


async def _answer_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, code: int
) -> None:
    await reader.readexactly(_PREFACE)
    writer.write(_frame(_SETTINGS, 0, 0, b""))
    while True:
        head = await reader.readexactly(9)
        body = await reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            writer.write(_frame(kind, _ACK, 0, body if kind == _PING else b""))
        elif kind == _HEADERS:
            headers = _literal(_STATUS, str(code)) + _literal(_CONTENT_TYPE, "text/html")
            writer.write(_frame(_HEADERS, _END_HEADERS, stream, headers))
            writer.write(_frame(_DATA, _END_STREAM, stream, b"<h1>no</h1>"))
        await writer.drain()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _literal(name: bytes, value: str) -> bytes:
    return name + bytes((len(value),)) + value.encode()
