"""`payload_schema=` and `account_schema=`: what the author wrote, as a type to structure into.

A schema is a class, or a dict of types as in ``{"user": {"emails": [str], "age": Optional[int]}}``.
A dict becomes a `Schema`: validated like a class, yet handed to the handler as the dict it is.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from cattrs import Converter

from arbprov.errors import ConfigurationError
from arbprov.payload.validation import (
    MISSING,
    ValidationFailure,
    expect_object,
    field_path,
    join_paths,
    unknown_fields,
)

__all__ = ["Schema", "compile_schema", "is_schema", "schema_factory"]


class Schema(dict[str, Any]):
    """The fields of one object of a ``payload_schema``; its subclasses are the types."""

    fields: Mapping[str, Any] = {}


def compile_schema(written: Any, path: str) -> Any:
    """Return the type that a schema, or a part of one, stands for.

    Args:
        written: A type, ``{name: schema}``, ``[schema]``, or a generic such as ``List[{...}]``.
        path: How errors name it, as in ``payload_schema``.

    Raises:
        ConfigurationError: Something in it is no type; the message has its path.
    """
    if isinstance(written, dict):
        return _compile_object(written, path)
    if isinstance(written, list):
        return _compile_array(written, path)
    if written is None or written is Ellipsis:
        return type(None) if written is None else ...
    if arguments := typing.get_args(written):
        return _compile_generic(written, arguments, path)
    if isinstance(written, type) or written is Any or hasattr(written, "__supertype__"):
        return written
    if bare := typing.get_origin(written):  # such as typing.List
        return bare
    raise ConfigurationError(f"{path}: {written!r} is no type; write one such as str or [str]")


def _compile_object(written: dict[str, Any], path: str) -> type[Schema]:
    for name in written:
        if not isinstance(name, str):
            raise ConfigurationError(f"{path}: the field name {name!r} is no string")
    fields = {
        name: compile_schema(part, join_paths(path, field_path(name)))
        for name, part in written.items()
    }
    return type(path, (Schema,), {"fields": fields})


def _compile_array(written: list[Any], path: str) -> Any:
    if len(written) != 1:
        raise ConfigurationError(f"{path}: a list in a schema has one item, the type of its items")
    return list[compile_schema(written[0], f"{path}[]")]  # type: ignore[misc]


def _compile_generic(written: Any, arguments: tuple[Any, ...], path: str) -> Any:
    origin = typing.get_origin(written)
    if origin in (typing.Literal, typing.Annotated):
        return written
    compiled = tuple(compile_schema(part, f"{path}[]") for part in arguments)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[compiled]  # noqa: UP007 - of a tuple, `|` has no form
    return types.GenericAlias(origin, compiled)


def is_schema(target: Any) -> bool:
    """Tell whether `target` is a compiled dict schema."""
    return isinstance(target, type) and issubclass(target, Schema)


def schema_factory(target: type[Schema], converter: Converter) -> Any:
    """Return the hook that structures an object into the dict that `target` describes."""
    # None that is known already, since `date | str` equals `str | date`, and is another type.
    hooks = {
        name: (converter.get_structure_hook(field_type, cache_result=False), field_type)
        for name, field_type in target.fields.items()
    }
    forbid_extra = converter.forbid_extra_keys

    def structure(value: Any, _: Any) -> dict[str, Any]:
        structured = dict(expect_object(value))
        problems = unknown_fields(value, list(hooks)) if forbid_extra else []
        for name, (hook, field_type) in hooks.items():
            try:
                structured[name] = hook(_field(value, name, field_type), field_type)
            except Exception as error:
                problems += ValidationFailure.of(error).below(field_path(name))
        if problems:
            raise ValidationFailure(problems)
        return structured

    return structure


def _field(value: dict[str, Any], name: str, field_type: Any) -> Any:
    if name in value:
        return value[name]
    if is_optional(field_type):
        return None
    raise ValidationFailure(MISSING)


def is_optional(target: Any) -> bool:
    """Tell whether a schema's field may be left out: its type takes None."""
    return type(None) in (target, *typing.get_args(target))
