"""Where the hub's API is, and the token for it: by arguments or the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from arbprov.errors import ConfigurationError
from arbprov.wire.tokens import TokenFile, check_token

__all__ = ["DEFAULT_URL", "TOKEN", "URL", "find_base_url", "find_token"]

DEFAULT_URL = "http://127.0.0.1:50080"
URL = "ARBPROV_HUB_HTTP"
TOKEN = "ARBPROV_HUB_TOKEN"  # noqa: S105 - the variable's name


def find_base_url(
    given: str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    origin: str = "base_url=",
) -> str:
    """Return the address of the hub's API, without a slash at its end.

    Args:
        given: The address, as a URL or ``HOST:PORT``; by default, that of the environment.
        environ: The environment.
        origin: What gave the address, for errors.

    Raises:
        ConfigurationError: The address is not valid.

    >>> find_base_url("127.0.0.1:8080"), find_base_url(environ={})
    ('http://127.0.0.1:8080', 'http://127.0.0.1:50080')
    """
    origin, url = (origin, given) if given is not None else (URL, environ.get(URL))
    if url is None:
        return DEFAULT_URL
    full = (url if "://" in url else f"http://{url}").strip().rstrip("/")
    try:
        parts = urlsplit(full)
        is_valid = bool(parts.scheme in ("http", "https") and parts.hostname) and parts.port != 0
        # What the parser accepts, the network may not.
        (parts.hostname or "").encode("idna")
        is_valid = is_valid and full.isprintable()
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or parts.username is not None:
        # What is before an @ may be a password.
        shown = f"{origin} {url!r}" if "@" not in url else f"{origin} with an @ in it"
        raise ConfigurationError(
            f"{shown} is not the address of a hub's HTTP API; write an address such as "
            f"{DEFAULT_URL}"
        )
    return full


def find_token(given: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the token for the hub.

    Args:
        given: The token; by default, that of ``ARBPROV_HUB_TOKEN`` or, from a file, of
            ``ARBPROV_HUB_TOKEN_FILE``.
        environ: The environment.

    Raises:
        ConfigurationError: There is no token, its file cannot be read, or it is unprintable.

    >>> find_token(environ={"ARBPROV_HUB_TOKEN": "sample-token"})
    'sample-token'
    """
    origin, token = ("token=", given) if given is not None else (TOKEN, environ.get(TOKEN))
    if token is None:
        origin = f"{TOKEN}_FILE"
        if (path := environ.get(origin)) is None:
            raise ConfigurationError(
                f"there is no token for the hub: pass token=, or set {TOKEN} or {TOKEN}_FILE"
            )
        token = TokenFile(origin, path)()
    # Checked here, since the error of an HTTP client would show the token.
    return check_token(token, origin)
