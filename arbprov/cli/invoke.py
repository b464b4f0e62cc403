"""``arbprov invoke``."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any

import click

from arbprov._utils import escape_line
from arbprov.app import ProviderApp
from arbprov.cli.loading import app_argument
from arbprov.cli.options import json_option, payload_argument, task_account_option
from arbprov.cli.output import echo, print_result
from arbprov.clock import SystemClock
from arbprov.executors.inline import InlineRunner, make_task
from arbprov.logs.setup import ensure_handler

__all__ = ["invoke"]

# Characters of a line.
_MAX_LINE = 1_000


@click.command()
@app_argument
@click.argument("action")
@payload_argument
@task_account_option
@json_option("Print the whole envelope, as the hub gets it.")
def invoke(
    app: ProviderApp, action: str, payload: dict[str, Any], account: dict[str, Any], as_json: bool
) -> None:
    """Run ACTION in this process, without a hub, and print its result.

    The task goes the whole way: validation, limits, hooks, envelope. PAYLOAD is a JSON object,
    @FILE with a JSON object in it, or - for stdin. The exit code is 1 if the task ends with an
    error or is over a limit.

    The handler runs in this process even with isolation="process", and a plain function runs to
    its end even after its timeout; `arbprov dev --tasks` runs tasks as a worker does.
    """
    ensure_handler(logging.WARNING, is_for_people=True)
    task = make_task("invoked", action, payload, account)
    dispatcher = app._dispatcher(SystemClock())
    route = dispatcher.routes.get(action)
    with (
        # Stdout is for the result alone, so that a program can read it.
        contextlib.redirect_stdout(sys.stderr),
        InlineRunner(dispatcher, app._life_hooks(), time.sleep) as runner,
    ):
        for field in route.action.binding.find_ignored(payload) if route and route.action else ():
            echo(f"ignored field {escape_line(str(field), _MAX_LINE)}", err=True)
        result = runner.run(task)
    print_result(result.envelope, as_json=as_json)
