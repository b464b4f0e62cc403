"""The value that a person has entered in a form, by the JSON Schema that the form was made from.

Nothing is checked here: text in a field for a number is sent as text, and the provider says what is
wrong with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from arbprov.errors import Problem
from arbprov.localhub.page.schema_parts import (
    MISSING,
    Part,
    Schema,
    classify,
    escape_pointer,
    is_blank_allowed,
)
from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure, field_path, join_paths

__all__ = ["Unread", "parse_json_field", "read_value"]

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d{1,300})?([eE][+-]?\d{1,3})?", re.ASCII)


def read_value(
    schema: Schema, pairs: Sequence[tuple[str, str]], name: str, path: str
) -> tuple[Any, list[Problem]]:
    """Return the value of a form, and the problems of its fields for JSON.

    Args:
        schema: The JSON Schema of an object.
        pairs: The form's fields.
        name: The name of the whole value in the form.
        path: Its path in problems.

    >>> schema = {"type": "object", "properties": {"days": {"type": "integer"}}}
    >>> read_value(schema, [("payload/days", "3")], "payload", "")
    ({'days': 3}, [])
    """
    reader = _Reader(schema.get("$defs", {}), dict(pairs), [])
    part = classify(schema, reader.definitions)
    return reader.read(part, name, path, True, 0), reader.problems


def parse_json_field(text: str, path: str) -> Any:
    """Return the value of JSON that a person has written.

    Raises:
        ValidationFailure: It is not JSON.

    >>> parse_json_field('{"a": 1}', "payload")
    {'a': 1}
    """
    try:
        return parse_value(text.encode("utf-8", "replace"))
    except ValidationFailure as failure:
        raise ValidationFailure(failure.prefixed(path), failure.count) from None


class Unread(str):
    """Text of a field for JSON that is not JSON: it stays in the field."""

    __slots__ = ()


@attrs.frozen
class _Reader:
    definitions: Mapping[str, Schema]
    texts: Mapping[str, str]
    problems: list[Problem]

    def read(self, part: Part, name: str, path: str, is_required: bool, depth: int) -> Any:
        """Return a field's value; `MISSING` if it is to be left out."""
        value: Any
        if part.kind == "object":
            value = self._read_object(part, name, path, depth)
            is_left_out = not value and is_blank_allowed(part, is_required)
        elif part.kind == "list" and not self.texts.get(name):
            value = self._read_list(part, name, path, depth)
            is_left_out = not value and is_blank_allowed(part, is_required)
        else:
            kind = "json" if part.kind == "list" else part.kind
            value = self._read_text(kind, part, self.texts.get(name, ""), path)
            is_left_out = value is MISSING
        if not is_left_out:
            return value
        return None if part.is_nullable and is_required else MISSING

    def _read_object(self, part: Part, name: str, path: str, depth: int) -> dict[str, Any]:
        found = {}
        required = part.schema.get("required", ())
        for label, schema in part.schema["properties"].items():
            value = self.read(
                classify(schema, self.definitions, depth + 1),
                f"{name}/{escape_pointer(label)}",
                join_paths(path, field_path(label)),
                label in required,
                depth + 1,
            )
            if value is not MISSING:
                found[label] = value
        return found

    def _read_list(self, part: Part, name: str, path: str, depth: int) -> list[Any]:
        prefix = f"{name}/"
        keys = [
            key[len(prefix) :].partition("/")[0] for key in self.texts if key.startswith(prefix)
        ]
        item = classify(part.schema["items"], self.definitions, depth + 1)
        values = [
            self.read(item, prefix + key, f"{path}[{index}]", True, depth + 1)
            for index, key in enumerate(dict.fromkeys(keys))
        ]
        # An item that is left blank is there.
        blank = "" if item.kind in ("text", "number") else None
        return [blank if value is MISSING else value for value in values]

    def _read_text(self, kind: str, part: Part, text: str, path: str) -> Any:
        if not text.strip():
            return MISSING
        if kind == "text":
            # Browsers send the ends of lines as in a mail.
            return text.replace("\r\n", "\n")
        if kind == "number":
            return _read_number(text)
        if kind in ("boolean", "choice"):
            choices = part.choices if kind == "choice" else ("true", "false")
            return json.loads(text) if text in choices else text
        return self._read_json(text, path)

    def _read_json(self, text: str, path: str) -> Any:
        try:
            return parse_json_field(text, path)
        except ValidationFailure as failure:
            self.problems.extend(failure.problems)
            return Unread(text)


def _read_number(text: str) -> int | float | str:
    if not _NUMBER.fullmatch(text.strip()):
        return text
    number: int | float = json.loads(text)
    return number if math.isfinite(number) else text
