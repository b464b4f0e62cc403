"""Whether and where the bundled hub serves HTTP."""

from __future__ import annotations

import json

import pytest

from arbprov.cli import hub_http
from arbprov.cli.hub_http import find_http_address
from arbprov.errors import ConfigurationError
from arbprov.localhub import Client


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


def test_the_hub_says_where_its_page_is(start):
    hub = start("hub", "--address", "127.0.0.1:0", "--http", "127.0.0.1:0")
    lines = [hub.stderr.readline() for _ in range(2)]
    assert lines[1].startswith("Its page: http://127.0.0.1:")
