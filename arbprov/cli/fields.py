"""JSON Schema as a person reads it: a line for each field, and nested fields below theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from arbprov._utils import format_count

__all__ = ["describe_fields"]

Schema = Mapping[str, Any]

_INDENT = "  "
# The texts of bounds, by the keyword.
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}
# Those of lengths, with what is counted.
_LENGTHS = {
    "minLength": ("at least {}", "character"),
    "maxLength": ("at most {}", "character"),
    "minItems": ("at least {}", "item"),
    "maxItems": ("at most {}", "item"),
}


def describe_fields(document: Schema) -> list[str]:
    r"""Return a line for each field of an object, with the fields of the objects in it below.

    Args:
        document: A JSON Schema document of an object.

    >>> place = {"city": {"type": "string", "description": "Its name."}, "days": {"default": 3}}
    >>> document = {"properties": {"to": {"$ref": "#/$defs/Place"}}, "required": ["to"]}
    >>> definitions = {"Place": {"properties": place, "required": ["city"]}}
    >>> print("\n".join(describe_fields({**document, "$defs": definitions})))
    to: Place
      city: string  Its name.
      days: anything = 3
    """
    return list(_Describer(document.get("$defs", {})).lines(document, ()))


class _Describer:
    """Describes the parts of a document.

    Args:
        definitions: The document's definitions by name.
    """

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def lines(self, schema: Schema, inside: tuple[str, ...]) -> Iterator[str]:
        """Yield the lines of the objects in a schema, which is inside of some definitions."""
        if "$ref" in schema:
            name = _name(schema["$ref"])
            if name not in inside:  # a class that refers to itself is described once
                yield from self.lines(self._definitions[name], (*inside, name))
            return
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            yield _describe_field(name, field, name in required)
            yield from (_INDENT + line for line in self.lines(field, inside))
        parts = [schema.get("items"), schema.get("additionalProperties")]
        for key in ("anyOf", "allOf", "oneOf", "prefixItems"):
            parts += schema.get(key, ())
        for part in parts:
            if isinstance(part, Mapping):
                yield from self.lines(part, inside)


def _describe_field(name: str, schema: Schema, is_required: bool) -> str:
    parts = [_describe_type(schema), *_describe_bounds(schema)]
    line = f"{name}: {', '.join(parts)}"
    if "default" in schema:
        line += f" = {_json(schema['default'])}"
    elif not is_required:
        line += " (optional)"
    description = schema.get("description")
    return f"{line}  {description}" if description else line


def _describe_bounds(schema: Schema) -> Iterator[str]:
    for key, value in schema.items():
        if key in _BOUNDS:
            yield _BOUNDS[key].format(value)
        elif key in _LENGTHS and "prefixItems" not in schema:
            text, noun = _LENGTHS[key]
            yield text.format(format_count(value, noun))


def _describe_type(schema: Schema) -> str:
    for keyword, describe in _TYPES.items():
        if keyword in schema:
            return describe(schema[keyword])
    kind = schema.get("format") or schema.get("contentEncoding") or schema.get("type", "anything")
    if isinstance(items := schema.get("items"), Mapping):
        return f"{kind} of {_describe_type(items)}"
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"{kind} of {_describe_type(values)} by name"
    return " | ".join(kind) if isinstance(kind, list) else str(kind)


def _describe_union(members: list[Schema]) -> str:
    return " | ".join(map(_describe_type, members))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


# What a keyword says about the type, from its value.
_TYPES: dict[str, Callable[[Any], str]] = {
    "$ref": _name,
    "const": _json,
    "enum": lambda values: " | ".join(map(_json, values)),
    "anyOf": _describe_union,
    "oneOf": _describe_union,
    "prefixItems": lambda items: f"[{', '.join(map(_describe_type, items))}]",
}
