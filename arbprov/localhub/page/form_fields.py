"""A form's fields, from a JSON Schema, a value and the problems of that value."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import attrs

from arbprov.errors import Problem
from arbprov.localhub.page.form_values import Unread, read_value
from arbprov.localhub.page.schema_parts import (
    MISSING,
    Part,
    Schema,
    classify,
    escape_pointer,
    is_blank_allowed,
)
from arbprov.payload.validation import field_path, join_paths

__all__ = ["Field", "can_show", "make_fields"]

# A longer list is edited as JSON.
_MAX_ITEMS = 100
_LONG_TEXT = 80
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


@attrs.frozen(kw_only=True)
class Field:
    """A field of a form.

    Attributes:
        kind: As in `Part`.
        name: Its name in the form: a JSON pointer.
        path: Where its value is in the payload, as problems name it.
        label: The property's name; empty for the whole value, and for an item of a list.
        hint: What it takes, in words.
        description: Its description in the schema.
        is_required: Whether the payload must have it.
        value: Its text.
        default: What it is if it is left blank; empty if unknown.
        choices: The values of a choice, as JSON.
        children: The fields of an object, or the items of a list.
        template: A new item of a list, with `placeholder` for its number.
        placeholder: What stands for the number of a new item.
        messages: The problems of its value.
    """

    kind: str
    name: str
    path: str
    label: str = ""
    hint: str = ""
    description: str = ""
    is_required: bool = False
    value: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    children: tuple[Field, ...] = ()
    template: Field | None = None
    placeholder: str = ""
    messages: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its id in the page, which has no blanks."""
        return "field-" + quote(self.name, safe="")

    @property
    def is_long(self) -> bool:
        """Whether its text needs several lines."""
        return len(self.value) > _LONG_TEXT or "\n" in self.value

    @property
    def options(self) -> list[tuple[str, str]]:
        """The values of a choice, or of a boolean, as JSON, each with what a person reads."""
        choices = ("true", "false") if self.kind == "boolean" else self.choices
        values = [(text, json.loads(text)) for text in choices]
        others = {text for text, value in values if not isinstance(value, str)}
        return [(text, _label(value, others)) for text, value in values]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield what a browser sends for it."""
        if self.kind not in ("object", "list"):
            yield self.name, self.value
            return
        for child in self.children:
            if self.kind == "list":
                yield child.name, ""
            yield from child.pairs()


def make_fields(
    schema: Schema, value: Any, name: str, path: str, problems: Sequence[Problem] = ()
) -> Field:
    """Return the field of a whole value.

    Args:
        schema: The JSON Schema of an object.
        value: The value; `MISSING` for an empty form.
        name: Its name in the form.
        path: Its path in problems.
        problems: The problems of the value.

    >>> schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    >>> field = make_fields(schema, {"city": "Paris"}, "payload", "").children[0]
    >>> field.name, field.path, field.value
    ('payload/city', 'city', 'Paris')
    """
    messages: dict[str, tuple[str, ...]] = {}
    for problem in problems:
        messages[problem.path] = (*messages.get(problem.path, ()), problem.message)
    return _Maker(schema.get("$defs", {}), messages).make(
        schema, value, name=name, path=path, label="", is_required=True, depth=0
    )


def can_show(schema: Schema, value: Any, name: str = "payload") -> bool:
    """Tell whether a form has fields for all of a value, so that it may be sent again unchanged.

    >>> schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    >>> can_show(schema, {"city": "Paris"}), can_show(schema, {"town": "Paris"})
    (True, False)
    """
    field = make_fields(schema, value, name, "")
    if field.kind != "object" or value is MISSING:
        return False
    found, problems = read_value(schema, [*field.pairs()], name, "")
    return not problems and json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)


@attrs.frozen
class _Maker:
    definitions: Mapping[str, Schema]
    messages: Mapping[str, tuple[str, ...]]

    def make(
        self,
        schema: Schema,
        value: Any,
        *,
        name: str,
        path: str,
        label: str,
        is_required: bool,
        depth: int,
    ) -> Field:
        part = classify(schema, self.definitions, depth)
        kind, template, placeholder = part.kind, None, ""
        children: list[Field] = []
        if kind == "object":
            children = [*self._fields(part, value, name, path, depth)]
        elif kind == "list" and isinstance(value, list) and len(value) > _MAX_ITEMS:
            kind = "json"
        elif kind == "list":
            items = value if isinstance(value, list) else []
            if value is MISSING and not is_blank_allowed(part, is_required):
                items = [MISSING]
            children = [
                self._item(part, item, name, path, str(index), depth)
                for index, item in enumerate(items)
            ]
            placeholder = f"__{depth}__"
            template = self._item(part, MISSING, name, path, placeholder, depth)
        description = part.schema.get("description")
        return Field(
            kind=kind,
            name=name,
            path=path,
            label=label,
            hint=_describe(part, is_required),
            description=description if isinstance(description, str) else "",
            is_required=not is_blank_allowed(part, is_required),
            value=_show(kind, value),
            default=_show("text", part.schema.get("default", MISSING)),
            choices=part.choices,
            children=tuple(children),
            template=template,
            placeholder=placeholder,
            messages=self.messages.get(path, ()),
        )

    def _fields(self, part: Part, value: Any, name: str, path: str, depth: int) -> Iterator[Field]:
        required = part.schema.get("required", ())
        values = value if isinstance(value, dict) else {}
        for label, schema in part.schema["properties"].items():
            yield self.make(
                schema,
                values.get(label, MISSING),
                name=f"{name}/{escape_pointer(label)}",
                path=join_paths(path, field_path(label)),
                label=label,
                is_required=label in required,
                depth=depth + 1,
            )

    def _item(self, part: Part, value: Any, name: str, path: str, index: str, depth: int) -> Field:
        return self.make(
            part.schema["items"],
            value,
            name=f"{name}/{index}",
            path=f"{path}[{index}]",
            label="",
            is_required=True,
            depth=depth + 1,
        )


def _show(kind: str, value: Any) -> str:
    """Return a value as the text of its field."""
    if value is MISSING or kind in ("object", "list"):
        return ""
    if kind == "json" and not isinstance(value, Unread):
        return json.dumps(value, indent=2, ensure_ascii=False)
    if value is None:
        return ""
    if kind in ("text", "number", "json") and isinstance(value, str):
        return str(value)
    return json.dumps(value)


def _label(value: Any, others: Container[str]) -> str:
    """Return a choice for a person: a text without quotes, unless another choice looks like it."""
    if isinstance(value, str) and value and value not in others:
        return value
    return json.dumps(value, ensure_ascii=False)


def _describe(part: Part, is_required: bool) -> str:
    """Return what a field takes, in words."""
    schema = part.schema
    words = []
    if part.kind in ("text", "number"):
        words.append(str(schema.get("format") or schema.get("type", "")))
    elif part.kind == "json":
        words.append("JSON")
    words += [text.format(schema[name]) for name, text in _BOUNDS.items() if name in schema]
    if not is_required:
        words.append("optional")
    return ", ".join(words)
