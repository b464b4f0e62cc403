"""What a connector's calls of an HTTP API need: tokens that are refreshed once."""

from arbprov.http.tokens import Token, TokenCache

__all__ = ["Token", "TokenCache"]
