"""``arbprov run``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import attrs
import click

from arbprov.cli.loading import TARGET, app_of
from arbprov.cli.supervisor.spools import warn_of_left
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
    help="Processes that work side by side; a supervisor replaces those that die.",
)
@click.option("--worker", "place", type=int, nargs=3, hidden=True)
@click.option("--hub-url", metavar="HOST:PORT", help="The hub, before all other settings.")
@click.option(
    "--auth-token-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the hub's token, before all other settings.",
)
# The spool is for the provider's own hub, and what it keeps would go to any other one.
@click.option("--no-spool", is_flag=True, hidden=True)
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
def run(
    target: str,
    workers: int,
    place: tuple[int, int, int] | None,
    hub_url: str | None,
    auth_token_file: Path | None,
    no_spool: bool,
    quiet: bool,
) -> None:
    """Work for the hub until SIGTERM or Ctrl-C; a second one exits at once.

    MODULE is imported as Python would, or the path of a .py file; APP is the name of the
    ProviderApp in it, and may be left out if there is one only, or one called app.

    With --workers, limits have to be shared, as with rate_limit_store="redis://...", and each
    worker has a spool of its own: worker 1 of the spool at PATH has PATH.1, and so on.
    """
    ctx = click.get_current_context()
    if quiet:
        logging.getLogger("arbprov").setLevel(logging.WARNING)
    if workers > 1 and place is None:
        # It takes a while to import.
        from arbprov.cli.supervisor.supervisor import supervise

        ctx.exit(supervise(_command(target, hub_url, auth_token_file, quiet), workers))
    app = app_of(ctx, target)
    if no_spool:
        app.config = attrs.evolve(app.config, spool="")
    # As a file rather than a text, so that a rotated token is found.
    token = TokenFile("--auth-token-file", str(auth_token_file)) if auth_token_file else None
    if place is None:
        warn_of_left(app.config.spool, workers)
        app.run(hub_url=hub_url, auth_token=token)
    else:
        from arbprov.cli.supervisor.worker import Place, work

        work(app, Place(*place), hub_url=hub_url, auth_token=token)


def _command(
    target: str, hub_url: str | None, auth_token_file: Path | None, quiet: bool
) -> list[str]:
    """Return the command of one worker; it ends with the option that takes the worker's place."""
    command = [sys.executable, "-m", "arbprov", "run", *(["--quiet"] if quiet else [])]
    command += ["--hub-url", hub_url] if hub_url is not None else []
    command += ["--auth-token-file", str(auth_token_file)] if auth_token_file else []
    return [*command, target, "--worker"]
