"""The API's description as OpenAPI 3.1; its schemas come from arbprov's own types."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from typing import Any

import attrs

from arbprov._version import __version__
from arbprov.localhub.api.answers import PROBLEM
from arbprov.localhub.api.operations import Operation
from arbprov.localhub.api.shapes import ProblemsView
from arbprov.localhub.tasks import PauseKind
from arbprov.payload.docstrings import read_descriptions
from arbprov.payload.json_schema import make_json_schema

__all__ = ["describe"]

JsonObject = dict[str, Any]

_TEXT = {"type": "string", "minLength": 1}
# The parts of paths.
_PARTS = {"id": _TEXT, "name": _TEXT, "kind": {"enum": [kind.value for kind in PauseKind]}}
_PART = re.compile(r"{(\w+)}")
_JSON = "application/json"
# By what any request may be refused, and by what else a request with a body may.
_REFUSALS = (400, 403, 503)
_TOKEN_REFUSALS = (401, 422)
_BODY_REFUSALS = (413, 415)
_DESCRIPTION = (
    "Submit tasks, read their results, and look after the queue of a bundled hub of arbprov. "
    "Each request needs a token with the role `admin`, or, to read, `reader`. "
    "Integers are exact, whatever their size."
)


def describe(operations: Iterable[Operation]) -> JsonObject:
    """Return the OpenAPI document of operations."""
    schemas = _Schemas()
    paths: dict[str, JsonObject] = {}
    for operation in operations:
        described = _describe_operation(operation, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "arbprov hub",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The schemas of classes, which the operations refer to."""

    def __init__(self) -> None:
        self.definitions: JsonObject = {}

    def of(self, shape: Any, *, forbid_extra: bool = False) -> JsonObject:
        """Return the schema of a shape: a type, or a tuple of alternatives."""
        if isinstance(shape, tuple):
            members = [self.of(member, forbid_extra=forbid_extra) for member in shape]
            return {"anyOf": members} if len(members) > 1 else members[0]
        document: JsonObject = _point_to_components(
            make_json_schema(shape, forbid_extra=forbid_extra)
        )
        self.definitions |= document.pop("$defs", {})
        del document["$schema"]
        return document


def _point_to_components(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref"
            else _point_to_components(value)
            for key, value in schema.items()
        }
    return [*map(_point_to_components, schema)] if isinstance(schema, list) else schema


def _describe_operation(operation: Operation, schemas: _Schemas) -> JsonObject:
    described: JsonObject = {"operationId": operation.name, "summary": operation.summary}
    if operation.description:
        described["description"] = operation.description
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PARTS[name]}
        for name in _PART.findall(operation.path)
    ]
    if operation.query is not None:
        parameters += _describe_query(operation.query)
    if parameters:
        described["parameters"] = parameters
    refusals = [*_REFUSALS, *operation.refusals]
    if operation.needs_token:
        described["security"] = [{"token": []}]
        refusals += _TOKEN_REFUSALS
    if operation.bodies:
        described["requestBody"] = {
            "required": operation.needs_body,
            "content": {_JSON: {"schema": schemas.of(operation.bodies, forbid_extra=True)}},
        }
    if operation.method == "POST":
        refusals += _BODY_REFUSALS
    responses = {
        str(status): _describe_answer(status, shape, schemas)
        for status, shape in operation.answers.items()
    }
    for status in sorted(refusals):
        responses[str(status)] = {
            "description": http.HTTPStatus(status).phrase,
            "content": {PROBLEM: {"schema": schemas.of(ProblemsView)}},
        }
    described["responses"] = responses
    return described


def _describe_answer(status: int, shape: Any, schemas: _Schemas) -> JsonObject:
    described: JsonObject = {"description": http.HTTPStatus(status).phrase}
    if isinstance(shape, str):
        described["content"] = {shape: {"schema": {"type": "string"}}}
    elif shape is not None:
        described["content"] = {_JSON: {"schema": schemas.of(shape)}}
    return described


def _describe_query(shape: type) -> list[JsonObject]:
    document = make_json_schema(shape)
    properties = document["$defs"][shape.__name__]["properties"]
    texts: dict[str, str] = {}
    for cls in reversed(shape.__mro__):
        texts |= read_descriptions(cls)
    parameters = []
    for field in attrs.fields(shape):
        if field.name == "payload":  # written as payload.NAME, which OpenAPI cannot say
            continue
        schema = _without_null(properties[field.name])
        description = schema.pop("description", "") or texts.get(field.name, "")
        parameters.append(
            {"name": field.name, "in": "query", "description": description, "schema": schema}
        )
    return parameters


def _without_null(schema: JsonObject) -> JsonObject:
    """Return a parameter's schema: it is left out, and never null."""
    others = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    if "anyOf" not in schema:
        return schema
    members = [member for member in schema["anyOf"] if member != {"type": "null"}]
    return {**others, **(members[0] if len(members) == 1 else {"anyOf": members})}
