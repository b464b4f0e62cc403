"""``arbprov dev``: a hub, a provider that restarts when its files change, and tasks from a file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from arbprov.cli.hub import ADDRESS, token_option
from arbprov.cli.loading import TARGET, module_folder
from arbprov.cli.reloading import FileWatch
from arbprov.cli.signals import Interruption, interruption
from arbprov.cli.tasks import Arguments, run_tasks, tasks_option
from arbprov.errors import ProviderError

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub

__all__ = ["dev"]

# A stop waits for the poll that the hub holds, and nobody wants to wait long for a reload.
_HOLD = 0.5
_LOOK_EVERY = 0.3
_PATIENCE = 30.0


@click.command()
@click.argument("target", metavar=TARGET)
@tasks_option
@click.option("--json", "machine", is_flag=True, help="With --tasks: print envelopes, one a line.")
@click.option("--reload/--no-reload", default=True, help="Restart when a .py file changes.")
@click.option(
    "--address",
    metavar="HOST:PORT",
    help=f"Where the hub listens: {ADDRESS}, and any free port with --tasks.",
)
@token_option
def dev(
    target: str,
    tasks: list[Arguments] | None,
    machine: bool,
    reload: bool,
    address: str | None,
    token: str,
) -> None:
    """Run a provider together with the bundled hub, until Ctrl-C.

    The provider works for this hub, whatever its own settings say, and its spool is left alone.
    Call it from another terminal with `arbprov call`.
    """
    from arbprov.localhub import LocalHub

    address = address or (ADDRESS if tasks is None else "127.0.0.1:0")
    with contextlib.ExitStack() as stack:
        interrupted = stack.enter_context(interruption())
        hub = stack.enter_context(LocalHub(address, token=token, hold=_HOLD))
        command = stack.enter_context(_command(target, hub, quiet=tasks is not None))
        if tasks is None:
            click.echo(f"The hub listens on {hub.address}; Ctrl-C ends it.", err=True)
            watch = FileWatch(module_folder(target)) if reload else None
            _supervise(command, watch, interrupted)
        else:
            provider = stack.enter_context(_Provider(command))
            run_tasks(hub, tasks, machine, lambda: _end_of(provider, interrupted))


def _end_of(provider: _Provider, interrupted: Interruption) -> str:
    """Return why there is no provider any more; nothing if there is, though it may stop now."""
    if interrupted.is_set():
        provider.stop()
    if not provider.has_ended:
        return ""
    return "interrupted" if interrupted.is_set() else "the provider has ended"


@contextlib.contextmanager
def _command(target: str, hub: LocalHub, *, quiet: bool) -> Iterator[list[str]]:
    # The token goes through a file: anybody may read the arguments of a process.
    with tempfile.NamedTemporaryFile("w") as token:
        token.write(hub.token)
        token.flush()
        command = [sys.executable, "-m", "arbprov", "run", target, "--workers", "1", "--no-spool"]
        command += ["--hub-url", hub.url]
        yield [*command, "--auth-token-file", token.name, *(["--quiet"] if quiet else [])]


def _supervise(command: list[str], watch: FileWatch | None, interrupted: Interruption) -> None:
    """Run the provider again after each change, until the command is interrupted."""
    has_changed = False
    while not interrupted.is_set():
        with _Provider(command) as provider:
            while not interrupted.wait(_LOOK_EVERY):
                # At first, what was typed is wrong; later, what was saved, and that can be mended.
                is_wrong = provider.was_wrong_usage and not has_changed
                if provider.has_ended and (watch is None or is_wrong):
                    raise ProviderError("the provider has ended")
                if watch and (changed := watch.changed()):
                    click.echo(f"{changed} has changed, starting again.", err=True)
                    has_changed = True
                    break
                if provider.ended_just_now():
                    click.echo("The provider has ended; waiting for a change.", err=True)


class _Provider:
    """A provider in a process of its own."""

    def __init__(self, command: list[str], patience: float = _PATIENCE) -> None:
        # In a session of its own: Ctrl-C reaches this process only, and this one passes it on.
        self._process = subprocess.Popen(command, start_new_session=True)  # noqa: S603
        self._patience = patience
        self._noted = False
        self._is_stopping = False

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    @property
    def was_wrong_usage(self) -> bool:
        """Whether it has ended because there is no such module or app."""
        return self._process.poll() == click.UsageError.exit_code

    def ended_just_now(self) -> bool:
        """Tell whether it has ended, once."""
        noted, self._noted = self._noted, self.has_ended
        return self._noted and not noted

    def stop(self) -> None:
        """Have it finish what it has begun, and end; another time changes nothing."""
        if not self._is_stopping:
            self._is_stopping = True
            self._process.terminate()

    def __enter__(self) -> _Provider:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        try:
            # A second signal waits for nothing.
            if kind is not SystemExit:
                self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also when that signal has ended the waiting; one that has ended is not touched.
            self._process.kill()
            self._process.wait()
