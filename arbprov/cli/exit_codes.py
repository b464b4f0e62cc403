"""The exit code of each kind of error."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from arbprov.errors import (
    AuthenticationError,
    ConfigurationError,
    HubConnectionError,
    ProviderError,
)

__all__ = ["FINAL", "HUB_NEVER_REACHED", "ExitCodeGroup"]

# Named as in sysexits.h. Any other error is 1.
_CODES: dict[type[Exception], int] = {
    HubConnectionError: 69,  # EX_UNAVAILABLE
    AuthenticationError: 77,  # EX_NOPERM
    ConfigurationError: 78,  # EX_CONFIG
}
HUB_NEVER_REACHED = _CODES[HubConnectionError]
# The codes of errors that another start would run into again.
FINAL = {click.UsageError.exit_code, _CODES[AuthenticationError], _CODES[ConfigurationError]}


class ExitCodeGroup(click.Group):
    """A group of commands that turns arbprov's errors into messages and exit codes."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` name, and refuse arguments that are not text."""
        name, command, rest = super().resolve_command(ctx, args)
        for argument in rest:
            # Python keeps the bytes that it can't decode as lone surrogates.
            is_text = not any("\ud800" <= character <= "\udfff" for character in argument)
            if not is_text and not os.path.exists(argument.removeprefix("@")):
                assert command is not None
                raise click.UsageError(
                    f"the argument {argument!a} is not text in this system's encoding, "
                    f"{sys.getfilesystemencoding()}",
                    click.Context(command, info_name=name, parent=ctx),
                )
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ProviderError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(next((c for kind, c in _CODES.items() if isinstance(error, kind)), 1))
        except BrokenPipeError:
            # The reader has closed the pipe; flushing at exit must not fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(1)
