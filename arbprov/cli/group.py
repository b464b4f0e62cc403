"""The group of all commands, each imported when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from arbprov._utils import format_hook_traceback, suggest_name
from arbprov.cli.exit_codes import find_exit_code

__all__ = ["CommandGroup"]


class CommandGroup(click.Group):
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
        is_unknown = args[0] not in self._names and not ctx.resilient_parsing
        if is_unknown and (advice := suggest_name(args[0], self._names)):
            raise click.UsageError(f"No such command {args[0]!r}{advice}", ctx)
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
            code = find_exit_code(error)
            if code is None and (traceback := format_hook_traceback(error)):
                click.echo(traceback, err=True)
                ctx.exit(1)
            if code is None:
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(code)
