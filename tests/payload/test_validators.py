"""Validators of attrs classes that look at more than their own field."""

from __future__ import annotations

import typing

import attrs
import pytest
from typing_extensions import TypedDict

from arbprov import ProviderApp


@attrs.define
class Span:
    start: int
    end: int = attrs.field()
    step: int = attrs.field(factory=lambda: 5)
    last: int = attrs.field(default=attrs.Factory(lambda self: self.step, takes_self=True))

    @end.validator
    def _check(self, attribute, value):
        if value - self.start < self.step + self.last:
            raise ValueError("ends too early")

    @step.validator
    def _check_step(self, attribute, value):
        if value < 1:
            raise ValueError("is no step")


@attrs.define
class Broken:
    value: int = attrs.field(validator=lambda instance, attribute, value: value.missing)
    other: int = 0


@attrs.define
class Converted:
    value: int = attrs.field(
        converter=attrs.Converter(lambda value, field: abs(value), takes_field=True),
        validator=attrs.validators.lt(5),
    )


def problems(target, value):
    app = ProviderApp("validators")

    def it(value): ...

    it.__annotations__ = {"value": target}
    app.action(it)
    found = app.test_client().call("it", {"value": value}).problems
    return [(problem["path"], problem["message"]) for problem in found]


def test_a_validator_sees_the_other_fields_and_their_defaults():
    assert problems(Span, {"start": 1, "end": 10}) == [("value.end", "ends too early")]
    assert problems(Span, {"start": 1, "end": 11}) == []


def test_a_validator_that_misses_a_field_that_did_not_fit_says_nothing():
    assert problems(Span, {"start": "1", "end": 10}) == [
        ("value.start", "expected an integer, got a string")
    ]


def test_the_other_validators_have_their_say_all_the_same():
    assert problems(Span, {"start": "1", "end": 10, "step": 0}) == [
        ("value.step", "is no step"),
        ("value.start", "expected an integer, got a string"),
    ]


def test_a_validator_that_fails_by_itself_is_a_problem_of_its_field():
    ((path, message),) = problems(Broken, {"value": 1})
    assert (path, "no attribute 'missing'" in message) == ("value.value", True)


def test_a_validator_sees_what_a_converter_of_three_arguments_has_made():
    assert problems(Converted, {"value": -7}) == [("value.value", "'value' must be < 5: 7")]


T = typing.TypeVar("T")


class Box(TypedDict, typing.Generic[T]):
    content: T


@pytest.mark.parametrize(("value", "found"), [("1", 1), (1, 0)])
def test_a_generic_typeddict_has_the_types_it_was_given(value, found):
    expected = [("value.content", "expected an integer, got a string")][:found]
    assert problems(Box[int], {"content": value}) == expected
