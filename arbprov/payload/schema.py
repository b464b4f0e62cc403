"""`payload_schema=` and `account_schema=`: schemas as data, compiled to types.

A schema is a class, or a dict of types as in ``{"user": {"emails": [str], "age": Optional[int]}}``.
A dict becomes a subclass of `Schema`: validated like a class, but the handler gets a dict.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from cattrs import Converter

from arbprov.errors import ConfigurationError, Problem
from arbprov.payload.structuring import StructureHook
from arbprov.payload.validation import (
    MISSING,
    Problems,
    add_unknown_fields,
    expect_object,
    field_path,
    join_paths,
)

__all__ = ["Schema", "compile_schema", "is_schema", "make_schema_hook"]


class Schema(dict[str, Any]):
    """A JSON object with declared fields; each subclass is the type of an object in a schema."""

    fields: Mapping[str, Any] = {}


def compile_schema(declaration: Any, path: str) -> Any:
    """Return the type that a schema, or a part of it, stands for.

    Args:
        declaration: A type, ``{name: declaration}``, ``[declaration]``, or a generic type such as
            ``List[{...}]``.
        path: The path of the declaration, such as ``payload_schema.user``.

    Raises:
        ConfigurationError: A part of it is not a type; the message has the path.
    """
    if isinstance(declaration, dict):
        for name in declaration:
            if not isinstance(name, str):
                raise ConfigurationError(f"{path}: the field name {name!r} is not a string")
        fields = {
            name: compile_schema(part, join_paths(path, field_path(name)))
            for name, part in declaration.items()
        }
        return type(path, (Schema,), {"fields": fields})
    if isinstance(declaration, list):
        if len(declaration) != 1:
            raise ConfigurationError(
                f"{path}: a list in a schema has one item, the type of its items"
            )
        return list[compile_schema(declaration[0], f"{path}[]")]  # type: ignore[misc]
    if declaration is None or declaration is Ellipsis:
        return type(None) if declaration is None else ...
    if arguments := typing.get_args(declaration):
        return _compile_generic(declaration, arguments, path)
    is_newtype = hasattr(declaration, "__supertype__")
    if isinstance(declaration, type) or declaration is Any or is_newtype:
        return declaration
    if bare := typing.get_origin(declaration):  # such as typing.List
        return bare
    raise ConfigurationError(
        f"{path}: {declaration!r} is not a type; write a type such as str or [str]"
    )


def _compile_generic(declaration: Any, arguments: tuple[Any, ...], path: str) -> Any:
    origin = typing.get_origin(declaration)
    if origin in (typing.Literal, typing.Annotated):
        return declaration
    compiled = tuple(compile_schema(part, f"{path}[]") for part in arguments)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[compiled]  # noqa: UP007 - `|` can't join a tuple
    return types.GenericAlias(origin, compiled)


def is_schema(target: Any) -> bool:
    """Tell whether `target` is a compiled dict schema."""
    return isinstance(target, type) and issubclass(target, Schema)


def make_schema_hook(target: type[Schema], converter: Converter) -> StructureHook:
    """Return the structure hook that fills the dict that `target` describes.

    Fields that the schema does not have stay in the dict. A field whose type takes None may be
    missing; it is None then.
    """
    # Never from the cache: `date | str` equals `str | date`, and is another type.
    hooks = {
        name: (converter.get_structure_hook(field_type, cache_result=False), field_type)
        for name, field_type in target.fields.items()
    }
    optional = {n for n, t in target.fields.items() if type(None) in (t, *typing.get_args(t))}
    forbid_extra = converter.forbid_extra_keys

    def structure(value: Any, _: Any) -> dict[str, Any]:
        structured = dict(expect_object(value))
        problems = Problems()
        if forbid_extra:
            add_unknown_fields(problems, value.keys() - hooks.keys(), hooks)
        for name, (hook, field_type) in hooks.items():
            if name not in value and name not in optional:
                problems.append(Problem(field_path(name), MISSING))
                continue
            try:
                structured[name] = hook(value.get(name), field_type)
            except Exception as error:
                problems.add(error, field_path(name))
        problems.check()
        return structured

    return structure
