"""The description of the API."""

from __future__ import annotations

import json

import jsonschema
import pytest


@pytest.fixture
def document(api):
    return api.ask("GET", "/openapi.json", token=None).json


def walk(value):
    yield value
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    for child in children:
        yield from walk(child)


def test_each_reference_has_a_schema_that_is_one(document):
    references = {v["$ref"] for v in walk(document) if isinstance(v, dict) and "$ref" in v}
    names = {reference.removeprefix("#/components/schemas/") for reference in references}
    assert names <= document["components"]["schemas"].keys()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_each_operation_but_that_of_health_needs_a_token(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path != "/healthz")


def test_the_parameters_of_a_list_are_described(document):
    operation = document["paths"]["/api/v1/tasks"]["get"]
    parameters = {p["name"]: p for p in operation["parameters"]}
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 50,
    }
    assert parameters["action"]["description"] == "tasks of this action"
    assert parameters["accounts"]["schema"] == {"enum": ["full", "masked"]}
    assert "`payload.NAME=VALUE`" in operation["description"]


def test_a_submitted_task_has_no_unknown_fields(document):
    schema = document["components"]["schemas"]["TaskBody"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["action"]
    assert schema["properties"]["action"]["description"] == "the action to run"


def test_the_document_is_the_same_each_time(api, document):
    assert api.ask("GET", "/openapi.json").json == document
    assert json.dumps(document).count("openapi") == 1
