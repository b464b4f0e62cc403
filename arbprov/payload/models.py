"""Structuring pydantic and msgspec models by their own rules, where those are installed.

Neither is imported before a handler names one of its models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from arbprov.errors import Problem
from arbprov.payload.validation import MISSING, ValidationFailure, field_path, join_paths

Hook = Callable[[Any, Any], Any]


def is_pydantic_model(target: Any) -> bool:
    """Tell whether `target` is a class of pydantic's."""
    return isinstance(target, type) and hasattr(target, "__pydantic_validator__")


def pydantic_hook(model: Any) -> Hook:
    """Return the hook that has `model` validate itself, strictly."""
    import json

    from pydantic import ValidationError

    def structure(value: Any, _: Any) -> Any:
        try:
            # Strict Python input refuses "2026-03-20" as a date; strict JSON input takes it.
            return model.__pydantic_validator__.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ValidationFailure([_pydantic_problem(one) for one in found])

    return structure


def _pydantic_problem(error: Any) -> Problem:
    path = ""
    for step in error["loc"]:
        path = join_paths(path, f"[{step}]" if isinstance(step, int) else field_path(step))
    missing = error["type"] == "missing"
    return Problem(path, MISSING if missing else error["msg"])


def is_msgspec_struct(target: Any) -> bool:
    """Tell whether `target` is a struct of msgspec's."""
    return isinstance(target, type) and hasattr(target, "__struct_fields__")


_MSGSPEC_PATH = r"(?P<message>.*) - at `\$\.?(?P<path>.*)`"


def msgspec_hook(struct: Any) -> Hook:
    """Return the hook that has msgspec build `struct`; it reports its first problem only."""
    import msgspec

    def structure(value: Any, _: Any) -> Any:
        try:
            return msgspec.convert(value, struct, strict=True)
        except msgspec.ValidationError as error:
            text = str(error)
        match = re.fullmatch(_MSGSPEC_PATH, text, re.DOTALL)
        raise ValidationFailure(
            [Problem(match["path"], match["message"]) if match else Problem("", text)]
        )

    return structure


def is_foreign_model(target: Any) -> bool:
    """Tell whether `target` is a class of either."""
    return is_pydantic_model(target) or is_msgspec_struct(target)


def model_data(value: Any) -> Any:
    """Return what JSON shows of a pydantic model or a msgspec struct.

    Raises:
        Misfit: Its library can't write it.
    """
    try:
        return _pydantic_data(value) if is_pydantic_model(type(value)) else _msgspec_data(value)
    except ValidationFailure:
        raise
    except Exception as error:
        raise ValidationFailure(f"{type(value).__name__} can't be written: {error}") from None


def _pydantic_data(value: Any) -> Any:
    # In JSON, pydantic writes NaN as null, and nobody would notice.
    if problems := list(_not_finite(value.model_dump(), "")):
        raise ValidationFailure(problems)
    return value.model_dump(mode="json")


def _not_finite(data: Any, path: str) -> Iterator[Problem]:
    if isinstance(data, float) and not math.isfinite(data):
        yield Problem(path, f"{data} is no JSON number")
    elif isinstance(data, dict):
        for name, item in data.items():
            yield from _not_finite(item, join_paths(path, field_path(str(name))))
    elif isinstance(data, (list, tuple)):
        for index, item in enumerate(data):
            yield from _not_finite(item, f"{path}[{index}]")


def _msgspec_data(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
