"""The hub's token: from a text, a file or a function, and read again when it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from arbprov.errors import ConfigurationError

__all__ = ["Token", "TokenFile", "TokenSource"]

TokenSource = str | Callable[[], str]

# A provider that runs for years may see many tokens, and each is looked for in each error.
_REMEMBERED = 100


@attrs.frozen
class TokenFile:
    """A token in a file, which may be replaced at any time.

    Args:
        origin: What has named the file, for errors.
        path: Where it is.
    """

    origin: str
    path: str

    def __call__(self) -> str:
        """Return what is in the file now, without the white space around it.

        Raises:
            ConfigurationError: It can't be read, or is blank.
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
    """The token that is in use, and all that were: iterating yields each, for redaction.

    Args:
        source: The token itself, or what returns it.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._known: tuple[str, ...] = ()

    @property
    def current(self) -> str:
        """The token that was read last."""
        return self._known[-1]

    def __iter__(self) -> Iterator[str]:
        # A tuple that is replaced as a whole, since any thread may look.
        return iter(self._known)

    def read(self) -> str:
        """Ask the source, and return the token that is current from now on.

        Raises:
            ConfigurationError: It has none.
        """
        token = self._source if isinstance(self._source, str) else _returned_by(self._source)
        others = [known for known in self._known if known != token]
        self._known = (*others[-_REMEMBERED + 1 :], token)
        return token


def _returned_by(source: Callable[[], str]) -> str:
    try:
        token = source()
    except ConfigurationError:
        raise
    except Exception as error:
        # Not its text, which may tell of secrets; the cause is there for who debugs.
        raise ConfigurationError(
            f"auth_token={_name(source)} has raised {type(error).__name__} instead of a token"
        ) from error
    if not isinstance(token, str) or not token.strip():
        raise ConfigurationError(
            f"auth_token={_name(source)} has to return a text that is not blank, "
            f"not {type(token).__name__}"
        )
    return token.strip()


def _name(source: Callable[[], str]) -> str:
    return getattr(source, "__qualname__", type(source).__name__)
