"""A TCP proxy for tests that forwards bytes, stalls, or resets connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

__all__ = ["TcpProxy"]

_CHUNK = 64 * 1024
_TIMEOUT = 10.0
# Event loop iterations until every accepted connection has reached `_on_connect`.
_ROUNDS = 5
# SO_LINGER with 0 seconds: closing sends a reset, and drops unsent bytes.
_NO_LINGER = struct.pack("ii", 1, 0)


class TcpProxy:
    """A proxy between a client and a server that can simulate network faults.

    Start and stop it with ``with``, or with `start` and `stop`. Its methods are thread-safe.

    Args:
        target: The server's address, ``host:port``.
        address: Address to listen on; port 0 means any free port.

    Attributes:
        address: The address; since `start`, with the real port.
        target: Set it at any time; existing connections keep their server.

    >>> from arbprov.localhub import LocalHub
    >>> with LocalHub() as hub, TcpProxy(hub.address) as proxy:
    ...     proxy.stall()  # a provider connected to `proxy.address` gets no answers now
    ...     proxy.let_pass()
    """

    def __init__(self, target: str, address: str = "127.0.0.1:0") -> None:
        self.target = target
        self.address = address
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name="arbprov-proxy", daemon=True
        )
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._resets = False
        # Of the thread's event loop.
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._passing: asyncio.Event
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        # Peer addresses of reset connections, as the target sees them.
        self._reset_from: set[str] = set()

    # Network faults.

    def let_pass(self) -> None:
        """Forward everything again, including the bytes held back."""

        async def let_pass() -> None:
            self._resets = False
            self._passing.set()

        self._do(let_pass)

    def stall(self) -> None:
        """Hold back all bytes in both directions, as a frozen machine does."""

        async def hold_back() -> None:
            self._passing.clear()

        self._do(hold_back)

    def half_open(self) -> None:
        """Hold back all bytes of existing connections for good; new connections work.

        To the client, the server seems to have restarted without closing its connections.
        """

        async def half_open() -> None:
            # Existing connections wait for this event, but nothing sets it again.
            self._passing.clear()
            self._passing = asyncio.Event()
            self._passing.set()

        self._do(half_open)

    def reset(self) -> None:
        """Reset every connection, and every new connection too, until `let_pass`."""

        async def reset() -> None:
            self._resets = True
            self._passing.set()
            await self._cut()

        self._do(reset)

    def cut(self) -> None:
        """Reset existing connections; new connections work."""
        self._do(self._cut)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def has_reset(self, peer: str) -> bool:
        """Return whether the connection that the target sees from `peer` has been reset."""
        return peer in self._reset_from

    # Start and stop.

    def start(self) -> TcpProxy:
        """Listen on `address`, and return the proxy.

        Raises:
            OSError: The address is in use, or does not belong to this machine.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Reset every connection, and stop."""
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_TIMEOUT)

    def __enter__(self) -> TcpProxy:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # On the proxy's own event loop.

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._passing = asyncio.Event()
        self._passing.set()
        try:
            server = await asyncio.start_server(self._on_connect, *_split_address(self.address))
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        self.address = _format_address(*server.sockets[0].getsockname()[:2])
        self._ready.set()
        await self._stopping.wait()
        # Accept no more, and let accepted connections become known: close() would leave them open.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        server.close()
        await self._cut()

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(_TIMEOUT)

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            self._reset_from.update(map(_own_address, self._connections[connection][1:]))
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Registered now, to be closed even if its task is cancelled before it starts.
        writers = [writer]
        connection = self._loop.create_task(self._serve(reader, writers))
        self._connections[connection] = writers

        def on_end(connection: asyncio.Task[None]) -> None:
            del self._connections[connection]
            if connection.cancelled() or isinstance(connection.exception(), OSError):
                for each in writers:
                    with contextlib.suppress(OSError):  # closed already
                        sock = each.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                    each.transport.abort()

        connection.add_done_callback(on_end)

    async def _serve(
        self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]
    ) -> None:
        if self._resets:
            raise ConnectionResetError
        await self._passing.wait()
        upstream, to_upstream = await asyncio.open_connection(*_split_address(self.target))
        writers.append(to_upstream)
        self._reset_from.discard(_own_address(to_upstream))
        await self._forward((reader, to_upstream), (upstream, writers[0]))
        for writer in writers:
            writer.close()
        for writer in writers:
            await writer.wait_closed()

    async def _forward(self, *routes: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Forward bytes both ways until a side closes its connection."""
        passing = self._passing
        pumps = [asyncio.ensure_future(_pump(passing, *route)) for route in routes]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        for pump in done:
            pump.result()


async def _pump(
    passing: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while data := await reader.read(_CHUNK):
        await passing.wait()
        writer.write(data)
        await writer.drain()
    # The end of the stream is held back like bytes.
    await passing.wait()


def _own_address(writer: asyncio.StreamWriter) -> str:
    return _format_address(*writer.get_extra_info("sockname")[:2])


def _format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
