"""The converter: a structure hook for each type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cattrs import Converter

from arbprov.payload import classes, containers, ignored, models, scalars, schema, unions
from arbprov.payload.structuring import HookFactory, StructureHook, UnsupportedTypeError, is_union

__all__ = ["make_converter"]

Factories = list[tuple[Callable[[Any], bool], HookFactory]]
_MODEL_FACTORIES: Factories = [
    (models.is_pydantic_model, models.make_pydantic_hook),
    (models.is_msgspec_struct, models.make_msgspec_hook),
]
# cattrs asks the factory that was registered last first.
_FACTORIES: Factories = [
    (classes.is_class, classes.make_class_hook),
    (classes.is_typeddict, classes.make_typeddict_hook),
    (classes.is_namedtuple, classes.make_namedtuple_hook),
    (containers.is_array, containers.make_array_hook),
    (containers.is_mapping, containers.make_mapping_hook),
    (scalars.is_enum, scalars.make_enum_hook),
    (scalars.is_literal, scalars.make_literal_hook),
    (is_union, unions.make_union_hook),
    (unions.is_annotated, unions.make_annotated_hook),
    (schema.is_schema, schema.make_schema_hook),
    *_MODEL_FACTORIES,
]


def make_converter(*, forbid_extra: bool = False) -> Converter:
    """Return a converter that casts nothing silently.

    Args:
        forbid_extra: Whether a field that a class does not have is a problem.
    """

    def refuse(target: Any) -> StructureHook:
        raise UnsupportedTypeError(target)

    converter = Converter(forbid_extra_keys=forbid_extra, structure_fallback_factory=refuse)
    for kind, check in scalars.SCALARS.items():
        converter.register_structure_hook(kind, scalars.make_scalar_hook(kind, check))
    converter.register_structure_hook_func(lambda t: t in (Any, object), lambda value, _: value)
    # In an annotation, None stands for its type.
    null = scalars.make_scalar_hook(None, scalars.SCALARS[type(None)])
    converter.register_structure_hook_func(lambda t: t is None, null)
    for predicate, factory in _FACTORIES:
        converter.register_structure_hook_factory(predicate)(factory)
    if forbid_extra:
        lenient = make_converter()
        for predicate, factory in _MODEL_FACTORIES:
            forbidding = ignored.make_forbidding(factory, lenient)
            converter.register_structure_hook_factory(predicate)(forbidding)
    return converter
