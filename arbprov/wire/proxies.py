"""HTTP proxies between a provider and its hub: which calls use one, and its own answers."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping

__all__ = ["find_proxy", "http_status", "is_local", "is_local_host", "split_target"]

# In gRPC's order.
_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_SOCKETS = ("unix:", "unix-abstract:")
_RESOLVERS = ("dns:", "ipv4:", "ipv6:")
# gRPC's details of an answer that has no gRPC status, so that it is not the hub's.
_NOT_GRPC = re.compile(r"Received http2 (?::status )?header with status: (\d{3})")


def http_status(details: str) -> str:
    """Return the HTTP status in gRPC's details of a call, if no gRPC server has answered it.

    A proxy answers so when it refuses a call, or cannot reach the hub. gRPC makes a status of its
    own from it, which must not be taken for the hub's.

    >>> http_status("Received http2 header with status: 403")
    '403'
    >>> http_status("the hub says no")
    ''
    """
    match = _NOT_GRPC.search(details)
    return match[1] if match else ""


def split_target(target: str) -> tuple[str, int] | None:
    """Return host and port of an address in gRPC's notation; None for a socket in the file system.

    >>> split_target("dns:///hub.example.org:50051")
    ('hub.example.org', 50051)
    >>> split_target("unix:/run/hub.sock") is None
    True
    """
    if target.startswith(_SOCKETS):
        return None
    for scheme in _RESOLVERS:
        target = target.removeprefix(scheme)
    host, _, port = target.rpartition("/")[2].partition(",")[0].rpartition(":")
    return host.strip("[]"), int(port)


def is_local(target: str) -> bool:
    """Return whether an address in gRPC's notation is on this machine.

    >>> is_local("localhost:50051"), is_local("[::1]:50051"), is_local("hub:50051")
    (True, True, False)
    """
    address = split_target(target)
    return address is None or is_local_host(address[0])


def is_local_host(host: str) -> bool:
    """Return whether a host's name or address, without brackets, is that of this machine.

    >>> is_local_host("LOCALHOST."), is_local_host("127.0.0.2"), is_local_host("hub")
    (True, True, False)
    """
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified


def find_proxy(target: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the proxy that gRPC uses for an address, and its variable; empty if it uses none.

    Args:
        target: The address, in gRPC's notation.
        environ: The environment; the process's own by default.

    >>> find_proxy("hub:50051", {"http_proxy": "http://user:secret@proxy:3128/"})
    'proxy:3128 (http_proxy)'
    >>> find_proxy("hub:50051", {"http_proxy": "http://proxy:3128", "no_proxy": "hub"})
    ''
    """
    environ = os.environ if environ is None else environ
    address = split_target(target)
    if address is None or is_local(target):
        return ""
    variable = next((name for name in _VARIABLES if environ.get(name)), "")
    exceptions = next((found for name in _EXCEPTIONS if (found := environ.get(name))), "")
    if not variable or any(_matches(address[0], name.strip()) for name in exceptions.split(",")):
        return ""
    # Without user and password.
    proxy = environ[variable].rpartition("://")[2].rpartition("@")[2].partition("/")[0]
    return f"{proxy} ({variable})"


def _matches(host: str, exception: str) -> bool:
    if not exception:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        return host.lower().endswith(exception.lower())
