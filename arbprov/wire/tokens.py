"""The hub's token: from a string, a file or a function, and read again when the hub refuses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from arbprov.errors import ConfigurationError

__all__ = ["Token", "TokenFile", "TokenSource", "check_token"]

TokenSource = str | Callable[[], str]

# Bounds memory and redaction time: every known token is searched for in every error.
_MAX_KNOWN = 100


def check_token(token: str, origin: str) -> str:
    """Return a token, without the white space around it, that each HTTP client can send.

    Args:
        token: The token.
        origin: What gave it, for errors, which do not show the token.

    Raises:
        ConfigurationError: It is blank, or has a line break or another unprintable character.

    >>> check_token(" sample-token ", "--token")
    'sample-token'
    """
    text = token.strip()
    if not text:
        raise ConfigurationError(f"{origin} is blank; set it to the hub's token, or remove it")
    if not text.isprintable():
        raise ConfigurationError(
            f"{origin}: the token has a line break or another unprintable character; a token is "
            f"one line of text"
        )
    return text


@attrs.frozen
class TokenFile:
    """A file that contains the token and may be replaced at any time.

    Args:
        origin: The setting that names the file, for errors.
        path: Path of the file.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w") as file:
    ...     print("sample-token", file=file, flush=True)
    ...     TokenFile("PROVIDER_AUTH_TOKEN_FILE", file.name)()
    'sample-token'
    """

    origin: str
    path: str

    def __call__(self) -> str:
        """Read the file; return the token without the white space around it.

        Raises:
            ConfigurationError: The file cannot be read, or is blank.
        """
        from pathlib import Path

        if not self.path.strip():
            raise ConfigurationError(f"{self.origin} is blank; set it to a path, or remove it")
        try:
            text = Path(self.path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.origin}: {self.path} can't be read: {error}") from None
        if not text:
            raise ConfigurationError(f"{self.origin}: there is no token in {self.path}")
        return text


class Token:
    """The current token, and earlier ones: iterating yields every known token, for redaction.

    Args:
        source: The token itself, or a function that returns it.

    >>> tokens = iter(["old", "new"])
    >>> token = Token(lambda: next(tokens))
    >>> token.read(), token.read(), token.current
    ('old', 'new', 'new')
    >>> list(token)
    ['old', 'new']
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._known: tuple[str, ...] = ()

    @property
    def current(self) -> str:
        """The token that was read last."""
        return self._known[-1]

    def __iter__(self) -> Iterator[str]:
        # A tuple that is replaced as a whole: any thread may iterate.
        return iter(self._known)

    def read(self) -> str:
        """Read the source; its token is the current token from now on.

        Returns:
            The token.

        Raises:
            ConfigurationError: The source has no token.
        """
        token = self._source if isinstance(self._source, str) else _call(self._source)
        older = [known for known in self._known if known != token]
        self._known = (*older[-_MAX_KNOWN + 1 :], token)
        return token


def _call(source: Callable[[], str]) -> str:
    name = getattr(source, "__qualname__", type(source).__name__)
    try:
        token = source()
    except ConfigurationError:
        raise
    except Exception as error:
        # Without the error's text: it may contain secrets. The cause is kept for debugging.
        raise ConfigurationError(
            f"auth_token={name} raised {type(error).__name__} instead of returning a token"
        ) from error
    if not isinstance(token, str) or not token.strip():
        raise ConfigurationError(
            f"auth_token={name} must return a string that is not blank, not {type(token).__name__}"
        )
    return token.strip()
