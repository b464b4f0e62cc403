"""Valid and invalid URLs of a hub."""

from __future__ import annotations

import pytest

from arbprov.wire.url import Endpoint, parse_hub_url


@pytest.mark.parametrize(
    ("url", "target", "tls"),
    [
        ("hub:50051", "hub:50051", None),
        (" hub:50051\n", "hub:50051", None),
        ("10.0.0.1:1", "10.0.0.1:1", None),
        ("[::1]:65535", "[::1]:65535", None),
        ("grpc://hub:1", "hub:1", False),
        ("grpcs://hub:1", "hub:1", True),
        ("GRPCS://hub:1/", "hub:1", True),
        ("unix:/run/hub.sock", "unix:/run/hub.sock", False),
        ("unix:///run/hub.sock", "unix:///run/hub.sock", False),
        ("unix-abstract:hub", "unix-abstract:hub", False),
        ("dns:///hub:1", "dns:///hub:1", None),
        ("ipv4:10.0.0.1:1", "ipv4:10.0.0.1:1", None),
    ],
)
def test_a_url_that_says_where_a_hub_is(url, target, tls):
    assert parse_hub_url(url) == Endpoint(target, tls)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://hub:1", "has the unknown scheme http://"),
        ("https://hub", "has the unknown scheme https://"),
        ("hub", "has no port, as in hub:50051"),
        ("[::1]", r"has no port, as in \[::1\]:50051"),
        ("grpcs://hub", "has no port, as in hub:50051"),
        ("dns:///hub", "has no port, as in dns:///hub:50051"),
        ("hub:0", "has a port that is not from 1 to 65535"),
        ("hub:65536", "has a port that is not from 1 to 65535"),
        ("hub:port", "is not the address of a hub"),
        ("::1:50051", "is not the address of a hub"),
        ("grpc://hub:1/path", "is not the address of a hub"),
        ("grpc://me:secret@hub:1", "is not the address of a hub"),
        ("hub one:1", "is not the address of a hub"),
        ("grpcs://", "is not the address of a hub"),
        ("", "is not the address of a hub"),
        ("unix:", "names no path"),
        ("unix://", "names no path"),
    ],
)
def test_a_url_where_no_hub_can_be(url, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}"):
        parse_hub_url(url)


def test_the_error_for_a_wrong_url_lists_the_valid_forms():
    with pytest.raises(ValueError, match="; write host:port, grpc://host:port, grpcs://"):
        parse_hub_url("http://hub:1")
