"""The token of the bundled hub, as its commands find it."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click
from click.core import ParameterSource

from arbprov.cli.options import check
from arbprov.cli.state_folder import find_state_folder, make_state_folder
from arbprov.errors import AuthenticationError, ConfigurationError, HubConnectionError
from arbprov.wire.tokens import TokenFile, check_token

__all__ = [
    "HubToken",
    "explaining_refusal",
    "hub_token_options",
    "make_hub_token",
    "read_hub_token",
]

_FILE_NAME = "hub-token"


@attrs.frozen
class HubToken:
    """The hub's token, and where it is from.

    Attributes:
        value: The token; empty if neither an option nor a variable gives it.
        origin: What gave it, for errors: an option, a variable, or a file.
        file: The file that has it; None for a token that is not from a file.
    """

    value: str = attrs.field(default="", repr=False)
    origin: str = ""
    file: Path | None = None

    @property
    def is_made_here(self) -> bool:
        """Whether it is the token that a hub of this user has made."""
        return self.file == _token_path()

    def call_options(self) -> list[str]:
        """Return the options that `arbprov call` needs in another terminal to find the token."""
        if self.file is None:
            return ['--token "$ARBPROV_HUB_TOKEN"']
        if self.is_made_here:
            return []
        return [f"--token-file {shlex.quote(str(self.file))}"]


def hub_token_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--token`` and ``--token-file`` to a command, which gets a `HubToken` as `token`.

    Without these options and their variables, the token is empty; `make_hub_token` and
    `read_hub_token` return that of the state folder then.
    """

    @click.option(
        "--token-file",
        envvar="ARBPROV_HUB_TOKEN_FILE",
        metavar="PATH",
        show_envvar=True,
        help="A file with the hub's token.  [default: the file that `arbprov hub` made]",
    )
    @click.option(
        "--token",
        envvar="ARBPROV_HUB_TOKEN",
        metavar="TOKEN",
        show_envvar=True,
        callback=check(lambda value: value is None or value.strip(), "must not be blank"),
        help="The hub's token; every user of this machine can see it in the list of processes.",
    )
    @functools.wraps(function)
    def command(*arguments: Any, token: str | None, token_file: str | None, **options: Any) -> Any:
        return function(*arguments, token=_find_token(token, token_file), **options)

    return command


def _find_token(token: str | None, token_file: str | None) -> HubToken:
    """Return the token that options or variables give; an empty one if they give none.

    Raises:
        ConfigurationError: The token is not one line of text, or its file cannot be read.
    """
    source_of = click.get_current_context().get_parameter_source
    given = [
        name for name in ("token", "token_file") if source_of(name) is ParameterSource.COMMANDLINE
    ]
    if len(given) == 2:
        raise click.UsageError("--token and --token-file exclude each other")
    if token is not None and given != ["token_file"]:
        origin = "--token" if given else "ARBPROV_HUB_TOKEN"
        return HubToken(check_token(token, origin), origin)
    if token_file is not None:
        origin = "--token-file" if given else "ARBPROV_HUB_TOKEN_FILE"
        text = check_token(TokenFile(origin, token_file)(), token_file)
        return HubToken(text, token_file, Path(token_file).absolute())
    return HubToken()


def read_hub_token(token: HubToken) -> HubToken:
    """Return the token for a hub of this user: the given token, or the state folder's.

    Raises:
        HubConnectionError: There is none, since no hub has run here.
        ConfigurationError: The token's file cannot be read, or has no token that can be used.
    """
    if token.value:
        return token
    path = _token_path()
    if not path.exists():
        raise HubConnectionError(
            f"there is no token in {path}, where `arbprov hub` and `arbprov dev` make one: start "
            f"a hub, or set --token-file or ARBPROV_HUB_TOKEN to the hub's token"
        )
    try:
        text = check_token(TokenFile("the hub's token", str(path))(), str(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; remove this file, and the next hub makes one") from None
    return HubToken(text, str(path), path)


def make_hub_token(token: HubToken) -> HubToken:
    """Return a hub's own token: the given token, or the state folder's, made if need be.

    Raises:
        ConfigurationError: The token's file cannot be read or written, or has no token that can be
            used.
    """
    if token.value or _token_path().exists():
        return read_hub_token(token)
    path = make_state_folder() / _FILE_NAME
    try:
        # Complete before it has its name, since other commands may read it at any time. The file's
        # mode is 0600.
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
            print(secrets.token_urlsafe(24), file=file, flush=True)
            # Another hub may have been faster; its token is that of both then.
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    except OSError as error:
        raise ConfigurationError(
            f"can't write the hub's token into {path}: {error.strerror}; "
            f"set --token-file or ARBPROV_HUB_TOKEN"
        ) from None
    return read_hub_token(token)


def _token_path() -> Path:
    return find_state_folder() / _FILE_NAME


@contextlib.contextmanager
def explaining_refusal(token: HubToken) -> Iterator[None]:
    """Add to a hub's refusal where the token is from."""
    try:
        yield
    except AuthenticationError as error:
        raise AuthenticationError(f"{error}; the token is from {token.origin}") from None
