"""Which calls go through an HTTP proxy."""

from __future__ import annotations

import pytest

from arbprov.wire.proxies import find_proxy, is_local, split_target
from arbprov.wire.tls_diagnosis import speaks_tls

PROXY = {"http_proxy": "http://proxy:3128"}


LOCAL = [
    "127.0.0.1:1",
    "127.1.2.3:1",
    "localhost:1",
    "LOCALHOST.:1",
    "hub.localhost:1",
    "[::1]:1",
    "[::ffff:127.0.0.1]:1",
    "0.0.0.0:1",
    "[::]:1",
    "dns:///localhost:1",
    "dns:localhost:1",
    "ipv4:127.0.0.1:1",
    "ipv4:127.0.0.1:1,127.0.0.1:2",
    "ipv6:[::1]:1",
    "unix:/run/hub.sock",
    "unix-abstract:hub",
]
REMOTE = ["hub:1", "10.0.0.1:1", "[fe80::1]:1", "127.0.0.1.hub:1"]


@pytest.mark.parametrize("target", LOCAL)
def test_an_address_on_this_machine_is_local(target):
    assert is_local(target)


@pytest.mark.parametrize("target", REMOTE)
def test_another_address_is_not_local(target):
    assert not is_local(target)


@pytest.mark.parametrize("target", LOCAL)
def test_a_local_address_has_no_proxy(target):
    assert find_proxy(target, PROXY) == ""


@pytest.mark.parametrize("target", REMOTE)
def test_another_address_has_a_proxy(target):
    assert find_proxy(target, PROXY) == "proxy:3128 (http_proxy)"


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"http_proxy": ""}, ""),
        ({"HTTP_PROXY": "http://proxy:1"}, ""),
        (PROXY | {"https_proxy": "http://other:1"}, "other:1 (https_proxy)"),
        (PROXY | {"grpc_proxy": "http://other:1/"}, "other:1 (grpc_proxy)"),
        (PROXY | {"no_proxy": "example.org, 10.0.0.0/8,"}, ""),
        (PROXY | {"no_proxy": "11.0.0.0/8"}, "proxy:3128 (http_proxy)"),
        (PROXY | {"no_grpc_proxy": "other", "no_proxy": "10.0.0.1"}, "proxy:3128 (http_proxy)"),
        ({"http_proxy": "http://me:p%40ss@proxy:1"}, "proxy:1 (http_proxy)"),
    ],
)
def test_the_environment_decides(environ, proxy):
    assert find_proxy("10.0.0.1:1", environ) == proxy


def test_a_name_s_ending_is_an_exception():
    assert find_proxy("hub.example.org:1", PROXY | {"no_proxy": ".Example.org"}) == ""


def test_a_socket_has_no_port():
    assert split_target("unix:late.sock") is None


@pytest.mark.parametrize("target", ["unix:late.sock", "dns:hub:99999", f"{'x' * 300}:1"])
def test_an_address_that_nothing_can_listen_at_does_not_speak_tls(target):
    assert not speaks_tls(target)
