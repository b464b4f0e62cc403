"""What a command ends with: one code and one sentence for each kind of error."""

from __future__ import annotations

import os
from typing import Any

import click

from arbprov.errors import (
    AuthenticationError,
    ConfigurationError,
    HubConnectionError,
    ProviderError,
)

__all__ = ["FINAL", "UNREACHED", "ExitingGroup"]

# Where sysexits.h has a code for it, that one.
_CODES: dict[type[Exception], int] = {
    HubConnectionError: 69,  # EX_UNAVAILABLE
    AuthenticationError: 77,  # EX_NOPERM
    ConfigurationError: 78,  # EX_CONFIG
}
UNREACHED = _CODES[HubConnectionError]
# What another try would end with too.
FINAL = {click.UsageError.exit_code, _CODES[AuthenticationError], _CODES[ConfigurationError]}


class ExitingGroup(click.Group):
    """Turns arbprov's errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ProviderError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(next((c for kind, c in _CODES.items() if isinstance(error, kind)), 1))
        except BrokenPipeError:
            # Whoever read the output has enough of it; nothing may be written any more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(1)
