"""`arbprov actions`."""

from __future__ import annotations

import json

import pytest
from support.commands import CLASS_BASED

from arbprov.cli.actions import task_signature


def test_actions_are_listed_with_parameters_limits_and_descriptions(arbprov):
    assert arbprov("actions", "typed").stdout == (
        "ask\n"
        "fail\n"
        "linger\n"
        "slow\n"
        "so_so\n"
        "square\n"
        "    Square a number.\n"
        "    at most 1/hour per account.id and payload.n\n"
        "    payload\n"
        "      n: integer\n"
    )


def test_string_annotations_are_listed_as_types(arbprov, folder):
    (folder / "other.py").write_text(
        "from __future__ import annotations\nfrom datetime import date\n"
        "from arbprov import ProviderApp\napp = ProviderApp()\n"
        "@app.action\ndef ask(when: date): ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask\n    payload\n      when: date\n"


def test_an_annotation_that_can_not_be_evaluated_is_listed_as_written(arbprov, folder):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\napp = ProviderApp()\n"
        "@app.action\ndef ask(n: int) -> 'Nowhere': ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask\n    payload\n      n: integer\n"


@pytest.mark.parametrize("annotation", ["TaskContext", "'TaskContext'"])
def test_the_task_context_is_not_listed(arbprov, folder, annotation):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp, TaskContext\napp = ProviderApp()\n"
        f"@app.action\ndef ask(n: int, ctx: {annotation}): ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask\n    payload\n      n: integer\n"


def test_parameters_that_arbprov_passes_are_not_listed(arbprov, folder):
    (folder / "other.py").write_text(CLASS_BASED.replace("lambda text:", "lambda text, **others:"))
    assert arbprov("actions", "other").stdout == (
        "echo\n    Echo\n    payload\n      text: string\n"
    )


def test_actions_are_listed_as_json(arbprov):
    square = json.loads(arbprov("actions", "typed", "--json").stdout)[-1]
    assert square == {
        "name": "square",
        "parameters": "(n: int) -> dict",
        "description": "Square a number.",
        "timeout": 20.0,
        "limits": ["1/hour per account.id and payload.n"],
    }


NESTED = """
from __future__ import annotations

import enum
from typing import Annotated

import annotated_types
import attrs
from arbprov import ProviderApp

app = ProviderApp()

class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"

@attrs.frozen
class Place:
    '''A place.

    Attributes:
        city: Its name.
    '''

    city: Annotated[str, annotated_types.Len(1, 80)]
    near: list[Place] = attrs.field(factory=list)

@attrs.frozen
class Account:
    api_key: str

@app.action
def compare(
    account: Account,
    places: dict[str, Place],
    pair: tuple[int, bytes],
    unit: Unit = Unit.CELSIUS,
    limit: int | None = None,
    count: Annotated[int, annotated_types.Ge(1)] = 1,
    kind: Annotated[str | None, "what it is"] = object(),
):
    ...
"""


def test_the_fields_of_payload_and_account_are_listed_with_those_of_their_objects(arbprov, folder):
    (folder / "other.py").write_text(NESTED)
    assert arbprov("actions", "other").stdout == (
        "compare\n"
        "    payload\n"
        "      places: object of Place by name\n"
        "        city: string, at least 1 character, at most 80 characters  Its name.\n"
        "        near: array of Place = []\n"
        "      pair: [integer, base64]\n"
        '      unit: "celsius" | "kelvin" = "celsius"\n'
        "      limit: integer | null = null\n"
        "      count: integer, at least 1 = 1\n"
        "      kind: string | null (optional)  what it is\n"
        "    account\n"
        "      api_key: string\n"
    )


def test_the_json_schema_of_payloads_and_accounts_is_printed(arbprov, folder):
    (folder / "other.py").write_text(NESTED)
    schema = json.loads(arbprov("actions", "other", "--json-schema").stdout)["compare"]
    assert schema["account"]["$ref"] == "#/$defs/Account"
    assert schema["payload"]["properties"]["unit"] == {
        "enum": ["celsius", "kelvin"],
        "default": "celsius",
    }


def test_an_app_without_actions_says_so(arbprov, folder):
    (folder / "other.py").write_text("from arbprov import ProviderApp\napp = ProviderApp('x')\n")
    result = arbprov("actions", "other")
    assert (result.stdout, result.stderr) == ("", "there are no actions\n")


@pytest.mark.parametrize("annotation", ["TaskContext", "TaskContext[int]"])
def test_a_context_is_hidden_though_the_result_s_type_can_not_be_resolved(annotation):
    def price(ctx, item): ...

    price.__annotations__ = {"ctx": annotation, "item": "str", "return": "Nowhere"}
    assert list(task_signature(price).parameters) == ["item"]
