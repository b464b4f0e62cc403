"""``arbprov call``."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click
from click.core import ParameterSource

from arbprov._utils import is_positive_number
from arbprov.cli.hub_tokens import HubToken, explaining_refusal, hub_token_options, read_hub_token
from arbprov.cli.options import (
    ADDRESS,
    check,
    json_option,
    payload_argument,
    task_account_option,
)
from arbprov.cli.output import echo, print_result
from arbprov.cli.progress import Progress
from arbprov.cli.remote_tasks import RemoteTasks
from arbprov.cli.signals import catch_interruption
from arbprov.cli.task_files import Arguments, Results, tasks_option

__all__ = ["call"]

_TIMEOUT = 10.0
# The parameters that are about a single task.
_OF_ONE_TASK = {"payload", "account", "provider", "priority", "idempotency_key"}


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
    callback=check(
        lambda value: value is None or is_positive_number(value), "must be greater than 0"
    ),
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
def call(
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
    if (action is None) == (tasks is None):
        raise click.UsageError("give an ACTION, or a file of tasks by --file, and not both")
    single = tasks is None
    if tasks is None:
        tasks = [{"action": action, **options}]
        timeout = timeout or _TIMEOUT
    else:
        _refuse_options_of_one_task(click.get_current_context())
    from arbprov.localhub import LocalHubClient

    token = read_hub_token(token)
    with contextlib.ExitStack() as stack:
        stack.enter_context(explaining_refusal(token))
        interruption = stack.enter_context(catch_interruption())
        client = stack.enter_context(LocalHubClient(hub_url, token.value))
        remote = RemoteTasks(client, tasks, timeout=timeout, is_interrupted=interruption.is_set)
        if not wait:
            for ids in remote.submit():
                for name in ids:
                    echo(json.dumps({"id": name}) if as_json else name)
        elif single:
            for (result,) in filter(None, remote.run()):
                print_result(json.loads(result.result), as_json=as_json)
        else:
            _print_results(remote, Results(len(tasks), as_json))


def _refuse_options_of_one_task(ctx: click.Context) -> None:
    """Refuse options that are for a single task, since they would not apply to a file's tasks."""
    for parameter in ctx.command.params:
        is_given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_given and parameter.name in _OF_ONE_TASK:
            name = (
                parameter.make_metavar(ctx)
                if isinstance(parameter, click.Argument)
                else parameter.opts[0]
            )
            raise click.UsageError(
                f"{name} is for a single task; write it into the lines of --file"
            )


def _print_results(remote: RemoteTasks, results: Results) -> None:
    """Print results as they arrive, and a summary; exit with code 1 if a task has failed."""
    with contextlib.ExitStack() as stack:
        stack.callback(results.print_summary)
        progress = stack.enter_context(Progress(results.tasks))
        for batch in remote.run():
            progress.clear()
            for result in batch:
                results.add(result)
            progress.advance(len(batch))
    if results.has_failures:
        click.get_current_context().exit(1)
