"""What systemd is told, over a real socket."""

from __future__ import annotations

import socket

import pytest
from support.waiting import TIMEOUT

from arbprov import ProviderApp
from arbprov.instrumentation.systemd import SystemdNotifier, make_notifier
from arbprov.testing import serving


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A socket as systemd has it, named by the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(TIMEOUT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_a_provider_tells_that_it_is_ready_lives_and_stops(systemd, hub):
    app = ProviderApp("service")
    heard = []
    with serving(app, hub, stop_within=TIMEOUT):
        while "READY=1" not in heard:
            heard += systemd.recv(1000).decode().split("\n")
        assert set(heard) == {"READY=1", "WATCHDOG=1"}
    while "STOPPING=1" not in heard:
        heard += systemd.recv(1000).decode().split("\n")
    assert (heard.count("READY=1"), heard.count("STOPPING=1")) == (1, 1)


def test_a_provider_that_is_not_alive_gives_no_sign_of_life(systemd):
    notifier = make_notifier()
    notifier.tell(has_started=True, is_draining=False, is_alive=False)
    notifier.tell(has_started=True, is_draining=False, is_alive=False)
    notifier.tell(has_started=True, is_draining=True, is_alive=True)
    systemd.setblocking(False)
    assert [systemd.recv(1000) for _ in range(2)] == [b"READY=1", b"STOPPING=1\nWATCHDOG=1"]
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


def test_a_systemd_that_is_gone_is_not_an_error(tmp_path):
    notifier = SystemdNotifier(str(tmp_path / "nothing"))
    notifier.tell(has_started=True, is_draining=False, is_alive=True)


def test_an_abstract_socket_is_found():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0arbprov-tests-notify")
        receiver.settimeout(TIMEOUT)
        notifier = SystemdNotifier("@arbprov-tests-notify")
        notifier.tell(has_started=True, is_draining=False, is_alive=False)
        assert receiver.recv(1000) == b"READY=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_without_a_unix_socket_nothing_is_told(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert make_notifier() is None
