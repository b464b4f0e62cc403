"""JSON Schema (2020-12) of the types that payloads and accounts are structured into."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import inspect
import itertools
import re
import typing
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from arbprov._types import Handler
from arbprov._utils import unwrap_function
from arbprov.payload.arguments import Binding
from arbprov.payload.classes import (
    has_fields,
    init_vars,
    is_class,
    is_namedtuple,
    is_typeddict,
    json_fields,
    typeddict_fields,
)
from arbprov.payload.constraints import json_keywords
from arbprov.payload.containers import is_array, is_mapping
from arbprov.payload.docstrings import read_descriptions, read_summary
from arbprov.payload.models import is_msgspec_struct, is_pydantic_model
from arbprov.payload.scalars import enum_choices, is_enum, is_literal, literal_choices
from arbprov.payload.schema import is_schema
from arbprov.payload.serialize import to_builtins
from arbprov.payload.structuring import is_union, origin_class
from arbprov.payload.unions import is_annotated
from arbprov.payload.validation import type_name

__all__ = ["DIALECT", "Field", "describe_binding", "make_json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

JsonSchema = dict[str, Any]

# Python's `$` also matches before a line break at the end, and its \d matches digits of any script.
_END = r"$(?!\n)"
_TIME = r"\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?"
# Stands before the names of another library's definitions until they have their own here.
_FOREIGN = "#/$defs/foreign/"


def _text(pattern: str, **keywords: Any) -> JsonSchema:
    ascii_pattern = pattern.replace(r"\d", "[0-9]")
    return {"type": "string", **keywords, "pattern": f"^{ascii_pattern}{_END}"}


_SCALARS: dict[Any, JsonSchema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    type(None): {"type": "null"},
    float: {"type": "number"},
    bytes: _text(
        "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", contentEncoding="base64"
    ),
    # Seconds; the bounds of a timedelta.
    dt.timedelta: {
        "type": "number",
        "minimum": -86399999913600,
        "exclusiveMaximum": 86400000000000,
    },
    Decimal: {**_text(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"), "type": ["string", "integer"]},
    uuid.UUID: _text(
        "([0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})", format="uuid"
    ),
    # A datetime is a date, so it comes first.
    dt.datetime: _text(rf"\d{{4}}-\d\d-\d\d([T ]{_TIME})?", format="date-time"),
    dt.date: _text(r"\d{4}-\d\d-\d\d", format="date"),
    dt.time: _text(_TIME, format="time"),
}


# The default of a required field, or a default that a factory makes for each object.
UNKNOWN = object()


@attrs.frozen
class Field:
    """A field of a JSON object.

    Attributes:
        type: Its type.
        is_required: Whether it must be there.
        default: Its value where it is missing, if that is known.
        description: What it is, in a few words.
    """

    type: Any
    is_required: bool = True
    default: Any = UNKNOWN
    description: str = ""


def make_json_schema(target: Any, *, forbid_extra: bool = False) -> JsonSchema:
    """Return the JSON Schema document of a type.

    Args:
        target: The type.
        forbid_extra: Whether objects must not have unknown fields.

    >>> make_json_schema(list[int])["items"]
    {'type': 'integer'}
    """
    builder = _Builder(forbid_extra)
    return builder.document(builder.of(target))


def describe_binding(binding: Binding, handler: Handler) -> dict[str, JsonSchema]:
    """Return the JSON Schema documents of an action's payload and account.

    Args:
        binding: How its handler gets its arguments.
        handler: The handler, whose docstring may describe its parameters.

    >>> from arbprov.payload.arguments import compile_binding
    >>> def forecast(city: str, days: int = 3): ...
    >>> payload = describe_binding(compile_binding(forecast), forecast)["payload"]
    >>> payload["properties"], payload["required"]
    ({'city': {'type': 'string'}, 'days': {'type': 'integer', 'default': 3}}, ['city'])
    """
    payload = _Builder(binding.use.converter.forbid_extra_keys)
    account = _Builder(binding.forbids_account_extra)
    return {
        "payload": payload.document(_describe_payload(payload, binding, handler)),
        "account": account.document({"type": "object", **account.of(_known(binding.account))}),
    }


def _describe_payload(builder: _Builder, binding: Binding, handler: Handler) -> JsonSchema:
    use, required = binding.use, inspect.Parameter.empty
    whole = {"type": "object", **builder.of(_known(use.whole))}
    if use.is_schema:
        # All other schemas fill the fields that a payload leaves out.
        keeps_missing = is_typeddict(use.whole) or not has_fields(use.whole)
        names = [n for n, default in binding.defaults.items() if default is required]
        return {"allOf": [whole], "required": names} if names and keeps_missing else whole
    texts = read_descriptions(unwrap_function(handler))
    fields = {
        name: Field(
            kind,
            binding.defaults[name] is required,
            UNKNOWN if binding.defaults[name] is required else binding.defaults[name],
            texts.get(name, ""),
        )
        for name, kind in use.fields.items()
    }
    if not use.takes_whole:
        return builder.object_of(fields, use.rest)
    if not fields:
        return whole
    if any(check(use.whole) for check in (is_class, is_typeddict, is_namedtuple)):
        return builder.object_of({**_class_fields(use.whole), **fields}, use.rest)
    return {"type": "object", "allOf": [whole, builder.object_of(fields, Any)]}


def _known(target: Any) -> Any:
    return Any if target is attrs.NOTHING else target


class _Builder:
    """Builds the parts of a document; a class has one definition, which its uses refer to."""

    def __init__(self, forbid_extra: bool) -> None:
        self.definitions: dict[str, JsonSchema] = {}
        self._names: dict[Any, str] = {}
        # The definitions of other libraries, as they came, by the names that they have here.
        self._adopted: dict[str, JsonSchema] = {}
        self._forbid_extra = forbid_extra

    def of(self, target: Any) -> JsonSchema:
        """Return the schema of a type."""
        if hasattr(target, "__supertype__"):
            return self.of(target.__supertype__)
        for matches, build in _BUILDERS:
            if matches(target):
                return build(self, target)
        if target is None or target in (Any, object):
            return {"type": "null"} if target is None else {}
        return dict(next(schema for base, schema in _SCALARS.items() if issubclass(target, base)))

    def document(self, root: JsonSchema) -> JsonSchema:
        """Return the document with all definitions that its root refers to."""
        definitions = {"$defs": self.definitions} if self.definitions else {}
        return {"$schema": DIALECT, **root, **definitions}

    def object_of(self, fields: Mapping[str, Field], extra: Any = attrs.NOTHING) -> JsonSchema:
        """Return the schema of an object.

        Args:
            fields: Its fields by name.
            extra: The type of its other fields; NOTHING if nothing takes them.
        """
        schema: JsonSchema = {
            "type": "object",
            "properties": {name: self._property(field) for name, field in fields.items()},
        }
        if required := [name for name, field in fields.items() if field.is_required]:
            schema["required"] = required
        if extra is attrs.NOTHING and self._forbid_extra:
            schema["additionalProperties"] = False
        elif others := self.of(_known(extra)):
            schema["additionalProperties"] = others
        return schema

    def _property(self, field: Field) -> JsonSchema:
        schema = self.of(field.type)
        if field.description:
            schema["description"] = field.description
        if field.default is not UNKNOWN:
            with contextlib.suppress(ValueError):  # JSON has no form for it
                schema["default"] = to_builtins(field.default)
        return schema

    def annotated(self, target: Any) -> JsonSchema:
        inner, *metadata = typing.get_args(target)
        schema = self.of(inner)
        for item in metadata:
            keywords = json_keywords(item, schema)
            repeated = {name: keywords.pop(name) for name in keywords.keys() & schema.keys()}
            schema.update(keywords)
            if repeated:  # both hold, and not only the last
                schema.setdefault("allOf", []).append(repeated)
        return schema

    def union(self, target: Any) -> JsonSchema:
        members = [self.of(member) for member in typing.get_args(target)]
        return {} if {} in members else {"anyOf": members}

    def choices(self, target: Any) -> JsonSchema:
        choices = literal_choices(target) if is_literal(target) else enum_choices(target)
        values = [json_value for json_value, _ in choices]
        return {"enum": values} if len(values) > 1 else {"const": values[0]}

    def array(self, target: Any) -> JsonSchema:
        arguments = typing.get_args(target)
        # `tuple` may have any items, and `tuple[()]` none.
        if typing.get_origin(target) is tuple and arguments[1:] != (Ellipsis,):
            items = [self.of(argument) for argument in arguments if argument != ()]
            size = {"minItems": len(items), "maxItems": len(items)}
            return {"type": "array", **({"prefixItems": items} if items else {}), **size}
        item = self.of(arguments[0]) if arguments else {}
        return {"type": "array", **({"items": item} if item else {})}

    def mapping(self, target: Any) -> JsonSchema:
        schema: JsonSchema = {"type": "object"}
        arguments = typing.get_args(target) or (Any, Any)
        item_type = int if origin_class(target) is collections.Counter else arguments[-1]
        names, items = self.of(arguments[0]), self.of(item_type)
        if names not in ({}, _SCALARS[str]):
            schema["propertyNames"] = names
        return {**schema, "additionalProperties": items} if items else schema

    def dict_schema(self, target: Any) -> JsonSchema:
        takes_null = {
            name: type(None) in (kind, *typing.get_args(kind))
            for name, kind in target.fields.items()
        }
        return self.object_of({n: Field(t, not takes_null[n]) for n, t in target.fields.items()})

    def reference(self, target: Any) -> JsonSchema:
        if target not in self._names:
            self._names[target] = name = self._new_name(type_name(target))
            self.definitions[name] = {}  # the class may refer to itself
            cls = origin_class(target)
            summary = {"description": text} if (text := read_summary(cls)) else {}
            self.definitions[name] = {**summary, **self.object_of(_class_fields(target))}
        return {"$ref": f"#/$defs/{self._names[target]}"}

    def pydantic_model(self, target: Any) -> JsonSchema:
        import pydantic

        adapter = pydantic.TypeAdapter(target)
        return self._adopt(adapter.json_schema(ref_template=_FOREIGN + "{model}"))

    def msgspec_struct(self, target: Any) -> JsonSchema:
        import msgspec

        (root,), definitions = msgspec.json.schema_components(
            [target], ref_template=_FOREIGN + "{name}"
        )
        return self._adopt({**root, "$defs": definitions})

    def _adopt(self, document: JsonSchema) -> JsonSchema:
        """Return the root of another library's document, after taking over its definitions."""
        definitions = document.pop("$defs", {})
        names = {_FOREIGN + name: self._adopted_name(name, d) for name, d in definitions.items()}
        for name, definition in definitions.items():
            self.definitions[names[_FOREIGN + name]] = self._adopt_object(definition, names)
        return self._adopt_object(document, names)

    def _adopt_object(self, schema: JsonSchema, names: Mapping[str, str]) -> JsonSchema:
        adopted: JsonSchema = _with_references(schema, names)
        if self._forbid_extra and "properties" in adopted:
            adopted.setdefault("additionalProperties", False)
        return adopted

    def _adopted_name(self, name: str, definition: JsonSchema) -> str:
        for known, adopted in self._adopted.items():
            if adopted == definition:
                return known
        new = self._new_name(name)
        self._adopted[new] = self.definitions[new] = definition
        return new

    def _new_name(self, name: str) -> str:
        # `shop.Box[int]` is Box_int.
        name = re.sub(r"\W+", "_", re.sub(r"\w+\.", "", name)).strip("_")
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        return next(n for n in itertools.chain([name], numbered) if n not in self.definitions)


_BUILDERS = [
    (is_annotated, _Builder.annotated),
    (is_union, _Builder.union),
    (is_literal, _Builder.choices),
    (is_enum, _Builder.choices),
    (is_schema, _Builder.dict_schema),
    (is_pydantic_model, _Builder.pydantic_model),
    (is_msgspec_struct, _Builder.msgspec_struct),
    (is_namedtuple, _Builder.reference),
    (is_typeddict, _Builder.reference),
    (is_class, _Builder.reference),
    (is_array, _Builder.array),
    (is_mapping, _Builder.mapping),
]


def _with_references(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a schema whose references go to the definitions' names here."""
    if isinstance(schema, dict):
        return {
            key: f"#/$defs/{names[value]}" if key == "$ref" else _with_references(value, names)
            for key, value in schema.items()
        }
    return (
        [_with_references(item, names) for item in schema] if isinstance(schema, list) else schema
    )


# The fields of classes.


def _class_fields(target: Any) -> dict[str, Field]:
    cls = origin_class(target)
    texts = read_descriptions(cls)
    if is_typeddict(cls):
        typed = {
            name: (hint, required, UNKNOWN)
            for name, (hint, required) in typeddict_fields(cls).items()
        }
    else:
        hints, defaults = json_fields(target), _defaults(cls)
        typed = {name: (_init_type(hint), *defaults[name]) for name, hint in hints.items()}
    return {name: Field(*parts, texts.get(name, "")) for name, parts in typed.items()}


# Factories whose values are the same each time.
_EMPTY_CONTAINERS = (list, dict, set, tuple, frozenset)


def _defaults(cls: Any) -> dict[str, tuple[bool, Any]]:
    """Return whether each field of a class is required, and its default if that is known."""
    if is_namedtuple(cls):
        defaults = cls._field_defaults
        return {n: (n not in defaults, defaults.get(n, UNKNOWN)) for n in cls._fields}
    if attrs.has(cls):
        return {field.name: _attrs_default(field) for field in attrs.fields(cls) if field.init}
    fields = (*dataclasses.fields(cls), *init_vars(cls).values())
    return {field.name: _dataclass_default(field) for field in fields if field.init}


def _attrs_default(field: Any) -> tuple[bool, Any]:
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        known = default.factory in _EMPTY_CONTAINERS
        return False, default.factory() if known else UNKNOWN
    return (True, UNKNOWN) if default is attrs.NOTHING else (False, default)


def _dataclass_default(field: Any) -> tuple[bool, Any]:
    if field.default is not dataclasses.MISSING:
        return False, field.default
    factory = field.default_factory
    known = factory in _EMPTY_CONTAINERS
    return factory is dataclasses.MISSING, factory() if known else UNKNOWN


def _init_type(hint: Any) -> Any:
    """Return the type of a dataclass field inside `InitVar`."""
    if hint is dataclasses.InitVar:
        return Any
    return hint.type if isinstance(hint, dataclasses.InitVar) else hint
