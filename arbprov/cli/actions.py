"""``arbprov actions``."""

from __future__ import annotations

import inspect
from typing import Any

import click

from arbprov._types import Handler
from arbprov.actions import Action
from arbprov.app import ProviderApp
from arbprov.cli.loading import app_argument
from arbprov.cli.options import as_json
from arbprov.context import TaskContext
from arbprov.limits import RateLimit

__all__ = ["actions"]


@click.command()
@app_argument
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def actions(app: ProviderApp, machine: bool) -> None:
    """List a provider's actions, with their parameters and limits."""
    limits = app.limits_by_action()
    found = [_described(app, action, limits[action.name]) for action in app.actions()]
    if machine:
        click.echo(as_json(found))
        return
    for action in found:
        click.echo(action["name"] + action["parameters"])
        for line in (action["description"], *(f"at most {text}" for text in action["limits"])):
            if line:
                click.echo(f"    {line}")


def _described(app: ProviderApp, action: Action, limits: list[RateLimit]) -> dict[str, Any]:
    return {
        "name": action.name,
        "parameters": str(_given_by_tasks(_signature(action.handler))),
        "description": action.description,
        "timeout": action.timeout or app.config.execution_timeout,
        "limits": [str(limit) for limit in limits],
    }


def _signature(handler: Handler) -> inspect.Signature:
    try:
        return inspect.signature(handler, eval_str=True)
    except Exception:  # an annotation that only a type checker can read
        return inspect.signature(handler)


def _given_by_tasks(signature: inspect.Signature) -> inspect.Signature:
    parameters = signature.parameters.values()
    return signature.replace(parameters=[one for one in parameters if _is_given(one)])


def _is_given(parameter: inspect.Parameter) -> bool:
    is_context = parameter.annotation in (TaskContext, TaskContext.__name__)
    # Class-based handlers have some of arbprov's own.
    return not is_context and not parameter.name.startswith("arbprov_")
