"""The converter itself: which hook serves which type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cattrs import Converter

from arbprov.payload import choices, classes, containers, scalars, unions
from arbprov.payload.common import Factory, Hook, UnfillableTypeError, is_union
from arbprov.payload.models import (
    is_msgspec_struct,
    is_pydantic_model,
    msgspec_hook,
    pydantic_hook,
)
from arbprov.payload.schema import is_schema, schema_factory

__all__ = ["make_converter"]


def _refuse(target: Any) -> Hook:
    raise UnfillableTypeError(target)


# Asked from the last to the first.
_FACTORIES: list[tuple[Callable[[Any], bool], Factory]] = [
    (classes.is_class, classes.class_factory),
    (classes.is_typeddict, classes.typeddict_factory),
    (classes.is_namedtuple, classes.namedtuple_factory),
    (containers.is_array, containers.array_factory),
    (containers.is_mapping, containers.mapping_factory),
    (choices.is_enum, choices.enum_factory),
    (choices.is_literal, choices.literal_factory),
    (is_union, unions.union_factory),
    (unions.is_annotated, unions.annotated_factory),
    (is_schema, schema_factory),
    (is_pydantic_model, lambda model, _: pydantic_hook(model)),
    (is_msgspec_struct, lambda struct, _: msgspec_hook(struct)),
]


def make_converter(*, forbid_extra: bool = False) -> Converter:
    """Return a strict converter.

    Args:
        forbid_extra: Whether a field that a class does not have is a problem.
    """
    converter = Converter(forbid_extra_keys=forbid_extra, structure_fallback_factory=_refuse)
    for kind, check in scalars.SCALARS.items():
        converter.register_structure_hook(kind, scalars.scalar_hook(kind, check))
    converter.register_structure_hook_func(lambda t: t in (Any, object), lambda value, _: value)
    # In an annotation, None stands for its type.
    null = scalars.scalar_hook(None, scalars.SCALARS[type(None)])
    converter.register_structure_hook_func(lambda t: t is None, null)
    for predicate, factory in _FACTORIES:
        converter.register_structure_hook_factory(predicate)(factory)
    return converter
