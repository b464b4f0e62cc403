"""`arbprov actions`."""

from __future__ import annotations

import json

import pytest
from support.commands import CLASS_BASED


def test_actions_are_listed_with_parameters_limits_and_descriptions(arbprov):
    assert arbprov("actions", "typed").stdout == (
        "ask() -> dict\n"
        "fail() -> dict\n"
        "linger() -> dict\n"
        "slow() -> dict\n"
        "so_so() -> arbprov.task.ProviderResponse\n"
        "square(n: int) -> dict\n"
        "    Square a number.\n"
        "    at most 1/hour per account.id and payload.n\n"
    )


def test_string_annotations_are_listed_as_types(arbprov, folder):
    (folder / "other.py").write_text(
        "from __future__ import annotations\nfrom datetime import date\n"
        "from arbprov import ProviderApp\napp = ProviderApp()\n"
        "@app.action\ndef ask(when: date): ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask(when: datetime.date)\n"


def test_an_annotation_that_can_not_be_evaluated_is_listed_as_written(arbprov, folder):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\napp = ProviderApp()\n"
        "@app.action\ndef ask(n: int) -> 'Nowhere': ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask(n: int) -> 'Nowhere'\n"


@pytest.mark.parametrize("annotation", ["TaskContext", "'TaskContext'"])
def test_the_task_context_is_not_listed(arbprov, folder, annotation):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp, TaskContext\napp = ProviderApp()\n"
        f"@app.action\ndef ask(n: int, ctx: {annotation}): ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask(n: int)\n"


def test_parameters_that_arbprov_passes_are_not_listed(arbprov, folder):
    (folder / "other.py").write_text(CLASS_BASED.replace("lambda text:", "lambda text, **others:"))
    assert arbprov("actions", "other").stdout == "echo(*, payload, account, text)\n    Echo\n"


def test_actions_are_listed_as_json(arbprov):
    square = json.loads(arbprov("actions", "typed", "--json").stdout)[-1]
    assert square == {
        "name": "square",
        "parameters": "(n: int) -> dict",
        "description": "Square a number.",
        "timeout": 20.0,
        "limits": ["1/hour per account.id and payload.n"],
    }


def test_an_app_without_actions_says_so(arbprov, folder):
    (folder / "other.py").write_text("from arbprov import ProviderApp\napp = ProviderApp('x')\n")
    result = arbprov("actions", "other")
    assert (result.stdout, result.stderr) == ("", "there are no actions\n")
