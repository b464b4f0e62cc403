"""``arbprov check``."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import click

from arbprov.app import ProviderApp
from arbprov.checks import CheckResult
from arbprov.cli.loading import app_argument
from arbprov.cli.options import account_option, json_option
from arbprov.cli.output import echo, format_duration, print_json
from arbprov.clock import SystemClock
from arbprov.errors import ConfigurationError
from arbprov.logs.setup import ensure_handler

__all__ = ["check"]


@click.command(short_help="Run a provider's checks, without a hub.")
@app_argument
@account_option(
    "The account for the checks: a JSON object, @FILE with a JSON object in it, which keeps it out "
    "of the shell's history, or - for stdin."
)
@json_option("Print JSON.")
def check(app: ProviderApp, account: dict[str, Any], as_json: bool) -> None:
    """Run a provider's checks, without a hub, and say which ones failed.

    A check is a function with @app.check: it finds out whether credentials are right and an API can
    be reached, before any task. The checks run one after another within the app's lifespan, after
    the startup hooks. Each has a line: ok or failed, its name, how long it took, and why it failed.

    The exit code is 0 if no check failed, 1 if one did, 2 for wrong usage, and 78 if the provider's
    configuration is wrong or it has no check.
    """
    # Slow to import.
    from arbprov.worker.check_run import CheckRun

    ensure_handler(logging.WARNING, is_for_people=True)
    dispatcher = app._dispatcher(SystemClock())
    checks = app.checks()
    if not checks:
        raise ConfigurationError(
            f"{app!r} has no checks; decorate a function with @app.check that raises if the API "
            f"can't be reached"
        )
    results: list[CheckResult] = []
    width = max(len(each.name) for each in checks)

    def report(result: CheckResult) -> None:
        results.append(result)
        if not as_json:
            duration = format_duration(result.seconds)
            status = "ok" if result.is_ok else "failed"
            echo(f"{status:<6}  {result.name:<{width}}  {duration:>8}  {result.reason}".rstrip())

    CheckRun(dispatcher, app._life_hooks(), account, app.config.drain_timeout, report).run(checks)
    if as_json:
        print_json([{"ok": result.is_ok, **attrs.asdict(result)} for result in results])
    if not all(result.is_ok for result in results):
        click.get_current_context().exit(1)
