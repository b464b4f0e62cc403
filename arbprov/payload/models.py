"""pydantic and msgspec models, structured and serialized by their own rules.

Neither library is imported before a handler names a model of it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from typing import Any, Literal

from cattrs import Converter

from arbprov.errors import Problem
from arbprov.payload.structuring import StructureHook
from arbprov.payload.validation import (
    MAX_PROBLEMS,
    MISSING,
    OwnWords,
    Problems,
    ValidationFailure,
    field_path,
    join_paths,
)

__all__ = [
    "encode_model",
    "is_foreign_model",
    "is_msgspec_struct",
    "is_pydantic_model",
    "keeps_extra",
    "make_msgspec_hook",
    "make_pydantic_hook",
    "model_json_fields",
    "reads_raw_fields",
    "reshapes_value",
    "root_type",
    "unknown_fields_rule",
]

_MSGSPEC_ERROR = re.compile(
    r"(?P<message>.*) - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`", re.DOTALL
)


def is_pydantic_model(target: Any) -> bool:
    """Tell whether `target` is a pydantic model."""
    return isinstance(target, type) and hasattr(target, "__pydantic_validator__")


def is_msgspec_struct(target: Any) -> bool:
    """Tell whether `target` is a msgspec struct."""
    return isinstance(target, type) and hasattr(target, "__struct_fields__")


def is_foreign_model(target: Any) -> bool:
    """Tell whether `target` is a pydantic model or a msgspec struct."""
    return is_pydantic_model(target) or is_msgspec_struct(target)


def model_json_fields(target: Any) -> dict[str, Any]:
    """Return the types of a model's fields by their names in JSON, aliases included.

    The type is Any where code of the model may read the value before the type does.
    """
    if is_msgspec_struct(target):
        import msgspec

        fields = {field.encode_name: field.type for field in msgspec.structs.fields(target)}
        config = target.__struct_config__
        return {**fields, config.tag_field: Literal[config.tag]} if config.tag_field else fields
    config = _pydantic_config(target)
    types: dict[str, Any] = {}
    for name, field in target.__pydantic_fields__.items():
        if getattr(field, "init", None) is False:
            continue
        is_reshaped = any(map(reshapes_value, field.metadata)) or any(
            validator.info.mode in _RESHAPING_MODES and {name, "*"} & {*validator.info.fields}
            for validator in target.__pydantic_decorators__.field_validators.values()
        )
        for alias in _pydantic_aliases(name, field, config):
            if isinstance(alias, str):
                types[alias] = Any if is_reshaped else field.annotation
            else:  # a path into the object, to a part of it
                types[alias.path[0]] = Any
    return types


def _pydantic_config(target: Any) -> dict[str, Any]:
    # A dataclass of pydantic has its configuration elsewhere.
    config: dict[str, Any] = getattr(target, "model_config", None) or getattr(
        target, "__pydantic_config__", {}
    )
    return config


def _pydantic_aliases(name: str, field: Any, config: dict[str, Any]) -> list[Any]:
    """Return the names and paths of a pydantic model's field in a payload."""
    alias = field.validation_alias
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    aliases = getattr(alias, "choices", [] if alias is None else [alias])
    if not config.get("validate_by_alias", True):
        aliases = []
    return [*aliases, *[name] * bool(by_name or alias is None)]


def unknown_fields_rule(target: Any) -> str | None:
    """Return a model's own rule for unknown fields: ``"allow"``, ``"ignore"`` or ``"forbid"``."""
    if is_msgspec_struct(target):
        return "forbid" if target.__struct_config__.forbid_unknown_fields else None
    return _pydantic_config(target).get("extra") if is_pydantic_model(target) else None


def keeps_extra(target: Any) -> bool:
    """Tell whether `target` is a pydantic model that keeps the fields that it does not know."""
    return unknown_fields_rule(target) == "allow"


def root_type(target: Any) -> Any:
    """Return the type inside a pydantic RootModel; None for other types."""
    if not getattr(target, "__pydantic_root_model__", False):
        return None
    return Any if reads_raw_fields(target) else model_json_fields(target)["root"]


_RESHAPING_MODES = ("before", "wrap", "plain")


def reads_raw_fields(target: Any) -> bool:
    """Tell whether the code of a pydantic model may read the object before its fields are read."""
    if not is_pydantic_model(target):
        return False
    decorators = target.__pydantic_decorators__
    validators = [*decorators.model_validators.values(), *decorators.root_validators.values()]
    return getattr(target, "__pydantic_custom_init__", False) or any(
        validator.info.mode in _RESHAPING_MODES for validator in validators
    )


def reshapes_value(item: Any) -> bool:
    """Tell whether an item of Annotated's metadata may read a value before its type does."""
    names = ("BeforeValidator", "WrapValidator", "PlainValidator", "GetPydanticSchema")
    return type(item).__name__ in names


def make_pydantic_hook(model: Any, _: Converter) -> StructureHook:
    """Return the structure hook of a pydantic model; it validates itself in strict mode."""
    import json

    from pydantic import ValidationError

    def structure(value: Any, _: Any) -> Any:
        try:
            # Strict Python input refuses "2026-03-20" as a date; strict JSON input accepts it.
            return model.__pydantic_validator__.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False, include_input=False)
        problems = Problems()
        for detail in errors:
            steps = [f"[{s}]" if isinstance(s, int) else field_path(s) for s in detail["loc"]]
            message = MISSING if detail["type"] == "missing" else detail["msg"]
            problems.append(Problem(functools.reduce(join_paths, steps, ""), message))
        raise ValidationFailure(problems.listed, problems.count)

    return structure


def make_msgspec_hook(struct: Any, _: Converter) -> StructureHook:
    """Return the structure hook of a msgspec struct; it reports its first problem only."""
    import msgspec

    def structure(value: Any, _: Any) -> Any:
        try:
            # The keys of a JSON object are strings, also those of a `dict[int, ...]`.
            return msgspec.convert(value, struct, strict=True, str_keys=True)
        except msgspec.ValidationError as error:
            text = str(error)
        match = _MSGSPEC_ERROR.fullmatch(text)
        if match is None:
            raise ValidationFailure([Problem("", text)])
        message = match["message"] + (" as a key" if match["key"] else "")
        raise ValidationFailure([Problem(match["path"], message)])

    return structure


def encode_model(value: Any) -> Any:
    """Return a pydantic model or a msgspec struct as its library serializes it.

    Raises:
        ValidationFailure: The library can't serialize it, or a number in it is not finite.
    """
    try:
        if is_pydantic_model(type(value)):
            # pydantic would write NaN as null.
            problems = list(_find_non_finite(value.model_dump(), ""))
            data = None if problems else value.model_dump(mode="json")
        else:
            import msgspec

            problems, data = [], msgspec.to_builtins(value, str_keys=True)
    except Exception as error:
        text = f"{type(value).__name__} can't be written: {error}"
        raise ValidationFailure([Problem("", text)]) from None
    if problems:
        raise ValidationFailure(problems[:MAX_PROBLEMS], len(problems))
    return data


def _find_non_finite(data: Any, path: str) -> Iterator[Problem]:
    if isinstance(data, float) and not math.isfinite(data):
        yield Problem(path, OwnWords(f"{data} is not a JSON number"))
    elif isinstance(data, dict):
        for name, item in data.items():
            yield from _find_non_finite(item, join_paths(path, field_path(str(name))))
    elif isinstance(data, (list, tuple)):
        for index, item in enumerate(data):
            yield from _find_non_finite(item, f"{path}[{index}]")
