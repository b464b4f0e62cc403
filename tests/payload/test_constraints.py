"""Metadata of `Annotated` is enforced, or refused at registration by name: never ignored."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import re
from typing import Annotated, Any, NamedTuple, NewType

import annotated_types
import attrs
import msgspec
import pydantic
import pytest
from pydantic import Field
from support.structuring import refusal, structure
from typing_extensions import Doc, TypedDict

from arbprov import ProviderApp
from arbprov.errors import ConfigurationError


@attrs.frozen
class Attrs:
    amount: Annotated[int, annotated_types.Gt(0)]


@dataclasses.dataclass
class Data:
    amount: Annotated[int, annotated_types.Gt(0)]


class Typed(TypedDict):
    amount: Annotated[int, annotated_types.Gt(0)]


class Named(NamedTuple):
    amount: Annotated[int, annotated_types.Gt(0)]


Positive = NewType("Positive", Annotated[int, annotated_types.Gt(0)])


def is_even(value):
    return value % 2 == 0


def message_of(target, value):
    """Return the message of a value's only problem."""
    ((path, message),) = refusal(target, value)
    assert path.startswith("value")
    return message


@pytest.mark.parametrize("target", [Attrs, Data, Typed, Named])
def test_a_constraint_holds_in_the_fields_of_a_class(target):
    assert refusal(target, {"amount": -3}) == [("value.amount", "must be greater than 0")]
    assert structure(target, {"amount": 3})[1].status == "success"


def test_a_constraint_holds_inside_containers_and_under_other_names():
    assert refusal(list[Annotated[int, annotated_types.Gt(0)]], [1, -1]) == [
        ("value[1]", "must be greater than 0")
    ]
    assert refusal(dict[Annotated[str, annotated_types.MaxLen(1)], int], {"ab": 1}) == [
        ("value.ab", "must have a length of at most 1")
    ]
    assert refusal(Positive, -1) == [("value", "must be greater than 0")]


@pytest.mark.parametrize(
    ("target", "fits", "wrong", "message"),
    [
        (Annotated[int, annotated_types.Ge(2)], 2, 1, "must be at least 2"),
        (Annotated[int, annotated_types.Lt(2)], 1, 2, "must be less than 2"),
        (Annotated[int, annotated_types.Le(2)], 2, 3, "must be at most 2"),
        (Annotated[int, annotated_types.Interval(gt=1, lt=3)], 2, 3, "must be less than 3"),
        (Annotated[int, annotated_types.MultipleOf(2)], 4, 3, "must be a multiple of 2"),
        (Annotated[str, annotated_types.Len(1, 2)], "a", "", "must have a length of at least 1"),
        (Annotated[list[int], annotated_types.MaxLen(1)], [1], [1, 2],
         "must have a length of at most 1"),
        (annotated_types.LowerCase[str], "a", "A", "is refused by str.islower"),
        (Annotated[dt.datetime, annotated_types.Timezone(...)], "2026-03-20T10:00Z",
         "2026-03-20T10:00", "must have a time zone"),
        (Annotated[dt.datetime, annotated_types.Timezone(None)], "2026-03-20T10:00",
         "2026-03-20T10:00Z", "must not have a time zone"),
        (Annotated[int, msgspec.Meta(gt=0, le=9)], 9, 10, "must be at most 9"),
        (Annotated[str, msgspec.Meta(pattern="^a", description="x")], "ab", "b",
         "must match '^a'"),
        (Annotated[int | None, annotated_types.Gt(0)], None, 0, "must be greater than 0"),
        (pydantic.PositiveInt, 1, 0, "must be greater than 0"),
        (Annotated[int, Field(gt=0)], 1, 0, "Input should be greater than 0"),
        (Annotated[int | None, Field(gt=0)], None, 0, "Input should be greater than 0"),
        (pydantic.constr(pattern="^a$"), "a", "b", "String should match pattern '^a$'"),
        (pydantic.conint(multiple_of=2), 2, 3, "must be a multiple of 2"),
        (Annotated[Attrs, Field(description="x")], {"amount": 1}, {"amount": 0},
         "must be greater than 0"),
        (Annotated[int, is_even], 2, 1, "is refused by is_even"),
        (Annotated[int | str, annotated_types.Gt(0)], 1, "a",
         "must be greater than 0, and str can't be compared with that"),
        (Annotated[str, "a comment", Doc("another"), None], "a", 1,
         "expected a string, got an integer"),
        (Annotated[int, annotated_types.Unit("m")], 1, "a", "expected an integer, got a string"),
    ],
)  # fmt: skip
def test_constraints_are_enforced(target, fits, wrong, message):
    received, result = structure(target, fits)
    assert received, result.message
    assert message_of(target, wrong) == message


def test_a_validator_of_pydantic_may_convert_the_value():
    assert structure(Annotated[str, pydantic.AfterValidator(str.upper)], "a")[0] == ["A"]
    assert structure(pydantic.constr(strip_whitespace=True), " a ")[0] == ["a"]


@pytest.mark.parametrize("validator", [lambda v: None, lambda v: True, lambda v: v, lambda v: +v])
def test_a_validator_may_return_nothing_true_or_the_value(validator):
    assert structure(Annotated[int, validator], 1000)[0] == [1000]


def test_a_validator_that_returns_another_value_is_a_problem_since_the_value_would_be_lost():
    message = message_of(Annotated[str, str.strip], " a ")
    assert message.startswith("can't be checked by str.strip: it returned str")


class Marker:
    pass


class Colour(enum.Enum):
    RED = 1


class Odd(annotated_types.BaseMetadata):
    pass


class OddGroup(annotated_types.GroupedMetadata):
    def __iter__(self):
        yield Odd()


@pytest.mark.parametrize(
    "item",
    [
        Marker,
        Marker(),
        Colour.RED,
        re.compile("a"),
        re.compile("a").fullmatch,
        range(3),
        3,
        Odd(),
        OddGroup(),
        annotated_types.Timezone("Europe/Madrid"),
        msgspec.UNSET,
        Field(alias="x"),
        Field(default=3),
        Field(default_factory=int),
        pydantic.UrlConstraints(max_length=3),
        pydantic.BeforeValidator(int),
        pydantic.PlainValidator(int),
        pydantic.WrapValidator(lambda value, handler: handler(value)),
        annotated_types.LowerCase,
    ],
)
def test_metadata_that_would_be_ignored_is_refused_at_registration_by_name(item):
    with pytest.raises(ConfigurationError, match="no payload could fill 'value'") as refused:
        structure(Annotated[int, item], 1)
    assert repr(item) in str(refused.value)


@pytest.mark.parametrize(
    "default", [Field(gt=0), attrs.field(default=1), dataclasses.field(default=1), msgspec.field()]
)
def test_the_declaration_of_a_field_is_not_a_default(default):
    app = ProviderApp("bank")

    def pay(amount: int = default): ...

    with pytest.raises(ConfigurationError, match=r"'amount'.*declaration of a field"):
        app.action(pay)


def test_the_declaration_of_a_field_of_pydantic_is_not_a_default_of_another_class():
    @dataclasses.dataclass
    class Order:
        amount: Any = Field(3, gt=0)  # noqa: RUF009 - the mistake

    with pytest.raises(ConfigurationError, match="declaration of a field"):
        structure(Order, {})


def test_a_plain_default_named_like_a_field_is_a_default():
    class Field:
        pass

    app = ProviderApp("bank")
    default = Field()
    app.action("pay")(lambda amount=default: type(amount).__name__)
    assert app.test_client().call("pay").data == "Field"


def test_a_validator_without_a_signature_is_called_with_the_value():
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    assert structure(Annotated[list[int], max], [1])[1].problems[0]["message"].startswith("can't")
