"""Where a hub is: reading what people write as its URL. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Endpoint", "parse_hub_url"]

_FORMS = "write host:port, grpc://host:port, grpcs://host:port for TLS, or unix:path"
# Whether a scheme means TLS.
_SCHEMES = {"grpc": False, "grpcs": True}
_LOCAL = ("unix:", "unix-abstract:")
# What gRPC itself resolves.
_RESOLVED = ("dns:", "ipv4:", "ipv6:")
_HOST_AND_PORT = r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]?#]+):(?P<port>[0-9]+)"


class Endpoint(NamedTuple):
    """A hub's place.

    Attributes:
        target: What gRPC connects to.
        tls: Whether the URL asks for TLS; None if it does not say.
    """

    target: str
    tls: bool | None


def parse_hub_url(url: str) -> Endpoint:
    """Return where a hub is.

    Raises:
        ValueError: It can't be there; the message begins with a verb.
    """
    text = url.strip()
    if text.startswith(_LOCAL):
        return _local(text)
    if text.startswith(_RESOLVED):
        return _resolved(text)
    scheme, separator, rest = text.rpartition("://")
    scheme = scheme.lower()
    if separator and scheme not in _SCHEMES:
        raise ValueError(f"has the scheme {scheme}://, which is none of a hub's; {_FORMS}")
    place = rest.removesuffix("/") if separator else text
    return Endpoint(_checked(place), _SCHEMES.get(scheme))


def _local(text: str) -> Endpoint:
    if not text.partition(":")[2].strip("/"):
        raise ValueError(f"names no path; {_FORMS}")
    return Endpoint(text, False)


def _resolved(text: str) -> Endpoint:
    if not re.search(r":[0-9]+$", text):
        raise ValueError(f"has no port, as in {text}:50051")
    return Endpoint(text, None)


def _checked(place: str) -> str:
    match = re.fullmatch(_HOST_AND_PORT, place)
    if match and 0 < int(match["port"]) < 2**16:
        return place
    if match:
        raise ValueError("has a port that is not from 1 to 65535")
    if re.fullmatch(r"[^\s:/@\[\]?#]+|\[[0-9A-Fa-f:.%]+\]", place):
        raise ValueError(f"has no port, as in {place}:50051")
    raise ValueError(f"is no address of a hub; {_FORMS}")
