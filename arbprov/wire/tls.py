"""TLS settings for the hub, loaded from PEM files and checked before the first connection."""

from __future__ import annotations

from pathlib import Path

import attrs

from arbprov.errors import ConfigurationError

__all__ = ["Tls", "load_tls"]

_CA = "HUB_GRPC_TLS_CA (hub_tls_ca=)"
_CERT = "HUB_GRPC_TLS_CERT (hub_tls_cert=)"
_KEY = "HUB_GRPC_TLS_KEY (hub_tls_key=)"


@attrs.frozen
class Tls:
    """TLS settings for a hub; the files' contents, in PEM form.

    Args:
        ca: CA certificates that may sign the hub's certificate; None for gRPC's own list of CAs.
        certificate: This provider's certificate, for mutual TLS.
        key: Private key of `certificate`.
        server_name: Host name in the hub's certificate; empty for the URL's host name.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = attrs.field(default=None, repr=False)
    server_name: str = ""


def load_tls(*, ca: str, certificate: str, key: str, server_name: str) -> Tls:
    """Load PEM files and check them: gRPC would only say that it cannot connect.

    Args:
        ca: Path of the CA certificates; empty for gRPC's own list of CAs.
        certificate: Path of this provider's certificate; empty for none.
        key: Path of its private key, which must have no password; empty for none.
        server_name: Host name in the hub's certificate; empty for the URL's host name.

    Raises:
        ConfigurationError: A file cannot be used; the message names the setting.

    >>> load_tls(ca="", certificate="", key="", server_name="hub.example.org")
    Tls(ca=None, certificate=None, server_name='hub.example.org')
    """
    import ssl

    if bool(certificate) != bool(key):
        given, missing = (_CERT, _KEY) if certificate else (_KEY, _CERT)
        raise ConfigurationError(f"{given} is set without {missing}; set both or neither")
    tls = Tls(_read(_CA, ca), _read(_CERT, certificate), _read(_KEY, key), server_name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca:
            context.load_verify_locations(ca)
    except ssl.SSLError:
        raise ConfigurationError(f"{_CA}: {ca} contains no certificate in PEM form") from None
    try:
        if certificate:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{_CERT} and {_KEY}: {certificate} and {key} are not a certificate and its private "
            f"key in PEM form without a password: {error.reason}"
        ) from None
    return tls


def _read(setting: str, path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} can't be read: {error}") from None
