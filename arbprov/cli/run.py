"""``arbprov run``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import attrs
import click

from arbprov.cli.loading import TARGET, load_app_or_exit
from arbprov.cli.supervisor.spools import warn_of_orphans
from arbprov.logs.setup import ensure_handler
from arbprov.wire.tokens import TokenFile

__all__ = ["run"]


@click.command()
@click.argument("target", metavar=TARGET)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    envvar="ARBPROV_WORKERS",
    show_default=True,
    show_envvar=True,
    help="Number of processes; a supervisor replaces those that die.",
)
# Set by the supervisor; see `WorkerInfo`.
@click.option("--worker", type=(int, int, str, str, int), hidden=True)
@click.option("--hub-url", metavar="HOST:PORT", help="The hub; overrides all other settings of it.")
@click.option(
    "--auth-token-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the hub's token; overrides all other settings of it.",
)
# For `dev`: the spool holds results for the provider's own hub, and must not go to another hub.
@click.option("--no-spool", is_flag=True, hidden=True)
# For `dev` too; see `DevOptions`.
@click.option("--dev-mode", type=click.Choice(["start", "restart", "tasks"]), hidden=True)
@click.option("--dev-call-options", default="", hidden=True)
@click.option("--dev-traceback", is_flag=True, hidden=True)
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors.")
def run(
    target: str,
    workers: int,
    worker: tuple[int, int, str, str, int] | None,
    hub_url: str | None,
    auth_token_file: Path | None,
    no_spool: bool,
    dev_mode: str | None,
    dev_call_options: str,
    dev_traceback: bool,
    quiet: bool,
) -> None:
    """Run a provider for the hub until SIGTERM or Ctrl-C.

    The first signal lets running tasks finish; a second signal exits at once.

    MODULE is a module's name, as for import, or the path of a .py file. APP is the name of the
    ProviderApp in it; leave it out if the name is app or there is no other ProviderApp.

    With --workers, limits must be shared, e.g. with rate_limit_store="redis://...", and each worker
    has its own spool: for a spool at PATH, worker 1 uses PATH.1, and so on.
    """
    ctx = click.get_current_context()
    if quiet:
        logging.getLogger("arbprov").setLevel(logging.WARNING)
    if workers > 1 and worker is None:
        # Slow to import.
        from arbprov.cli.supervisor.supervisor import supervise

        command = [sys.executable, "-m", "arbprov", "run", target, *(["--quiet"] if quiet else [])]
        command += ["--hub-url", hub_url] if hub_url is not None else []
        command += ["--auth-token-file", str(auth_token_file)] if auth_token_file else []
        ctx.exit(supervise([*command, "--worker"], workers, is_quiet=quiet))
    if dev_mode is not None:
        # The usage that a wrong target prints is that of the command that the user has typed.
        assert ctx.parent is not None
        assert isinstance(ctx.parent.command, click.Group)
        dev = ctx.parent.command.get_command(ctx, "dev")
        assert dev is not None
        ctx = click.Context(dev, info_name=dev.name, parent=ctx.parent)
    app = load_app_or_exit(ctx, target)
    if no_spool:
        app.config = attrs.evolve(app.config, spool="")
    if dev_mode is not None:
        from arbprov.cli.console import DevOptions, show_provider

        show_provider(app, DevOptions(dev_mode, dev_call_options, dev_traceback))
    # A file, not its text, so that the worker can read a rotated token.
    token = TokenFile("--auth-token-file", str(auth_token_file)) if auth_token_file else None
    if worker is None:
        ensure_handler(provider=app.name, is_quiet=quiet)
        warn_of_orphans(app.config.spool, workers)
        app.run(hub_url=hub_url, auth_token=token)
    else:
        from arbprov.cli.supervisor.worker import WorkerInfo, run_worker

        run_worker(app, WorkerInfo(*worker), is_quiet=quiet, hub_url=hub_url, auth_token=token)
