"""The ``arbprov`` command. Data goes to stdout, messages to stderr."""

from __future__ import annotations

import io
import os
import sys

import click

from arbprov._utils import open_standard_streams
from arbprov._version import __version__
from arbprov.cli.group import CommandGroup

__all__ = ["main"]

_COMMANDS = (
    *("new", "run", "dev", "hub", "call", "tasks", "tokens", "invoke", "actions", "check"),
    *("limits", "outbox", "health"),
)


@click.group(
    cls=CommandGroup,
    names=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 69 hub never reached, 77 token refused, "
        "78 bad configuration."
    ),
)
@click.version_option(__version__, "-V", "--version", message="arbprov %(version)s")
def main() -> None:
    """Run, try and inspect arbprov providers."""
    open_standard_streams()
    # A terminal or a pipe that can't show a character must not end a command with a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if os.getpid() == 1:
        from arbprov.worker.reaping import fork_as_pid_1

        # Before the provider's module is imported, which may start threads.
        fork_as_pid_1()
