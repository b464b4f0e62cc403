"""``arbprov invoke``."""

from __future__ import annotations

import logging
import time
from typing import Any

import click

from arbprov.app import ProviderApp
from arbprov.cli.loading import app_argument
from arbprov.cli.options import account_option, payload_argument
from arbprov.cli.print_result import end, json_option
from arbprov.clock import SystemClock
from arbprov.executors.inline import InlineRunner, make_task
from arbprov.logs import ensure_handler

__all__ = ["invoke"]


@click.command()
@app_argument
@click.argument("action")
@payload_argument
@account_option
@json_option
def invoke(
    app: ProviderApp, action: str, payload: dict[str, Any], account: dict[str, Any], whole: bool
) -> None:
    """Run ACTION here, without a hub, and print what it returned.

    All that happens to a task happens: validation, limits, hooks, the envelope. PAYLOAD is a JSON
    object, @FILE with one, or - for stdin. Exits with 1 if it ends as an error or over a limit.

    The handler runs in this process, whatever its isolation, and a plain function is waited for
    though its time is up; `arbprov dev --tasks` runs tasks in all ways as the hub's.
    """
    ensure_handler(logging.WARNING)
    task = make_task("invoked", action, payload, account)
    with InlineRunner(app._dispatcher(SystemClock()), app._life_hooks(), time.sleep) as runner:
        result = runner.run(task)
    end(result.envelope, whole)
