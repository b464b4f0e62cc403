"""The group of commands, each imported on demand, and the exit code of each kind of error."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

__all__ = ["BAD_CONFIGURATION", "FINAL", "HUB_NEVER_REACHED", "ExitCodeGroup"]

# Named as in sysexits.h. Any other error is 1.
HUB_NEVER_REACHED = 69  # EX_UNAVAILABLE
_TOKEN_REFUSED = 77  # EX_NOPERM
BAD_CONFIGURATION = 78  # EX_CONFIG
# The codes of errors that another start would run into again.
FINAL = {click.UsageError.exit_code, _TOKEN_REFUSED, BAD_CONFIGURATION}


class ExitCodeGroup(click.Group):
    """A group of commands that turns arbprov's errors into messages and exit codes.

    Args:
        names: The commands. Each is a function of a module of the same name in `arbprov.cli`, which
            is imported when the command is used: a probe that runs often needs none of the others.
        options: The arguments of `click.Group`.
    """

    def __init__(self, *, names: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self._names = sorted(names)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return self._names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._names:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"arbprov.cli.{cmd_name}"), cmd_name
        )
        return command

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
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader has closed the pipe; flushing at exit must not fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(1)
        except Exception as error:
            code = _exit_code(error)
            if code is None:
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(code)


def _exit_code(error: Exception) -> int | None:
    """Return the exit code of an error of arbprov; None for any other error."""
    # Slow to import, and most commands end well.
    from arbprov.errors import (
        AuthenticationError,
        ConfigurationError,
        HubConnectionError,
        ProviderError,
    )

    if not isinstance(error, ProviderError):
        return None
    codes: dict[type[Exception], int] = {
        HubConnectionError: HUB_NEVER_REACHED,
        AuthenticationError: _TOKEN_REFUSED,
        ConfigurationError: BAD_CONFIGURATION,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)
