"""Values as unions and Annotated types."""

# ruff: noqa: UP007, UP045 - the old spellings are under test too

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Optional, Union

import attrs
import pytest
from attrs import validators
from support.structuring import (
    NOT_AN_INTEGER,
    Point,
    exactly,
    refusal,
    structure,
    table,
)

pytestmark = pytest.mark.usefixtures("each_json")


@attrs.define
class Cat:
    kind: Literal["cat"]
    lives: int


@attrs.define
class Dog:
    kind: Literal["dog"]
    tricks: list[str]


@attrs.define
class Narrow:
    a: int


@attrs.define
class Wide:
    a: int
    b: int = 0


def small(value):
    if value > 9:
        raise ValueError("is too large")


def even(value):
    if value % 2:
        raise ValueError("is odd")


def without_message(value):
    raise ValueError


# Unions.

UNIONS = {
    "Optional of null": (Optional[int], None, None),
    "Optional of a value": (Optional[int], 1, 1),
    "PEP 604 of null": (int | None, None, None),
    "null first": (None | int, 1, 1),
    "Union": (Union[int, str], "a", "a"),
    "Union of three": (int | str | None, None, None),
    "an integer among floats": (float | int, 1, 1),
    "a float among integers": (int | float, 1.5, 1.5),
    "the first that fits": (str | dt.date, "2026-03-20", "2026-03-20"),
    "a date before a string": (dt.date | str, "2026-03-20", dt.date(2026, 3, 20)),
    "a string that is no date": (dt.date | str, "soon", "soon"),
    "a tagged class": (Cat | Dog, {"kind": "dog", "tricks": []}, Dog("dog", [])),
    "the class with most of the fields": (Narrow | Wide, {"a": 1, "b": 2}, Wide(1, 2)),
    "the first of two classes that know as many": (Narrow | Wide, {"a": 1}, Narrow(1)),
    "a class or null": (Optional[Point], {"x": 1}, Point(1)),
    "an item or a list": (int | list[int], [1], [1]),
}


@table(("target", "json_value", "expected"), UNIONS)
def test_a_value_arrives_as_the_member_of_a_union_that_it_fits(target, json_value, expected):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(expected)]


DAY = dt.date(2026, 3, 20)
AROUND_UNIONS = {
    "nothing": (lambda union: union, "2026-03-20", DAY),
    "a list": (lambda union: list[union], ["2026-03-20"], [DAY]),
    "a tuple": (lambda union: tuple[union], ["2026-03-20"], (DAY,)),
    "an object": (lambda union: dict[str, union], {"a": "2026-03-20"}, {"a": DAY}),
    "an optional list": (lambda union: list[union] | None, ["2026-03-20"], [DAY]),
}


@table(("around", "json_value", "expected"), AROUND_UNIONS)
def test_a_union_is_not_mistaken_for_an_equal_union_in_another_order(around, json_value, expected):
    assert around(str | dt.date) == around(dt.date | str)
    structure(around(str | dt.date), json_value)
    assert structure(around(dt.date | str), json_value)[0] == [expected]


INVALID_UNIONS = {
    "Optional": (Optional[int], "1", "value", NOT_AN_INTEGER),
    "PEP 604": (int | None, True, "value", "expected an integer, got a boolean"),
    "Union": (int | str, 1.5, "value", "expected one of int, str, got a number with a fraction"),
    "true among integers": (
        Union[int, str],
        True,
        "value",
        "expected one of int, str, got a boolean",
    ),
    "null among other types": (int | str, None, "value", "expected one of int, str, got null"),
    "with null": (int | str | None, [], "value", "expected one of int, str, null, got an array"),
    "generics by their names": (
        int | list[int],
        "a",
        "value",
        "expected one of int, list[int], got a string",
    ),
    "inside an optional class": (Optional[Point], {"x": "1"}, "value.x", NOT_AN_INTEGER),
    "inside a tagged class": (
        Cat | Dog,
        {"kind": "dog", "tricks": [1]},
        "value.tricks[0]",
        "expected a string, got an integer",
    ),
    "inside a list": (int | list[int], ["1"], "value[0]", NOT_AN_INTEGER),
    "neither class": (Cat | Dog, 5, "value", "expected one of Cat, Dog, got an integer"),
}


@table(("target", "json_value", "path", "message"), INVALID_UNIONS)
def test_a_value_that_fits_no_member_of_a_union_is_refused(target, json_value, path, message):
    assert refusal(target, json_value) == [(path, message)]


def test_a_member_of_a_union_without_the_field_does_not_fit_where_extra_is_forbidden():
    received, _ = structure(Narrow | Wide, {"a": 1, "b": 2}, forbid_extra=True)
    assert received == [Wide(1, 2)]


# Annotated types and their validators.

ANNOTATED = {
    "a function": (Annotated[int, small], 9),
    "a validator of attrs": (Annotated[int, validators.ge(1)], 1),
    "a note": (Annotated[int, "how many"], 1),
    "a note and a function": (Annotated[int, "how many", even], 2),
    "an item": (list[Annotated[int, even]], [2]),
    "a list": (Annotated[list[int], validators.min_len(2)], [1, 2]),
}


@table(("target", "json_value"), ANNOTATED)
def test_a_value_that_fits_its_validators_arrives(target, json_value):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(json_value)]


INVALID = {
    "a function": (Annotated[int, small], 10, "value", "is too large"),
    "a validator of attrs": (
        Annotated[int, validators.ge(1)],
        0,
        "value",
        "'value' must be >= 1: 0",
    ),
    "a validator without a message": (Annotated[int, without_message], 1, "value", "ValueError"),
    "an item": (list[Annotated[int, even]], [2, 3], "value[1]", "is odd"),
    "the type first": (Annotated[int, small], "10", "value", NOT_AN_INTEGER),
}


@table(("target", "json_value", "path", "message"), INVALID)
def test_a_value_that_a_validator_refuses_is_a_problem(target, json_value, path, message):
    assert refusal(target, json_value) == [(path, message)]


def test_every_validator_of_a_value_runs():
    target = Annotated[int, small, even]
    assert refusal(target, 11) == [("value", "is too large"), ("value", "is odd")]


def test_a_tag_that_may_be_left_out_is_not_asked_for():
    @attrs.define
    class Square:
        side: int
        kind: Literal["square"] = "square"

    @attrs.define
    class Circle:
        radius: int
        kind: Literal["circle"] = "circle"

    assert refusal(Square | Circle, {"side": "a"}) == [("value.side", NOT_AN_INTEGER)]
    assert refusal(Square | Circle, {"kind": "line"})[0][0] == "value.kind"
