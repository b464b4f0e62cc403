"""Whether and where the bundled hub serves HTTP."""

from __future__ import annotations

import json
import socket

import pytest

from arbprov.cli import hub_http
from arbprov.cli.hub_http import describe_addresses, find_http_address, start_dev_hub
from arbprov.errors import ConfigurationError
from arbprov.localhub import Client


@pytest.fixture
def taken():
    """The address of a port where another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def free():
    """The address of a port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture
def without_extra(monkeypatch):
    monkeypatch.setattr(hub_http, "has_http_extra", lambda: False)


def test_http_is_served_by_default_if_the_extra_is_installed():
    assert find_http_address(None) == "127.0.0.1:50080"
    assert find_http_address("127.0.0.1:8000") == "127.0.0.1:8000"
    assert find_http_address("none") is None


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_only_an_address_is_an_error():
    assert find_http_address(None) is find_http_address("none") is None
    with pytest.raises(ConfigurationError, match=r"--http needs the extra \[hub\]: pip install 'a"):
        find_http_address("127.0.0.1:8000")


def test_the_hub_serves_http_and_prints_its_url(start):
    hub = start("hub", "--address", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    printed = json.loads(hub.stdout.readline())
    assert printed["http"].startswith("http://127.0.0.1:")
    with Client(printed["http"], printed["token"]) as client:
        assert list(client.list()) == []


def test_the_hub_says_where_it_serves_http(start):
    hub = start("hub", "--address", "127.0.0.1:0", "--http", "127.0.0.1:0")
    line = hub.stderr.readline()
    assert " and http://127.0.0.1:" in line
    assert len(line) <= 80 + len("\n")


def test_the_hub_of_dev_serves_http(free, monkeypatch, capsys):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", free)
    hub = start_dev_hub()
    try:
        assert describe_addresses(hub) == [
            f"The hub listens on {hub.address} and http://{free}; Ctrl-C ends it."
        ]
        with Client(hub.http_address, hub.token) as client:
            assert list(client.list()) == []
    finally:
        hub.stop()
    assert capsys.readouterr().err == ""


def test_the_hub_of_dev_goes_on_without_http_if_the_port_is_taken(taken, monkeypatch, capsys):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", taken)
    hub = start_dev_hub()
    try:
        assert describe_addresses(hub) == [f"The hub listens on {hub.address}; Ctrl-C ends it."]
    finally:
        hub.stop()
    assert (
        f"Another program listens on {taken}, so this hub has no HTTP." in capsys.readouterr().err
    )


def test_the_hub_of_dev_can_not_go_on_without_its_own_port(taken, free, monkeypatch):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", free)
    with pytest.raises(ConfigurationError, match=f"the hub can't listen on {taken}"):
        start_dev_hub(address=taken)


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_a_hub_says_how_to_get_the_rest():
    hub = start_dev_hub()
    try:
        assert describe_addresses(hub) == [
            f"The hub listens on {hub.address}; Ctrl-C ends it.",
            "For `arbprov tasks` and the HTTP API: pip install 'arbprov[hub]'",
        ]
    finally:
        hub.stop()
