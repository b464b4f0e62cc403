"""What is wrong when TLS to the hub fails; gRPC itself only says that it can't connect."""

from __future__ import annotations

import socket
import ssl

from arbprov.wire.tls import Tls

__all__ = ["explain_tls", "speaks_tls"]

_PATIENCE = 2.0

# What gRPC's details say, in its releases from 1.65 to 1.85, and what that means; of several
# texts, the first one counts.
_PLAINTEXT = (
    "it speaks no TLS, and this provider does: write grpc:// in HUB_GRPC_URL and remove "
    "HUB_GRPC_TLS*, or have the hub speak TLS"
)
_EXPIRED = "its certificate has expired: renew it"
_UNKNOWN_CA = (
    "its certificate is signed by no CA that is known here, or has expired: set HUB_GRPC_TLS_CA "
    "to the file of its CA"
)
_WRONG_NAME = (
    "its certificate is for another host name: correct the one in HUB_GRPC_URL, or set "
    "HUB_GRPC_TLS_SERVER_NAME to one that the certificate has"
)
_NO_GRPC = "it speaks TLS, but no gRPC: is HUB_GRPC_URL right?"
_MEANINGS = {
    "WRONG_VERSION_NUMBER": _PLAINTEXT,
    "certificate has expired": _EXPIRED,
    "CERTIFICATE_VERIFY_FAILED": _UNKNOWN_CA,
    "Hostname Verification Check failed": _WRONG_NAME,
    "is not in peer certificate": _WRONG_NAME,
    "missing selected ALPN property": _NO_GRPC,
}
_CLOSED = ("Socket closed", "Connection reset")
_WITHOUT_CERTIFICATE = (
    "it closed the connection after the TLS handshake, as a hub does that wants to see a client "
    "certificate: set HUB_GRPC_TLS_CERT and HUB_GRPC_TLS_KEY"
)
_WITH_CERTIFICATE = (
    "it closed the connection after the TLS handshake, as a hub does that does not trust the "
    "client certificate: is HUB_GRPC_TLS_CERT right?"
)


def explain_tls(details: str, tls: Tls | None) -> str:
    """Return what gRPC's details of a failed connection mean, where that is about TLS."""
    if tls is None or "failed to connect" not in details:
        return ""
    for text, meaning in _MEANINGS.items():
        if text in details:
            return meaning
    if any(text in details for text in _CLOSED):
        return _WITH_CERTIFICATE if tls.certificate else _WITHOUT_CERTIFICATE
    return ""


def speaks_tls(target: str) -> bool:
    """Return whether what listens at ``host:port`` speaks TLS; this may take some seconds.

    gRPC's details do not tell: to a plaintext connection, TLS just closes.
    """
    host, _, port = target.rpartition("/")[2].rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection,
            _trusting().wrap_socket(connection),
        ):
            return True
    except ssl.SSLError as error:
        # To refuse us in TLS is to speak it.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _trusting() -> ssl.SSLContext:
    """Return what trusts anybody: nothing is ever sent there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
