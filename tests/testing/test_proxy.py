"""The TCP proxy: bytes pass, stall, or connections are reset."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading

import pytest
from support.servers import refusing_address
from support.waiting import TIMEOUT

from arbprov.testing import TcpProxy


def address_of(listening):
    return f"127.0.0.1:{listening.getsockname()[1]}"


def connection_to(proxy):
    host, port = proxy.address.split(":")
    return socket.create_connection((host, int(port)), TIMEOUT)


class Echo:
    """A server that sends back every byte it receives."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = address_of(self.listening)
        self.accepted = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.accepted.append(connection)
                self.threads.append(threading.Thread(target=self._echo, args=(connection,)))
                self.threads[-1].start()

    def _echo(self, connection):
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def close(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for connection in self.accepted:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(TIMEOUT)


@pytest.fixture
def echo():
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo):
    with TcpProxy(echo.address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy):
    with contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(connection_to(proxy))

        yield connect


@pytest.fixture
def connection(connect):
    """A connection through which bytes have passed."""
    connection = connect()
    exchange(connection)
    return connection


def receive(connection, size):
    data = b""
    while len(data) < size:
        data += connection.recv(1 << 16)
    return data


def exchange(connection):
    """Send a word, and return the echo."""
    connection.sendall(b"hello")
    return receive(connection, 5)


def assert_nothing_comes(connection):
    connection.settimeout(0.1)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(TIMEOUT)


def assert_reset(connection):
    with pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_bytes_pass_both_ways(connect):
    assert exchange(connect()) == b"hello"


def test_many_bytes_pass_as_they_are(connect):
    data = bytes(range(256)) * 4000
    connection = connect()
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    assert receive(connection, len(data)) == data
    sender.join()


def test_the_end_of_one_side_is_the_end_of_the_other(connection, echo):
    echo.accepted[0].shutdown(socket.SHUT_RDWR)
    assert connection.recv(1) == b""


def test_nothing_passes_a_proxy_that_stalls(connection, proxy):
    proxy.stall()
    connection.sendall(b"hello")
    assert_nothing_comes(connection)


def test_a_new_connection_is_stalled_too(connect, proxy):
    proxy.stall()
    connection = connect()
    connection.sendall(b"hello")
    assert_nothing_comes(connection)


def test_the_end_of_a_connection_is_held_back_too(connection, proxy, echo):
    proxy.stall()
    echo.accepted[0].shutdown(socket.SHUT_RDWR)
    assert_nothing_comes(connection)
    proxy.let_pass()
    assert connection.recv(1) == b""


def test_nothing_passes_a_half_open_connection_ever_again(connection, proxy):
    proxy.half_open()
    connection.sendall(b"hello")
    proxy.let_pass()
    assert_nothing_comes(connection)


def test_a_new_connection_is_welcome_beside_half_open_ones(connect, proxy):
    exchange(connect())
    proxy.half_open()
    assert exchange(connect()) == b"hello"


def test_half_open_connections_can_be_reset(connection, proxy):
    proxy.half_open()
    proxy.cut()
    assert_reset(connection)


def test_bytes_that_were_held_back_arrive_later(connect, proxy):
    connection = connect()
    proxy.stall()
    connection.sendall(b"hello")
    proxy.let_pass()
    assert connection.recv(5) == b"hello"


def test_a_reset_reaches_a_connected_client(connection, proxy):
    proxy.reset()
    assert_reset(connection)


def test_a_reset_reaches_a_stalled_client(connection, proxy):
    proxy.stall()
    proxy.reset()
    assert_reset(connection)


def test_new_connections_are_reset_until_they_may_pass(connect, proxy):
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        connect().recv(1)
    proxy.let_pass()
    assert exchange(connect()) == b"hello"


def test_a_cut_resets_existing_connections_only(connection, connect, proxy):
    proxy.cut()
    assert_reset(connection)
    assert exchange(connect()) == b"hello"


def test_a_cut_of_nothing_is_fine(proxy):
    proxy.cut()


def test_connections_are_counted(connect, proxy):
    exchange(connect())
    exchange(connect())
    assert proxy.connections == 2
    proxy.cut()
    assert proxy.connections == 0


def test_a_reset_by_the_server_is_passed_on(connection, echo):
    echo.accepted[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    # The reading thread holds the connection open.
    echo.accepted[0].shutdown(socket.SHUT_RD)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            connection.sendall(b"hello")
            if not connection.recv(1 << 16):
                raise ConnectionResetError


def test_a_server_that_is_away_is_a_reset():
    with (
        refusing_address() as away,
        TcpProxy(away) as proxy,
        pytest.raises(ConnectionResetError),
        connection_to(proxy) as connection,
    ):
        connection.recv(1)


def test_new_connections_go_to_a_new_target(connect, proxy, echo):
    another = Echo()
    proxy.target = another.address
    exchange(connect())
    assert (len(another.accepted), len(echo.accepted)) == (1, 0)
    another.close()


def test_connections_are_reset_when_the_proxy_stops(echo):
    with TcpProxy(echo.address) as proxy:
        connection = connection_to(proxy)
        exchange(connection)
    with connection:
        assert_reset(connection)


def test_a_connection_that_comes_as_the_proxy_stops_is_closed(echo):
    for _ in range(50):
        proxy = TcpProxy(echo.address).start()
        with connection_to(proxy):
            proxy.stop()
    # A connection left open would warn now, and warnings are errors.
    gc.collect()


def test_a_proxy_may_be_stopped_twice(echo):
    proxy = TcpProxy(echo.address).start()
    proxy.stop()
    proxy.stop()


def test_a_taken_address_is_an_error(echo):
    with pytest.raises(OSError):
        TcpProxy("127.0.0.1:1", echo.address).start()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_proxy_listens_on_ipv6(echo):
    with TcpProxy(echo.address, "[::1]:0") as proxy:
        assert proxy.address.startswith("[::1]:")
