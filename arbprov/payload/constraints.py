"""The metadata of `Annotated` types: validators, and constraints of several libraries.

Constraints of annotated-types and of `msgspec.Meta` are enforced here; pydantic enforces its own.
Nothing is ignored silently: metadata that is neither enforced nor a comment is refused.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

from arbprov.errors import Problem
from arbprov.payload.structuring import UnsupportedTypeError
from arbprov.payload.validation import ValidationFailure, type_name

__all__ = ["Check", "check_default", "compile_metadata", "json_keywords"]

# Returns the value, or another in its place; raises an error that says how it does not fit.
Check = Callable[[Any], Any]


def compile_metadata(target: Any, inner: Any, metadata: Iterable[Any]) -> list[Check]:
    """Return the checks for the metadata of an Annotated type, in their order.

    Args:
        target: The Annotated type.
        inner: The type inside it.
        metadata: The metadata of `target`.

    Raises:
        UnsupportedTypeError: A part of the metadata would be ignored; the error names it.
    """
    checks = []
    for item in metadata:
        check = _compile_item(target, inner, item)
        if check is not None:
            checks.append(check)
    return checks


def check_default(default: Any) -> None:
    """Refuse a field declaration that stands where a parameter's default value is.

    Raises:
        TypeError: It is a pydantic, msgspec, attrs or dataclass field.
    """
    if type(default).__name__ in ("FieldInfo", "_CountingAttr", "Field") and _libraries(default) & {
        "pydantic",
        "msgspec",
        "attr",
        "dataclasses",
    }:
        raise TypeError(
            "its default is the declaration of a field, which only a class can have; write "
            "Annotated[type, ...] for the constraints, and a plain default"
        )


def _libraries(item: Any) -> set[str]:
    """Return the names of the packages that define the classes of an object."""
    return {cls.__module__.partition(".")[0] for cls in type(item).__mro__}


def _compile_item(target: Any, inner: Any, item: Any) -> Check | None:
    """Return the check that an item of the metadata stands for, or None for a comment."""
    # A string is a comment, and pydantic's `conint()` leaves None where it has no constraint.
    if item is None or isinstance(item, str) or type(item).__name__ in _COMMENTS:
        return None
    libraries = _libraries(item)
    if libraries & {"pydantic", "pydantic_core"}:
        return _pydantic_check(target, inner, item)
    if "msgspec" in libraries:
        if type(item).__name__ != "Meta":
            raise _refusal(target, item)
        # The other attributes of a `msgspec.Meta` are comments.
        bounds = {name: getattr(item, name) for name in _MAKERS}
        return _all_of(_MAKERS[name](b) for name, b in bounds.items() if b is not None)
    if "annotated_types" in libraries:
        return _all_of(_annotated_types(target, item))
    # A match of a pattern returns None if there is none, as a validator does if all is well.
    is_match = isinstance(getattr(item, "__self__", None), re.Pattern)
    is_type = isinstance(item, type) or typing.get_origin(item) is not None
    if callable(item) and not is_type and not is_match:
        return _validator_check(item)
    raise _refusal(target, item)


# Of typing_extensions and annotated-types.
_COMMENTS = ("Doc", "DocInfo", "Unit")


def _refusal(
    target: Any, item: Any, reason: str = "it is not a constraint"
) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        target,
        f", since {reason} that arbprov can enforce: {item!r}; write a function that raises "
        f"ValueError, or a constraint of annotated-types, msgspec.Meta or pydantic.Field",
    )


def _all_of(checks: Iterable[Check]) -> Check:
    """Return a check that makes several checks; null fits a constraint, as in other libraries."""
    listed = list(checks)

    def check(value: Any) -> Any:
        if value is not None:
            for part in listed:
                part(value)
        return value

    return check


# Validators.


def _validator_check(validator: Callable[..., Any]) -> Check:
    call = validator
    with contextlib.suppress(ValueError):  # some functions written in C have no signature
        parameters = inspect.signature(validator).parameters.values()
        if len([p for p in parameters if p.default is inspect.Parameter.empty]) == 3:
            # An attrs validator takes the attribute, too, and names it in its messages.
            attribute = types.SimpleNamespace(name="value")
            call = functools.partial(validator, None, attribute)
    name = getattr(validator, "__qualname__", None) or repr(validator)

    def check(value: Any) -> Any:
        returned = call(value)
        if returned is False:
            raise ValidationFailure(f"is refused by {name}")
        # Some validators return the value. Another value would be lost silently.
        if not (returned is None or returned is True or returned is value or returned == value):
            raise ValidationFailure(
                f"can't be checked by {name}: it returned {type_name(type(returned))}, and a "
                f"validator raises an error, or returns None, True, False or the value"
            )
        return value

    return check


# Constraints.


def _constraint(fits: Callable[[Any], object], expected: str) -> Check:
    def check(value: Any) -> Any:
        try:
            fine = bool(fits(value))
        except TypeError:
            raise ValidationFailure(
                f"{expected}, and {type_name(type(value))} can't be compared with that"
            ) from None
        if not fine:
            raise ValidationFailure(expected)
        return value

    return check


def _timezone(aware: bool) -> Check:
    return _constraint(
        lambda value: (value.tzinfo is not None) is aware,
        "must have a time zone" if aware else "must not have a time zone",
    )


# Return the check of a bound, by the attribute that holds the bound.
_MAKERS: dict[str, Callable[[Any], Check]] = {
    "gt": lambda bound: _constraint(lambda value: value > bound, f"must be greater than {bound}"),
    "ge": lambda bound: _constraint(lambda value: value >= bound, f"must be at least {bound}"),
    "lt": lambda bound: _constraint(lambda value: value < bound, f"must be less than {bound}"),
    "le": lambda bound: _constraint(lambda value: value <= bound, f"must be at most {bound}"),
    "multiple_of": lambda step: _constraint(
        lambda value: value % step == 0, f"must be a multiple of {step}"
    ),
    "min_length": lambda bound: _constraint(
        lambda value: len(value) >= bound, f"must have a length of at least {bound}"
    ),
    "max_length": lambda bound: _constraint(
        lambda value: len(value) <= bound, f"must have a length of at most {bound}"
    ),
    "pattern": lambda pattern: _constraint(re.compile(pattern).search, f"must match {pattern!r}"),
    "tz": _timezone,
}
# The attribute of each class of annotated-types that holds its bound.
_ANNOTATED_TYPES = {
    "Gt": "gt",
    "Ge": "ge",
    "Lt": "lt",
    "Le": "le",
    "MultipleOf": "multiple_of",
    "MinLen": "min_length",
    "MaxLen": "max_length",
}


def _annotated_types(target: Any, item: Any) -> Iterator[Check]:
    """Yield the checks of a constraint, or a group of constraints, of annotated-types."""
    import annotated_types

    name = type(item).__name__
    if isinstance(item, annotated_types.GroupedMetadata):
        checks = (_compile_item(target, Any, part) for part in item)
        yield from (check for check in checks if check is not None)
    elif type(item).__module__ == annotated_types.__name__ and name in _ANNOTATED_TYPES:
        attribute = _ANNOTATED_TYPES[name]
        yield _MAKERS[attribute](getattr(item, attribute))
    elif name == "Timezone" and item.tz in (None, ...):
        yield _timezone(item.tz is ...)
    elif name == "Predicate":
        predicate = item.func
        text = getattr(predicate, "__qualname__", None) or repr(predicate)
        yield _constraint(predicate, f"is refused by {text}")
    else:
        raise _refusal(target, item)


def _pydantic_check(target: Any, inner: Any, item: Any) -> Check:
    """Return the check by pydantic itself; it may also convert the value."""
    import pydantic
    from pydantic_core import PydanticUndefined

    if type(item).__name__ in ("BeforeValidator", "PlainValidator", "WrapValidator"):
        raise _refusal(target, item, "it runs before the type is checked, and is not a constraint")
    unset = {"validation_alias": None, "default_factory": None, "default": PydanticUndefined}
    for name, nothing in unset.items():
        if type(item).__name__ == "FieldInfo" and getattr(item, name) is not nothing:
            raise _refusal(
                target, item, f"its {name} is for fields of a pydantic model, and not a constraint"
            )
    annotated: Any = Annotated[inner, item]
    try:
        try:
            adapter = pydantic.TypeAdapter(annotated)
        except pydantic.errors.PydanticSchemaGenerationError:  # attrs classes are strange to it
            config = pydantic.ConfigDict(arbitrary_types_allowed=True)
            adapter = pydantic.TypeAdapter(annotated, config=config)
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise _refusal(target, item, f"pydantic says: {text}; it is not a constraint") from None

    def check(value: Any) -> Any:
        try:
            return adapter.validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            messages = [detail["msg"] for detail in error.errors(include_url=False)]
            raise ValidationFailure([Problem("", "; ".join(messages))]) from None

    return check


# JSON Schema.

_KEYWORDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
# The keywords of a length, by the JSON type of the value.
_LENGTHS = {
    "string": {"min_length": "minLength", "max_length": "maxLength"},
    "array": {"min_length": "minItems", "max_length": "maxItems"},
    "object": {"min_length": "minProperties", "max_length": "maxProperties"},
}


def json_keywords(item: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema keywords for an item of the metadata of an Annotated type.

    Functions and predicates have none.

    Args:
        item: The item.
        schema: The schema of the type inside.
    """
    if isinstance(item, str):
        return {"description": item}
    keywords: dict[str, Any] = {}
    for name in ("title", "description", "examples"):
        if value := getattr(item, name, None):
            keywords[name] = value
    if documentation := getattr(item, "documentation", None):
        keywords["description"] = documentation
    kinds = [kind for kind in _LENGTHS if kind == schema.get("type")] or list(_LENGTHS)
    for name, bound in _bounds(item):
        if name in _KEYWORDS:
            keywords[_KEYWORDS[name]] = bound
        elif "contentEncoding" not in schema:  # a length is that of the bytes, not of the text
            keywords |= {_LENGTHS[kind][name]: bound for kind in kinds}
    return keywords


def _bounds(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield the bounds of a constraint, or of each constraint in a group, by their names."""
    parts = getattr(item, "metadata", None) or (item if isinstance(item, Iterable) else ())
    for part in parts:
        yield from _bounds(part)
    for name in (*_KEYWORDS, *_LENGTHS["array"]):
        bound = getattr(item, name, None)
        bound = getattr(bound, "pattern", bound)
        is_number = isinstance(bound, (int, float)) and not isinstance(bound, bool)
        if isinstance(bound, str) if name == "pattern" else is_number:
            yield name, bound
