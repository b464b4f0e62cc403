"""``arbprov dev``: a hub, a provider that restarts when its files change, and tasks from a file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from arbprov._utils import describe_exit
from arbprov.cli.dev_hub import (
    call_options,
    page_command,
    running_dev_hub,
    sign_in_path,
)
from arbprov.cli.hub_http import has_http_extra
from arbprov.cli.hub_summary import describe_hub
from arbprov.cli.hub_tokens import HubToken, hub_token_options, make_hub_token
from arbprov.cli.loading import TARGET, module_folder
from arbprov.cli.options import ADDRESS, json_option
from arbprov.cli.output import echo
from arbprov.cli.reloading import FileWatch
from arbprov.cli.signals import Interruption, catch_interruption
from arbprov.cli.task_files import Arguments, Results, run_tasks, tasks_option
from arbprov.errors import ProviderError

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub

__all__ = ["dev"]

# In seconds.
_CHECK_INTERVAL = 0.3
_STOP_TIMEOUT = 30.0
# A file descriptor.
_STDERR = 2


@click.command()
@click.argument("target", metavar=TARGET)
@tasks_option(
    "--tasks",
    "Run the tasks in this file, one JSON object per line, print the results and end.",
)
@json_option("With --tasks: print envelopes, one per line.")
@click.option("--traceback", is_flag=True, help="Print the whole traceback of a task that fails.")
@click.option("--reload/--no-reload", default=True, help="Restart when a .py file changes.")
@click.option(
    "--address",
    metavar="HOST:PORT",
    help=f"Where the hub listens.  [default: {ADDRESS}; with --tasks, any free port]",
)
@click.option(
    "--memory",
    is_flag=True,
    help="Forget the tasks at the end, as with --tasks.  [default: keep them for the next run]",
)
@hub_token_options
def dev(
    target: str,
    tasks: list[Arguments] | None,
    as_json: bool,
    traceback: bool,
    reload: bool,
    address: str | None,
    memory: bool,
    token: HubToken,
) -> None:
    """Run a provider together with the bundled hub until Ctrl-C.

    The hub's page shows the tasks, also of earlier runs, and has a form for each action; `arbprov
    call` in another terminal sends tasks, too. The provider works for this hub whatever its own
    settings say, and does not use its spool.
    """
    with catch_interruption() as interruption:
        if tasks is not None:
            address = address or "127.0.0.1:0"
            with (
                running_dev_hub(
                    None, address=address, token=token.value or None, capacity=len(tasks)
                ) as hub,
                _run_command(target, hub, traceback) as command,
            ):
                _run_file(target, tasks, as_json, hub, command, interruption)
            return
        token = make_hub_token(token)
        with (
            running_dev_hub(
                None if memory else target,
                address=address or ADDRESS,
                token=token.value,
                retries_limits=True,
                has_page=True,
            ) as hub,
            _run_command(target, hub, traceback) as command,
        ):
            command += ["--dev-call-options", call_options(hub, token)]
            echo("\n".join(describe_hub(hub, sign_in_path(hub, token))), err=True)
            watch = FileWatch(module_folder(target)) if reload else None
            _run_and_reload(command, watch, interruption)


@contextlib.contextmanager
def _run_command(target: str, hub: LocalHub, traceback: bool) -> Iterator[list[str]]:
    """Yield the command that runs the provider; its token file exists inside the ``with`` block."""
    # Not as an argument: every user of the machine can read the arguments of a process.
    with tempfile.NamedTemporaryFile("w") as token:
        token.write(hub.token)
        token.flush()
        command = [sys.executable, "-m", "arbprov", "run", target, "--workers", "1", "--no-spool"]
        command += ["--hub-url", hub.url, "--auth-token-file", token.name]
        yield [*command, "--dev-traceback"] if traceback else command


def _run_file(
    target: str,
    tasks: list[Arguments],
    as_json: bool,
    hub: LocalHub,
    command: list[str],
    interruption: Interruption,
) -> None:
    """Run the tasks of a file with a provider, and print a summary after its last log line."""
    results = Results(len(tasks), as_json)
    try:
        # What handlers print goes to stderr: on stdout are only results.
        with _Provider([*command, "--dev-mode", "tasks"], stdout=_STDERR) as provider:

            def check_end() -> str:
                if interruption.is_set():
                    provider.interrupt()
                if not provider.has_ended:
                    return ""
                provider.check_usage()
                if interruption.is_set():
                    return "interrupted"
                return f"the provider {provider.describe_end()}"

            run_tasks(hub, tasks, results, check_end)
    finally:
        results.print_summary()
        if results.has_any and has_http_extra():
            echo(f"To see tasks in a browser: {page_command(target)}", err=True)


def _run_and_reload(
    command: list[str], watch: FileWatch | None, interruption: Interruption
) -> None:
    """Run the provider, and restart it after each change, until the command is interrupted."""
    has_changed = False
    while not interruption.is_set():
        is_end_reported = False
        mode = "restart" if has_changed else "start"
        with _Provider([*command, "--dev-mode", mode]) as provider:
            while not interruption.wait(_CHECK_INTERVAL):
                # Before the first change, the command's arguments are wrong. After a change, the
                # file is wrong, and the next change may fix it.
                if not has_changed:
                    provider.check_usage()
                if provider.has_ended and watch is None:
                    raise ProviderError(f"the provider {provider.describe_end()}")
                if watch and (path := watch.find_change()):
                    echo(f"{path} has changed, restarting.", err=True)
                    has_changed = True
                    break
                if provider.has_ended and not is_end_reported:
                    echo(f"The provider {provider.describe_end()}; waiting for a change.", err=True)
                    is_end_reported = True
            if interruption.is_set():
                provider.interrupt()


class _Provider:
    """A provider in its own process, until the end of a ``with`` block."""

    def __init__(
        self, command: list[str], stop_timeout: float = _STOP_TIMEOUT, stdout: int | None = None
    ) -> None:
        # In a new session, so that Ctrl-C reaches only this process; it then stops the provider.
        self._process = subprocess.Popen(command, stdout=stdout, start_new_session=True)  # noqa: S603
        self._stop_timeout = stop_timeout
        self._is_stopping = False

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def describe_end(self) -> str:
        """Say how the process has ended, unless it has logged why: as "was killed by SIGSEGV"."""
        code = self._process.returncode
        return describe_exit(code) if code < 0 else "has ended"

    def check_usage(self) -> None:
        """Raise `SystemExit` if the process has ended since there is no such module or app."""
        if self._process.poll() == click.UsageError.exit_code:
            raise SystemExit(click.UsageError.exit_code)  # the provider has said why

    def interrupt(self) -> None:
        """Do as `stop` does, and tell the user how not to wait for the running tasks."""
        if not self._is_stopping and not self.has_ended:
            echo("The provider finishes its running tasks; Ctrl-C again ends it now.", err=True)
        self.stop()

    def stop(self) -> None:
        """Let the provider finish its running tasks and end; a second call changes nothing."""
        if not self._is_stopping:
            self._is_stopping = True
            self._process.terminate()

    def __enter__(self) -> _Provider:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        try:
            # After a second signal, there is no waiting.
            if kind is not SystemExit:
                self._process.wait(self._stop_timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also if a second signal has ended the wait. Does nothing to a process that has ended.
            self._process.kill()
            self._process.wait()
