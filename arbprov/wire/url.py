"""Parses the hub's URL. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Endpoint", "parse_hub_url"]

_FORMS = "write host:port, grpc://host:port, grpcs://host:port for TLS, or unix:path"
_USES_TLS = {"grpc": False, "grpcs": True}
_SOCKET_SCHEMES = ("unix:", "unix-abstract:")
# Schemes that gRPC resolves by itself.
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:")
_HOST = r"\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]?#]+"


class Endpoint(NamedTuple):
    """A hub's address.

    Attributes:
        target: The address in gRPC's notation.
        tls: Whether the URL asks for TLS; None if it does not say.
    """

    target: str
    tls: bool | None


def parse_hub_url(url: str) -> Endpoint:
    """Return the address in a hub's URL.

    Raises:
        ValueError: The URL is not valid; the message begins with a verb, to follow the URL.

    >>> parse_hub_url("grpcs://hub.example.org:50051")
    Endpoint(target='hub.example.org:50051', tls=True)
    """
    text = url.strip()
    if text.startswith(_SOCKET_SCHEMES):
        if not text.partition(":")[2].strip("/"):
            raise ValueError(f"names no path; {_FORMS}")
        return Endpoint(text, False)
    if text.startswith(_GRPC_SCHEMES):
        if not re.search(r":[0-9]+$", text):
            raise ValueError(f"has no port, as in {text}:50051")
        return Endpoint(text, None)
    scheme, separator, rest = text.rpartition("://")
    scheme = scheme.lower()
    if separator and scheme not in _USES_TLS:
        raise ValueError(f"has the unknown scheme {scheme}://; {_FORMS}")
    target = rest.removesuffix("/") if separator else text
    match = re.fullmatch(rf"({_HOST})(:(?P<port>[0-9]+))?", target)
    if match is None:
        raise ValueError(f"is not the address of a hub; {_FORMS}")
    if match["port"] is None:
        raise ValueError(f"has no port, as in {target}:50051")
    if not 0 < int(match["port"]) < 2**16:
        raise ValueError("has a port that is not from 1 to 65535")
    return Endpoint(target, _USES_TLS.get(scheme))
