"""Explains a failed TLS connection to the hub: gRPC itself only says that it cannot connect."""

from __future__ import annotations

import socket
import ssl

from arbprov.wire.proxies import split_target
from arbprov.wire.tls import Tls

__all__ = ["explain_tls", "speaks_tls"]

_TIMEOUT = 2.0

_PLAINTEXT_HUB = (
    "it does not speak TLS, and this provider does: write grpc:// in HUB_GRPC_URL and remove "
    "HUB_GRPC_TLS*, or turn TLS on in the hub"
)
_EXPIRED = "its certificate has expired: renew it"
_UNKNOWN_CA = (
    "its certificate has expired, or its CA is not known here: set HUB_GRPC_TLS_CA to the file of "
    "the CA that signed it"
)
_WRONG_NAME = (
    "its certificate is for another host name: correct the host name in HUB_GRPC_URL, or set "
    "HUB_GRPC_TLS_SERVER_NAME to a host name in the certificate"
)
_NOT_GRPC = "it speaks TLS, but not gRPC: is HUB_GRPC_URL right?"
# Texts in gRPC's details, from gRPC 1.80 to 1.85. Order matters: the first match counts.
_EXPLANATIONS = {
    "WRONG_VERSION_NUMBER": _PLAINTEXT_HUB,
    "certificate has expired": _EXPIRED,
    "CERTIFICATE_VERIFY_FAILED": _UNKNOWN_CA,
    "Hostname Verification Check failed": _WRONG_NAME,
    "is not in peer certificate": _WRONG_NAME,
    "missing selected ALPN property": _NOT_GRPC,
}
_CLOSED = ("Socket closed", "Connection reset")
_MISSING_CERTIFICATE = (
    "it closed the connection after the TLS handshake, as a hub does that requires a client "
    "certificate: set HUB_GRPC_TLS_CERT and HUB_GRPC_TLS_KEY"
)
_UNTRUSTED_CERTIFICATE = (
    "it closed the connection after the TLS handshake, as a hub does that does not trust the "
    "client certificate: is HUB_GRPC_TLS_CERT right?"
)


def explain_tls(details: str, tls: Tls | None) -> str:
    """Return what a failed connection's details mean for TLS, and the fix; empty if unrelated.

    Args:
        details: The details of gRPC's error.
        tls: TLS settings of the connection; None for plaintext.

    >>> explain_tls("failed to connect to all addresses; certificate has expired", Tls())
    'its certificate has expired: renew it'
    """
    if tls is None or "failed to connect" not in details:
        return ""
    for text, explanation in _EXPLANATIONS.items():
        if text in details:
            return explanation
    if any(text in details for text in _CLOSED):
        return _UNTRUSTED_CERTIFICATE if tls.certificate else _MISSING_CERTIFICATE
    return ""


def speaks_tls(target: str) -> bool:
    """Return whether the server at a gRPC address speaks TLS; blocks for up to some seconds.

    A plaintext connection to a TLS server is just closed, so gRPC's details do not tell.

    >>> from arbprov.localhub import LocalHub
    >>> with LocalHub() as hub:
    ...     speaks_tls(hub.address)
    False
    """
    address = split_target(target)
    if address is None:
        return False
    # Trusts every server: nothing is ever sent over this connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(address, _TIMEOUT) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except ssl.SSLError as error:
        # A server that refuses the handshake with a TLS alert speaks TLS.
        return "ALERT" in (error.reason or "")
    except (OSError, UnicodeError, OverflowError):  # no such name or port can exist
        return False
