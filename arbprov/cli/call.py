"""``arbprov call``."""

from __future__ import annotations

import json
from typing import Any

import click

from arbprov._utils import format_count, is_positive_number
from arbprov.cli.call_waiting import GaveUp, TaskBatch
from arbprov.cli.hub_tokens import HubToken, explaining_refusal, hub_token_options
from arbprov.cli.options import (
    ADDRESS,
    check,
    json_option,
    payload_argument,
    task_account_option,
)
from arbprov.cli.output import echo, print_json, print_result
from arbprov.cli.signals import catch_interruption
from arbprov.cli.task_files import Arguments, Results, tasks_option
from arbprov.errors import ProviderError

__all__ = ["call"]

_TIMEOUT = 10.0
# The parameters that are about one task, so not for the tasks of a file.
_ONE_TASK = {
    "action": "ACTION",
    "payload": "PAYLOAD",
    "account": "--account",
    "provider": "--provider",
    "priority": "--priority",
    "idempotency_key": "--idempotency-key",
}


@click.command()
@click.argument("action", required=False)
@payload_argument
@task_account_option
@tasks_option(
    "--file",
    "Run the tasks in this file, or - for stdin, one JSON object per line, and print the results "
    "as they arrive.",
)
@click.option(
    "--provider", metavar="NAME", default="", help="The provider to run it; any, if left out."
)
@click.option(
    "--priority",
    metavar="N",
    type=click.IntRange(-1_000, 1_000),
    default=0,
    help="Tasks of a higher priority go first.  [default: 0]",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    default="",
    help="A second call with this key adds no task; it waits for the first one's result.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    help="Wait for the result, or only print the task's id.  [default: wait]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    callback=check(lambda value: value is None or is_positive_number(value), "must be greater than 0"),
    help=f"How long to wait.  [default: {_TIMEOUT:g}; with --file, for all results]",
)
@click.option(
    "--hub-url",
    envvar="HUB_GRPC_URL",
    metavar="HOST:PORT",
    default=ADDRESS,
    show_default=True,
    show_envvar=True,
    help="The bundled hub's address.",
)
@hub_token_options
@json_option("Print the whole envelope, as the hub gets it; with --file, one per line.")
@click.pass_context
def call(
    ctx: click.Context,
    action: str | None,
    tasks: list[Arguments] | None,
    wait: bool,
    timeout: float | None,
    hub_url: str,
    token: HubToken,
    as_json: bool,
    **options: Any,
) -> None:
    """Run ACTION through the bundled hub and print its result.

    PAYLOAD is a JSON object, @FILE with a JSON object in it, or - for stdin. The exit code is 1 if
    a task ends with an error. A task over a limit waits at the hub until the limit admits it.

    A call that gives up leaves its task at the hub; `arbprov tasks` shows and cancels it.
    """
    from arbprov.localhub import LocalHubClient

    is_file = tasks is not None
    if is_file == (action is not None):
        raise click.UsageError("give ACTION or --file" if action is None else _say_exclusive(["ACTION"]))
    if is_file:
        source_of = ctx.get_parameter_source
        is_given = click.core.ParameterSource.COMMANDLINE
        given = [shown for name, shown in _ONE_TASK.items() if source_of(name) is is_given]
        if given:
            raise click.UsageError(_say_exclusive(given))
    else:
        tasks = [{"action": action, **options}]
        timeout = timeout or _TIMEOUT
    results = Results(len(tasks), as_json)
