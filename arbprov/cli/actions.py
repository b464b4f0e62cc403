"""``arbprov actions``."""

from __future__ import annotations

import inspect
from typing import Any

import click

from arbprov._types import Handler
from arbprov.app import ProviderApp
from arbprov.cli.fields import describe_fields
from arbprov.cli.loading import app_argument
from arbprov.cli.options import json_option
from arbprov.cli.output import echo, print_json
from arbprov.context import TaskContext, is_context

__all__ = ["actions", "task_signature"]


@click.command()
@app_argument
@json_option("Print JSON.")
@click.option(
    "--json-schema",
    "as_schema",
    is_flag=True,
    help="Print the JSON Schema of each action's payload and account.",
)
def actions(app: ProviderApp, as_json: bool, as_schema: bool) -> None:
    """List a provider's actions, their parameters, fields and limits."""
    schema = app.schema()
    if as_schema:
        print_json(schema)
        return
    limits = app.limits_by_action()
    found: list[dict[str, Any]] = [
        {
            "name": action.name,
            "parameters": str(task_signature(action.handler)),
            "description": action.description,
            "timeout": action.timeout or app.config.execution_timeout,
            "limits": [str(limit) for limit in limits[action.name]],
        }
        for action in app.actions()
    ]
    if as_json:
        print_json(found)
        return
    if not found:
        echo("there are no actions", err=True)
    for action in found:
        echo(action["name"])
        for line in (action["description"], *(f"at most {text}" for text in action["limits"])):
            if line:
                echo(f"    {line}")
        for part in ("payload", "account"):
            if lines := describe_fields(schema[action["name"]][part]):
                echo(f"    {part}")
                for line in lines:
                    echo(f"      {line}")


def task_signature(handler: Handler) -> inspect.Signature:
    """Return a handler's signature without the parameters that arbprov itself passes."""
    try:
        signature = inspect.signature(handler, eval_str=True)
    except Exception:  # an annotation that only a type checker can read
        signature = inspect.signature(handler)
    return signature.replace(
        parameters=[
            parameter
            for parameter in signature.parameters.values()
            # The handlers of class-based providers have parameters named arbprov_...
            if not (_is_context(parameter.annotation) or parameter.name.startswith("arbprov_"))
        ]
    )


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):  # it could not be resolved
        return annotation.partition("[")[0] == TaskContext.__name__
    return is_context(annotation)
