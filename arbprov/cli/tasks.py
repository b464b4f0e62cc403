"""``arbprov tasks``: the tasks at a bundled hub."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import attrs
import click

from arbprov._utils import format_count
from arbprov.cli.hub_client import client_options
from arbprov.cli.options import json_option
from arbprov.cli.output import echo, echo_json, print_json
from arbprov.cli.task_filters import filter_options
from arbprov.cli.task_views import print_head, print_task, print_task_line
from arbprov.errors import HubError, ProviderError

if TYPE_CHECKING:
    from arbprov.localhub import Client
    from arbprov.localhub.api.shapes import TaskView

__all__ = ["tasks"]

_LIMIT = 20
_MAX_PAGE = 1_000
_NOT_FOUND = 404
_VERBS = {"retry": "retried", "cancel": "cancelled"}


@click.group()
def tasks() -> None:
    """List, show, retry and cancel the tasks at the bundled hub.

    The hub and this command need the extra [hub]: pip install 'arbprov[hub]'
    """


_show_account_option = click.option(
    "--show-account", is_flag=True, help="Show the account's values, which may be secrets."
)


@tasks.command("list")
@filter_options
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=_LIMIT,
    show_default=True,
    help="The most tasks to list.",
)
@click.option("--all", "is_all", is_flag=True, help="List all tasks.")
@client_options
@json_option("Print each task as JSON, one per line.")
@_show_account_option
def list_tasks(
    client: Client,
    where: dict[str, Any],
    limit: int,
    is_all: bool,
    as_json: bool,
    show_account: bool,
) -> None:
    """List tasks, the latest first.

    All options that are given must match.
    """
    most = None if is_all else limit
    found = client.list(
        **where,
        accounts="full" if show_account else "masked",
        page_size=_MAX_PAGE if most is None else min(most + 1, _MAX_PAGE),
    )
    count = 0
    for task in itertools.islice(found, most):
        if as_json:
            echo_json(_to_json(task))
        else:
            if not count:
                print_head()
            print_task_line(task)
        count += 1
    if not count:
        echo("no task matches" if where else "the hub has no tasks", err=True)
    elif next(found, None) is not None:
        echo(f"There are more; --limit {10 * limit} or --all lists them.", err=True)


@tasks.command()
@click.argument("id")
@client_options
@json_option("Print the task as JSON.")
@_show_account_option
def show(client: Client, id: str, as_json: bool, show_account: bool) -> None:
    """Show a task.

    That is its state, times, payload, result and attempts, and why it waits.
    """
    from arbprov.localhub.clients.exchange import RequestRefused

    try:
        task = client.get(id, accounts="full" if show_account else "masked")
    except RequestRefused as error:
        raise _explain_unknown(error) from None
    if as_json:
        print_json(json.loads(_to_json(task)))
    else:
        print_task(task, _find_wait_reason(client, task))


@tasks.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filter_options
@click.option("--all", "is_all", is_flag=True, help="All tasks that are failed, cancelled or dead.")
@click.option("--yes", is_flag=True, help="Do not ask before tasks of a filter are changed.")
@client_options
@json_option("Print each task as JSON; for a filter, the counts.")
def retry(client: Client, **options: Any) -> None:
    """Run tasks again that have ended.

    These are the tasks with the IDs, or else all tasks that match the options. Tasks that are done
    are run again only by their IDs, or with --state done.
    """
    _change(client, "retry", **options)


@tasks.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filter_options
@click.option("--all", "is_all", is_flag=True, help="All tasks that wait or run.")
@click.option("--yes", is_flag=True, help="Do not ask before tasks of a filter are changed.")
@client_options
@json_option("Print each task as JSON; for a filter, the counts.")
def cancel(client: Client, **options: Any) -> None:
    """Cancel tasks that have not ended.

    These are the tasks with the IDs, or else all tasks that match the options. The handler of a
    running task learns of it by `ctx.cancelled`; its result changes nothing any more.
    """
    _change(client, "cancel", **options)


def _change(
    client: Client,
    verb: str,
    *,
    ids: tuple[str, ...],
    where: dict[str, Any],
    is_all: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Retry or cancel tasks."""
    if sum(map(bool, (ids, where, is_all))) != 1:
        raise click.UsageError("give IDs, or options that choose tasks, or --all for all of them")
    if ids:
        _change_by_ids(client, verb, ids, as_json=as_json)
    else:
        _change_matching(client, verb, where, is_confirmed=yes, as_json=as_json)


def _change_by_ids(client: Client, verb: str, ids: tuple[str, ...], *, as_json: bool) -> None:
    """Change each task; tasks that can't be changed are reported, and the others are changed.

    Raises:
        ProviderError: Some could not be changed.
    """
    from arbprov.localhub.clients.exchange import RequestRefused

    refused = 0
    for name in ids:
        try:
            task = client.retry(name) if verb == "retry" else client.cancel(name)
        except RequestRefused as error:
            echo(f"Error: {_explain_unknown(error)}", err=True)
            refused += 1
            continue
        echo_json(_to_json(task)) if as_json else print_task_line(task)
    if refused:
        raise ProviderError(f"{format_count(refused, 'task')} not {_VERBS[verb]}")


def _change_matching(
    client: Client, verb: str, where: dict[str, Any], *, is_confirmed: bool, as_json: bool
) -> None:
    """Count the tasks that match, ask, and change them."""
    change = client.retry_matching if verb == "retry" else client.cancel_matching
    outcome = change(where)
    if outcome.matching:
        tasks = format_count(outcome.matching, "task")
        if not is_confirmed:
            click.confirm(f"{verb.capitalize()} {tasks}?", abort=True, err=True)
        outcome = change(where, expect=outcome.matching)
    if as_json:
        print_json(attrs.asdict(outcome))
    elif not outcome.matching:
        echo(f"no task to {verb} matches", err=True)
    else:
        echo(f"{format_count(outcome.changed, 'task')} {_VERBS[verb]}", err=True)


def _explain_unknown(error: Any) -> HubError:
    """Return the error of a refused request; for an unknown task, it says how to find others."""
    hint = "; `arbprov tasks list` lists tasks" if error.status == _NOT_FOUND else ""
    return HubError(f"{error}{hint}")


def _find_wait_reason(client: Client, task: TaskView) -> str:
    """Return why a task waits; empty if it does not."""
    from arbprov.localhub.tasks import Pause, Scope, State
    from arbprov.localhub.waiting import describe_wait

    if task.state is not State.WAITING:
        return ""
    return describe_wait(
        action=task.action,
        account_key=task.account_key,
        provider=task.provider,
        not_before=None if task.not_before is None else task.not_before.timestamp(),
        pauses=[Pause(pause.kind, pause.name) for pause in client.pauses()],
        held=[
            Scope(
                action=scope.action,
                account_key=scope.account_key,
                held_until=scope.held_until.timestamp(),
                limit=scope.limit,
                since=scope.since.timestamp(),
                room=scope.room,
            )
            for scope in client.limits()
        ],
        now=time.time(),
    )


def _to_json(task: TaskView) -> str:
    """Return a task as a line of JSON, as the API has it."""
    return json.dumps(attrs.asdict(task), ensure_ascii=False, default=lambda when: when.isoformat())
