"""The HTTP server of the pages: addresses, methods, bounds, and failures."""

from __future__ import annotations

import errno
import http.client
import socket
import threading

import pytest
from support.monitored import Pages
from support.waiting import TIMEOUT, wait_until

from arbprov import ConfigurationError, ProviderApp
from arbprov.instrumentation.server import TEXT, MonitoringServer


@pytest.fixture
def served():
    """Return a function that serves pages, and returns them."""
    servers = []

    def serve(pages, address="127.0.0.1:0"):
        servers.append(MonitoringServer(address))
        servers[-1].start(pages)
        return Pages(servers[-1].address)

    yield serve
    for server in servers:
        server.close()


def fine():
    return 200, TEXT, b"fine\n"


def connect(pages):
    host, _, port = pages.address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)


def test_a_page_is_answered_with_its_status_and_type(served):
    status, headers, text = served({"/page": lambda: (503, "text/x", b"why\n")}).request("/page")
    assert (status, headers["Content-Type"], text) == (503, "text/x", "why\n")


def test_a_query_does_not_change_the_page(served):
    assert served({"/page": fine}).ask("/page?verbose") == (200, "fine")


def test_head_has_no_content(served):
    with connect(served({"/page": fine})) as client:
        client.sendall(b"HEAD /page HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as answer:
            head, _, content = answer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert (b"Content-Length: 5" in head, content) == (True, b"")


def test_only_get_and_head_are_answered(served):
    assert served({"/page": fine}).request("/page", "POST")[0] == 501


def test_an_unknown_page_names_the_known_ones(served):
    answer = served({"/livez": fine, "/readyz": fine}).ask("/healthz")
    assert answer == (404, "there is no /healthz; there is /livez /readyz")


def test_a_page_that_raises_is_an_error_and_the_next_request_is_answered(served, caplog):
    def fail():
        raise LookupError("secret")

    pages = served({"/bad": fail, "/good": fine})
    assert pages.ask("/bad") == (500, "the page could not be made: LookupError")
    assert pages.ask("/good") == (200, "fine")
    assert caplog.messages == ["the page /bad could not be made"]


def test_an_ipv6_address_is_in_brackets(served):
    pages = served({"/page": fine}, "[::1]:0")
    assert pages.address.startswith("[::1]:")
    assert pages.ask("/page") == (200, "fine")


def test_a_taken_port_is_a_configuration_error_that_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError) as caught:
            MonitoringServer(address)
    assert str(caught.value) == (
        f"ARBPROV_MONITORING (monitoring=) '{address}': can't listen there, Address already in "
        f"use; is another provider running there? Set another port, or 127.0.0.1 or 0.0.0.0 as the "
        f"host"
    )


def test_a_provider_whose_port_is_taken_does_not_start(hub):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app = ProviderApp("late", monitoring=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigurationError, match="can't listen there"):
            app.run(hub_url=hub.address, auth_token=hub.token)


def test_a_host_that_does_not_exist_is_a_configuration_error(monkeypatch):
    def fail(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConfigurationError, match="can't listen there, Name or service not known"):
        MonitoringServer("nowhere.example:9100")


def test_the_port_is_free_again_at_once(served):
    pages = served({"/page": fine})
    assert pages.ask("/page") == (200, "fine")
    again = MonitoringServer("127.0.0.1:0")
    again.start({"/page": fine})
    again.close()
    MonitoringServer(again.address).close()


def test_a_closed_server_does_not_wait_for_its_requests(served):
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(TIMEOUT)
        return fine()

    server = MonitoringServer("127.0.0.1:0")
    server.start({"/slow": slow})
    answers = []
    asking = threading.Thread(target=lambda: answers.append(Pages(server.address).ask("/slow")))
    asking.start()
    assert begun.wait(TIMEOUT)
    server.close()
    assert answers == []
    go_on.set()
    asking.join(TIMEOUT)
    assert answers == [(200, "fine")]


def test_a_request_beyond_the_most_at_once_is_cut_off(served, monkeypatch):
    monkeypatch.setattr("arbprov.instrumentation.server._MAX_THREADS", 1)
    pages = served({"/page": fine})
    with connect(pages) as first:
        # The first connection has the only thread until it is closed.
        wait_until(lambda: is_cut_off(pages))
        first.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        assert first.makefile("rb").read().endswith(b"fine\n")
    wait_until(lambda: not is_cut_off(pages))


def is_cut_off(pages):
    connection = http.client.HTTPConnection(pages.address, timeout=TIMEOUT)
    try:
        connection.request("GET", "/page")
        return connection.getresponse().read() != b"fine\n"
    except ConnectionError:
        return True
    finally:
        connection.close()


def test_a_silent_client_is_given_up(served, monkeypatch):
    monkeypatch.setattr("arbprov.instrumentation.server._TIMEOUT", 0.05)
    with connect(served({"/page": fine})) as silent:
        assert silent.recv(1) == b""


def test_a_client_that_hangs_up_disturbs_no_other(served):
    begun, go_on = threading.Event(), threading.Event()

    def large():
        begun.set()
        go_on.wait(TIMEOUT)
        return 200, TEXT, b"x" * 10_000_000

    pages = served({"/large": large, "/page": fine})
    with connect(pages) as client:
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        assert begun.wait(TIMEOUT)
    go_on.set()
    assert pages.ask("/page") == (200, "fine")


def test_a_connection_that_can_not_be_accepted_does_not_end_the_server(served, monkeypatch):
    accept, failures = socket.socket.accept, [OSError(errno.EMFILE, "Too many open files")]

    def fail_once(listener):
        if failures:
            raise failures.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fail_once)
    assert served({"/page": fine}).ask("/page") == (200, "fine")
    assert failures == []
