"""Objects as attrs classes, dataclasses, TypedDicts and NamedTuples."""

# Annotations are not postponed here: strings inside annotations are under test.

import dataclasses
import sys
import types
from typing import Generic, NamedTuple, Optional, TypeVar

import attrs
import pytest
from attrs import validators
from support.structuring import (
    MISSING,
    NOT_AN_INTEGER,
    Point,
    exactly,
    problems,
    refusal,
    structure,
    table,
)
from typing_extensions import NotRequired, Required, TypedDict

pytestmark = pytest.mark.usefixtures("each_json")


@dataclasses.dataclass
class Order:
    item: str
    amounts: list[int] = dataclasses.field(default_factory=list)


class Film(TypedDict):
    title: str
    year: NotRequired[int]


class Song(TypedDict, total=False):
    title: Required[str]
    year: int


class Pair(NamedTuple):
    left: int
    right: str = "none"


class NamedNode(NamedTuple):
    value: int
    next: Optional["NamedNode"] = None


@dataclasses.dataclass
class DataNode:
    value: int
    next: Optional["DataNode"] = None


@attrs.define
class Address:
    zip: str
    city: str = ""


@attrs.define
class User:
    name: str
    addresses: list[Address]
    by_label: dict[str, Address] = attrs.Factory(dict)


@attrs.define
class Range:
    low: int = attrs.field(validator=validators.ge(0))
    high: int = attrs.field(validator=validators.le(10))

    @high.validator
    def _above_low(self, attribute, value):
        if value < self.low:
            raise ValueError("high is below low")


@attrs.define
class Converted:
    x: int = attrs.field(converter=abs, validator=validators.ge(5))


@attrs.define
class Whole:
    x: int

    def __attrs_post_init__(self):
        if self.x < 0:
            raise ValueError("x is negative")


T = TypeVar("T")


@attrs.define
class Box(Generic[T]):
    content: T


class TypedBox(TypedDict, Generic[T]):
    content: T


@attrs.define
class Quoted:
    point: "Point"
    points: "list[Point]"


@attrs.define
class Node:
    value: int
    next: Optional["Node"] = None


# Objects.

OBJECTS = {
    "attrs": (Point, {"x": 1, "y": 2}, Point(1, 2)),
    "attrs with a default": (Point, {"x": 1}, Point(1, 0)),
    "attrs with validators": (Range, {"low": 1, "high": 2}, Range(1, 2)),
    "a generic attrs class": (Box[int], {"content": 1}, Box(1)),
    "a generic TypedDict": (TypedBox[int], {"content": 1}, {"content": 1}),
    "dataclass": (Order, {"item": "a", "amounts": [1]}, Order("a", [1])),
    "dataclass with a default": (Order, {"item": "a"}, Order("a", [])),
    "TypedDict": (Film, {"title": "a", "year": 1}, {"title": "a", "year": 1}),
    "TypedDict without what is not required": (Film, {"title": "a"}, {"title": "a"}),
    "TypedDict with what is required only": (Song, {"title": "a"}, {"title": "a"}),
    "NamedTuple": (Pair, {"left": 1, "right": "a"}, Pair(1, "a")),
    "NamedTuple with a default": (Pair, {"left": 1}, Pair(1, "none")),
    "classes in classes": (
        User,
        {"name": "Ann", "addresses": [{"zip": "1"}], "by_label": {"home": {"zip": "2"}}},
        User("Ann", [Address("1")], {"home": Address("2")}),
    ),
    "quoted fields": (
        Quoted,
        {"point": {"x": 1}, "points": [{"x": 2}]},
        Quoted(Point(1), [Point(2)]),
    ),
    "a class inside itself": (
        Node,
        {"value": 1, "next": {"value": 2}},
        Node(1, Node(2)),
    ),
}


@table(("target", "json_value", "expected"), OBJECTS)
def test_an_object_arrives_as_its_class(target, json_value, expected):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(expected)]


INVALID_OBJECTS = {
    "attrs of an array": (Point, [1], "value", "expected an object, got an array"),
    "attrs of null": (Point, None, "value", "expected an object, got null"),
    "attrs without a field": (Point, {"y": 1}, "value.x", MISSING),
    "attrs with a bad default": (Point, {"x": 1, "y": "2"}, "value.y", NOT_AN_INTEGER),
    "attrs whose post-init raises": (Whole, {"x": -1}, "value", "x is negative"),
    "a generic attrs class": (Box[int], {"content": "1"}, "value.content", NOT_AN_INTEGER),
    "a generic TypedDict": (TypedBox[int], {"content": "1"}, "value.content", NOT_AN_INTEGER),
    "dataclass of a string": (Order, "a", "value", "expected an object, got a string"),
    "dataclass without a field": (Order, {}, "value.item", MISSING),
    "dataclass with a bad item": (
        Order,
        {"item": "a", "amounts": ["1"]},
        "value.amounts[0]",
        NOT_AN_INTEGER,
    ),
    "TypedDict of null": (Film, None, "value", "expected an object, got null"),
    "TypedDict without a field": (Film, {}, "value.title", MISSING),
    "TypedDict without what is required": (Song, {"year": 1}, "value.title", MISSING),
    "TypedDict with a bad field": (Film, {"title": "a", "year": "1"}, "value.year", NOT_AN_INTEGER),
    "NamedTuple of an array": (Pair, [1, "a"], "value", "expected an object, got an array"),
    "NamedTuple without a field": (Pair, {}, "value.left", MISSING),
    "NamedTuple with a bad field": (Pair, {"left": "1"}, "value.left", NOT_AN_INTEGER),
    **{
        f"{node.__name__} inside itself": (
            node,
            {"value": 1, "next": {"value": "2"}},
            "value.next.value",
            NOT_AN_INTEGER,
        )
        for node in (Node, NamedNode, DataNode)
    },
}


@table(("target", "json_value", "path", "message"), INVALID_OBJECTS)
def test_an_object_that_does_not_fit_its_class_is_refused(target, json_value, path, message):
    assert refusal(target, json_value) == [(path, message)]


def test_every_problem_of_nested_data_is_reported_with_its_path():
    data = {
        "name": 5,
        "addresses": [{"zip": "1"}, {"zip": 2, "city": None}, "x"],
        "by_label": {"home": {}, "at work": {"zip": False}},
    }
    assert refusal(User, data) == [
        ("value.name", "expected a string, got an integer"),
        ("value.addresses[1].zip", "expected a string, got an integer"),
        ("value.addresses[1].city", "expected a string, got null"),
        ("value.addresses[2]", "expected an object, got a string"),
        ("value.by_label.home.zip", MISSING),
        ('value.by_label["at work"].zip', "expected a string, got a boolean"),
    ]


def test_every_missing_field_is_reported():
    assert refusal(User, {}) == [("value.name", MISSING), ("value.addresses", MISSING)]


# Unknown fields.

CLASSES = {
    "attrs": (Point, {"x": 1}),
    "dataclass": (Order, {"item": "a"}),
    "TypedDict": (Film, {"title": "a"}),
    "NamedTuple": (Pair, {"left": 1}),
}


@table(("target", "fields"), CLASSES)
def test_an_unknown_field_of_a_class_passes(target, fields):
    _, result = structure(target, {**fields, "more": 1})
    assert result.problems == []


@table(("target", "fields"), CLASSES)
def test_forbid_extra_refuses_an_unknown_field_of_a_class(target, fields):
    json_value = {**fields, "more": 1}
    assert refusal(target, json_value, forbid_extra=True) == [("value.more", "unknown field")]


def test_every_unknown_field_is_reported_beside_other_problems():
    json_value = [{"x": "1", "z": 0, "a b": 0}]
    assert refusal(list[Point], json_value, forbid_extra=True) == [
        ("value[0].x", NOT_AN_INTEGER),
        ('value[0]["a b"]', "unknown field"),
        ("value[0].z", "unknown field"),
    ]


def test_unknown_fields_are_reported_in_order():
    names = [f"name_{number}" for number in range(9)]
    problems = refusal(Point, {"x": 1, **dict.fromkeys(reversed(names))}, forbid_extra=True)
    assert [path for path, _ in problems] == [f"value.{name}" for name in names]


# Annotations that are strings.

POSTPONED = """
from __future__ import annotations
import attrs
from dataclasses import dataclass
from typing import NamedTuple
from typing_extensions import NotRequired, TypedDict

@attrs.define
class Attrs:
    value: int
    next: Attrs | None = None

@dataclass
class Dataclass:
    value: int
    next: Dataclass | None = None

class Typed(TypedDict):
    value: int
    next: NotRequired[Typed]

class Named(NamedTuple):
    value: int
    next: Named | None = None
"""


@pytest.fixture
def postponed(monkeypatch):
    """Return a module with ``from __future__ import annotations``."""
    module = types.ModuleType("postponed")
    monkeypatch.setitem(sys.modules, "postponed", module)
    exec(POSTPONED, vars(module))
    return module


@pytest.mark.parametrize("name", ["Attrs", "Dataclass", "Typed", "Named"])
def test_postponed_annotations_of_a_class_are_resolved(postponed, name):
    target = getattr(postponed, name)
    data = {"value": 1, "next": {"value": 2, "next": {"value": "3"}}}
    assert refusal(target, data) == [("value.next.next.value", NOT_AN_INTEGER)]


# Validators.

INVALID = {
    "an attrs class": (Range, {"low": 1, "high": 0}, "value.high", "high is below low"),
    "the value of a converter": (
        Converted,
        {"x": -1},
        "value.x",
        "'x' must be >= 5: 1",
    ),
    "an attrs class in a list": (
        list[Range],
        [{"low": -1, "high": 0}],
        "value[0].low",
        "'low' must be >= 0: -1",
    ),
}


@table(("target", "json_value", "path", "message"), INVALID)
def test_a_field_that_a_validator_refuses_is_a_problem(target, json_value, path, message):
    assert refusal(target, json_value) == [(path, message)]


def test_every_validator_of_a_class_runs():
    assert refusal(Range, {"low": -1, "high": 11}) == [
        ("value.low", "'low' must be >= 0: -1"),
        ("value.high", "'high' must be <= 10: 11"),
    ]


def test_validators_run_though_another_field_has_the_wrong_type():
    assert refusal(Range, {"low": -1, "high": "11"}) == [
        ("value.low", "'low' must be >= 0: -1"),
        ("value.high", NOT_AN_INTEGER),
    ]


def test_a_validator_that_reads_a_field_of_the_wrong_type_reports_nothing():
    assert refusal(Range, {"low": "1", "high": 5}) == [("value.low", NOT_AN_INTEGER)]


def test_a_validator_that_reads_a_missing_field_reports_nothing():
    assert refusal(Range, {"high": 5}) == [("value.low", MISSING)]


@attrs.define
class Choice:
    count: int
    allowed: list[int] = attrs.Factory(lambda: [1, 2])
    chosen: int = attrs.field(default=1)
    latest: int = attrs.Factory(lambda self: self.chosen, takes_self=True)

    @chosen.validator
    def _allowed(self, attribute, value):
        if value not in [*self.allowed, self.latest]:
            raise ValueError("is not allowed")


def test_a_validator_reads_the_defaults_of_fields_beside_a_problem():
    assert refusal(Choice, {"count": "1", "chosen": 3, "latest": 0}) == [
        ("value.chosen", "is not allowed"),
        ("value.count", NOT_AN_INTEGER),
    ]


def test_a_validator_reads_defaults_made_from_other_fields():
    assert refusal(Choice, {"count": "1", "chosen": 3}) == [("value.count", NOT_AN_INTEGER)]


@attrs.define
class Broken:
    x: int = attrs.field(validator=lambda self, attribute, value: value.upper())
    y: int = attrs.field(default=0, validator=validators.ge(0))


def test_a_validator_that_fails_with_another_error_is_a_problem_of_its_field():
    assert refusal(Broken, {"x": 1, "y": -1}) == [
        ("value.x", "'int' object has no attribute 'upper'"),
        ("value.y", "'y' must be >= 0: -1"),
    ]


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
            raise ValueError("is too small")


@pytest.mark.parametrize(("end", "expected"), [(10, ["ends too early"]), (11, [])])
def test_a_validator_reads_the_other_fields_and_their_defaults(end, expected):
    _, result = structure(Span, {"start": 1, "end": end})
    assert [message for _, message in problems(result)] == expected


def test_a_validator_that_lacks_a_field_hides_no_other_validator():
    assert refusal(Span, {"start": "1", "end": 10, "step": 0}) == [
        ("value.step", "is too small"),
        ("value.start", NOT_AN_INTEGER),
    ]


@attrs.define
class ConvertedWithField:
    x: int = attrs.field(
        converter=attrs.Converter(lambda value, field: abs(value), takes_field=True),
        validator=validators.lt(5),
    )


def test_a_validator_checks_the_value_of_a_converter_that_takes_the_field():
    assert refusal(ConvertedWithField, {"x": -7}) == [("value.x", "'x' must be < 5: 7")]
