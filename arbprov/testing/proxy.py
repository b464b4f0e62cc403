"""A TCP proxy for tests: it passes what comes, stalls, or resets."""

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
_PATIENCE = 10.0
# Of the loop, that it takes at most until what was accepted is a connection that we know of.
_ROUNDS = 5
# To linger for no second: closing sends a reset, and drops what was still to be sent.
_NO_LINGER = struct.pack("ii", 1, 0)


class TcpProxy:
    """Stands between a client and a server, and lets bytes pass until told otherwise.

    It starts and stops with ``with``, or `start` and `stop`; any thread may call its methods.

    >>> from arbprov.localhub import LocalHub
    >>> with LocalHub() as hub, TcpProxy(hub.address) as proxy:
    ...     proxy.stall()  # who is connected to `proxy.address` waits now, and is told nothing
    ...     proxy.let_pass()

    Args:
        target: The server, as ``host:port``.
        address: Where to listen; port 0 takes a free one.

    Attributes:
        address: From `start` on with the real port.
        target: Can be set at any time; connections that are there already stay where they are.
    """

    def __init__(self, target: str, address: str = "127.0.0.1:0") -> None:
        self.target = target
        self.address = address
        self._thread = threading.Thread(target=self._run, name="arbprov-proxy", daemon=True)
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._resets = False
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        # Where connections that were reset came from, as the target saw it.
        self._reset_from: set[str] = set()

    # What passes.

    def let_pass(self) -> None:
        """Let everything pass, and what was held back too."""
        self._do(self._let_pass)

    def stall(self) -> None:
        """Hold everything back, in both directions; nobody is told, as by a frozen machine."""
        self._do(self._hold_back)

    def half_open(self) -> None:
        """Let nothing pass any more on the connections that are there, and tell nobody.

        New ones are as welcome as before: it is as if the server had been away, and had forgotten
        the old ones.
        """
        self._do(self._half_open)

    def reset(self) -> None:
        """Reset every connection, and each new one too, until `let_pass`."""
        self._do(self._reset)

    def cut(self) -> None:
        """Reset the connections that are there; new ones are as welcome as before."""
        self._do(self._cut)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def has_reset(self, peer: str) -> bool:
        """Return whether a connection is reset that the target knows as one from `peer`."""
        return peer in self._reset_from

    # Its life.

    def start(self) -> TcpProxy:
        """Listen, and return the proxy itself.

        Raises:
            OSError: The address is taken, or none of this machine's.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Reset what is there, and end."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_PATIENCE)

    def __enter__(self) -> TcpProxy:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # On its own loop.

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._passing = asyncio.Event()
        self._passing.set()
        try:
            server = await asyncio.start_server(self._connected, *_host_and_port(self.address))
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        self.address = _joined(*server.sockets[0].getsockname()[:2])
        self._ready.set()
        await self._stopping.wait()
        # A server that is closed would leave open what it has accepted just now.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        server.close()
        await self._cut()

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(_PATIENCE)

    async def _let_pass(self) -> None:
        self._resets = False
        self._passing.set()

    async def _hold_back(self) -> None:
        self._passing.clear()

    async def _half_open(self) -> None:
        # Those that are there wait for this one for ever.
        self._passing.clear()
        self._passing = asyncio.Event()
        self._passing.set()

    async def _reset(self) -> None:
        self._resets = True
        self._passing.set()
        await self._cut()

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            self._reset_from.update(map(_own_address, self._connections[connection][1:]))
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Known from now on, and closed even if its task is cancelled before it begins.
        writers = [writer]
        connection = self._loop.create_task(self._serve(reader, writers))
        self._connections[connection] = writers
        connection.add_done_callback(self._ended)

    def _ended(self, connection: asyncio.Task[None]) -> None:
        writers = self._connections.pop(connection)
        if connection.cancelled() or isinstance(connection.exception(), OSError):
            _reset(writers)

    async def _serve(
        self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]
    ) -> None:
        if self._resets:
            raise ConnectionResetError
        await self._passing.wait()
        upstream, to_upstream = await asyncio.open_connection(*_host_and_port(self.target))
        writers.append(to_upstream)
        self._reset_from.discard(_own_address(to_upstream))
        await self._carry((reader, to_upstream), (upstream, writers[0]))
        for writer in writers:
            writer.close()
        for writer in writers:
            await writer.wait_closed()

    async def _carry(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Carry bytes both ways, while they may pass, until one of them ends."""
        passing = self._passing
        pumps = [asyncio.ensure_future(_pump(passing, *way)) for way in ways]
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
    # The end of a connection is held back as its bytes are.
    await passing.wait()


def _own_address(writer: asyncio.StreamWriter) -> str:
    return _joined(*writer.get_extra_info("sockname")[:2])


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reset(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        with contextlib.suppress(OSError):  # it is closed already
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
