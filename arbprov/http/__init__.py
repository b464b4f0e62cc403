"""What a connector's calls of an HTTP API need: limits for each request, and tokens.

`LimitedTransport` here is for httpx; that of `arbprov.http.httpx2` is for httpx2.
"""

from typing import TYPE_CHECKING

from arbprov.http.locks import LockError
from arbprov.http.tokens import Token, TokenCache, TokenError

if TYPE_CHECKING:
    from arbprov.http.httpx import LimitedTransport
else:

    def __getattr__(name: str) -> object:
        """Import what needs httpx only when it is used."""
        if name != "LimitedTransport":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from arbprov.http.httpx import LimitedTransport
        except ModuleNotFoundError as error:
            if error.name != "httpx":
                raise
            from arbprov.errors import ConfigurationError

            raise ConfigurationError(
                'LimitedTransport needs the package httpx: pip install "arbprov[http]"; for '
                "httpx2, import it from arbprov.http.httpx2"
            ) from None
        return LimitedTransport


__all__ = ["LimitedTransport", "LockError", "Token", "TokenCache", "TokenError"]
