"""How each part of a JSON Schema is asked for in a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

__all__ = [
    "MAX_DEPTH",
    "MISSING",
    "Part",
    "Schema",
    "classify",
    "escape_pointer",
    "is_blank_allowed",
]

Schema = Mapping[str, Any]

#: What a field has without a value.
MISSING: Final = object()
#: Objects and lists deeper than this are asked for as JSON; a schema may refer to itself.
MAX_DEPTH = 6
_MAX_CHOICES = 100
_MAX_REFERENCES = 20
_SCALARS = {"string": "text", "integer": "number", "number": "number", "boolean": "boolean"}


@attrs.frozen(kw_only=True)
class Part:
    """A part of a schema.

    Attributes:
        kind: ``object``, ``list``, ``text``, ``number``, ``boolean``, ``choice`` or ``json``.
        schema: The part's schema, without references.
        is_nullable: Whether null is a value of it.
        choices: The values of a choice, as JSON.
    """

    kind: str
    schema: Schema = attrs.field(repr=False)
    is_nullable: bool = False
    choices: tuple[str, ...] = ()


def classify(schema: Schema, definitions: Mapping[str, Schema], depth: int = 0) -> Part:
    """Return how a part of a schema is asked for; as JSON if no other field fits.

    Args:
        schema: The part.
        definitions: The document's definitions by name.
        depth: How many objects and lists it is in.

    >>> classify({"type": "integer"}, {}).kind
    'number'
    >>> classify({"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}]},
    ...          {"Color": {"enum": ["red", "blue"]}})
    Part(kind='choice', is_nullable=True, choices=('"red"', '"blue"'))
    """
    schema, is_nullable = _resolve(schema, definitions)
    kind = "json"
    choices: tuple[str, ...] = ()
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    wanted = schema.get("type")
    if isinstance(wanted, list):
        is_nullable |= "null" in wanted
        others = [name for name in wanted if name != "null"]
        wanted = others[0] if len(others) == 1 else None
    if isinstance(values, list):
        is_nullable |= None in values
        plain = [value for value in values if value is not None]
        if len(plain) <= _MAX_CHOICES and not any(isinstance(v, (dict, list)) for v in plain):
            kind, choices = "choice", tuple(json.dumps(value) for value in plain)
    elif wanted in _SCALARS:
        kind = _SCALARS[wanted]
    elif depth < MAX_DEPTH and wanted == "object" and _has_fixed_fields(schema):
        kind = "object"
    elif depth < MAX_DEPTH and wanted == "array" and isinstance(schema.get("items"), Mapping):
        kind = "json" if "prefixItems" in schema else "list"
    return Part(kind=kind, schema=schema, is_nullable=is_nullable, choices=choices)


def _resolve(schema: Any, definitions: Mapping[str, Schema]) -> tuple[Schema, bool]:
    """Follow references, and leave a null out of two alternatives; return whether there was one."""
    is_nullable = False
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, Mapping):
            break
        reference = schema.get("$ref")
        members = schema.get("anyOf")
        if isinstance(reference, str):
            own = {name: value for name, value in schema.items() if name != "$ref"}
            found = definitions.get(reference.rpartition("/")[2])
            schema = {**found, **own} if isinstance(found, Mapping) else {}
        elif isinstance(members, list) and {"type": "null"} in members and len(members) == 2:
            is_nullable = True
            own = {name: value for name, value in schema.items() if name != "anyOf"}
            other = members[0] if members[1] == {"type": "null"} else members[1]
            schema = {**other, **own} if isinstance(other, Mapping) else {}
        else:
            return schema, is_nullable
    return {}, is_nullable


def _has_fixed_fields(schema: Schema) -> bool:
    fields = schema.get("properties")
    others = schema.get("additionalProperties")
    return isinstance(fields, Mapping) and bool(fields) and not isinstance(others, Mapping)


def is_blank_allowed(part: Part, is_required: bool) -> bool:
    """Tell whether a field may be left out of a payload.

    >>> is_blank_allowed(Part(kind="text", schema={}), True)
    False
    """
    return part.is_nullable or not is_required


def escape_pointer(name: str) -> str:
    """Return a field's name as a part of a JSON pointer.

    >>> escape_pointer("a/b")
    'a~1b'
    """
    return name.replace("~", "~0").replace("/", "~1")
