"""What TLS to the hub needs."""

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
    """What TLS to a hub needs; the texts of PEM files.

    Args:
        ca: Who signs the hub's certificate; None stands for the CAs that gRPC knows.
        certificate: Of this provider, for mutual TLS.
        key: Its private key.
        server_name: The host name in the hub's certificate; empty if it is that of the URL.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = attrs.field(default=None, repr=False)
    server_name: str = ""


def load_tls(*, ca: str, certificate: str, key: str, server_name: str) -> Tls:
    """Return what TLS needs, from the paths of PEM files; an empty path is none.

    Raises:
        ConfigurationError: A file can't be used; the message names the setting.
    """
    if bool(certificate) != bool(key):
        given, missing = (_CERT, _KEY) if certificate else (_KEY, _CERT)
        raise ConfigurationError(f"{given} is given without {missing}; they need each other")
    files = Tls(_read(_CA, ca), _read(_CERT, certificate), _read(_KEY, key), server_name)
    _check(ca, certificate, key)
    return files


def _read(setting: str, path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} can't be read: {error}") from None


def _check(ca: str, certificate: str, key: str) -> None:
    """Find what is wrong with the files; gRPC itself would only say that it can't connect."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca:
            context.load_verify_locations(ca)
    except ssl.SSLError:
        raise ConfigurationError(f"{_CA}: there is no certificate in PEM form in {ca}") from None
    try:
        if certificate:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{_CERT} and {_KEY}: {certificate} and {key} are no certificate and its private key "
            f"in PEM form, without a password: {error.reason}"
        ) from None
