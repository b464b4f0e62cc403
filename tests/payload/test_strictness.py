"""What a payload's value becomes in a handler, type by type, and what is said of one that can't."""

# ruff: noqa: UP006, UP007, UP045 - the old spellings are under test too

# Annotations are not postponed here, so that a handler can be annotated with a test's parameter.
import collections
import collections.abc
import dataclasses
import datetime as dt
import enum
import re
import sys
import types
import typing
import uuid
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union

import attrs
import pytest
from attrs import validators
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import NotRequired, Required, TypedDict

from arbprov import ProviderApp

pytestmark = pytest.mark.usefixtures("each_json")

MISSING = "required field is missing"
NO_INTEGER = "expected an integer, got a string"
DATETIME = "expected an ISO 8601 datetime such as '2026-03-20T10:30:00+01:00'"
DATE = "expected an ISO 8601 date such as '2026-03-20'"
TIME = "expected an ISO 8601 time such as '10:30:00'"
SECRET = "open-sesame"
UTC = dt.timezone.utc
AN_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Mood(enum.Enum):
    CALM = "calm"
    LEVEL = 2


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(int, enum.Enum):
    SMALL = 1
    LARGE = 2


class Step(enum.IntEnum):
    FIRST = 1
    SECOND = 2


class Text(str):
    """A string of a kind of its own."""


class Moment(dt.datetime):
    """A datetime of a kind of its own."""


@attrs.define
class Point:
    x: int
    y: int = 0


@attrs.frozen
class Hashable:
    x: int


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


Number = typing.NewType("Number", int)


def small(value):
    if value > 9:
        raise ValueError("is too large")


def even(value):
    if value % 2:
        raise ValueError("is odd")


def wordless(value):
    raise ValueError


def call(target, value, **options):
    """Call a handler whose parameter `value` is a `target`; return what it got and the result."""
    received = []
    app = ProviderApp("strict")

    @app.action("it", **options)
    def it(value: target):
        received.append(value)

    return received, app.test_client().call("it", {"value": value})


def refusal(target, value, **options):
    """Return the path and the message of each problem of `value`."""
    received, result = call(target, value, **options)
    assert not received, "the handler ran"
    return [(problem["path"], problem["message"]) for problem in result.problems]


def exactly(value):
    """Return what tells 1, 1.0 and True apart, at any depth."""
    return type(value), repr(value) if isinstance(value, (list, tuple, dict)) else value


def table(names, cases):
    """Parametrize with cases, each under its name."""
    return pytest.mark.parametrize(names, cases.values(), ids=cases)


# Scalars.


def test_the_string_false_is_no_boolean():
    assert refusal(bool, "false") == [("value", "expected a boolean, got a string")]


def test_a_number_is_no_string():
    assert refusal(str, 5) == [("value", "expected a string, got an integer")]


def test_true_is_no_integer():
    assert refusal(int, True) == [("value", "expected an integer, got a boolean")]


def test_a_number_with_a_fraction_is_no_integer():
    assert refusal(int, 1.7) == [("value", "expected an integer, got a number with a fraction")]


def test_an_integer_is_a_fine_float():
    received, _ = call(float, 1)
    assert [exactly(value) for value in received] == [(float, 1.0)]


SCALARS = {
    "a string": (str, "x", "x"),
    "an empty string": (str, "", ""),
    "an integer": (int, -5, -5),
    "an integer beyond 64 bits": (int, 10**30, 10**30),
    "a float": (float, 1.5, 1.5),
    "true": (bool, True, True),
    "false": (bool, False, False),
    "None": (None, None, None),
    "type(None)": (type(None), None, None),
    "anything": (Any, [1, "a", None], [1, "a", None]),
    "an object": (object, {"a": 1}, {"a": 1}),
    "a NewType": (Number, 3, 3),
    "a subclass of str": (Text, "x", Text("x")),
    "a subclass of datetime": (Moment, "2026-03-20T10:30:00", Moment(2026, 3, 20, 10, 30)),
    "a UTC datetime": (
        dt.datetime,
        "2026-03-20T10:30:00Z",
        dt.datetime(2026, 3, 20, 10, 30, tzinfo=UTC),
    ),
    "a datetime with an offset": (
        dt.datetime,
        "2026-03-20T10:30:00-01:30",
        dt.datetime(2026, 3, 20, 10, 30, tzinfo=dt.timezone(-dt.timedelta(minutes=90))),
    ),
    "a naive datetime": (dt.datetime, "2026-03-20T10:30:00", dt.datetime(2026, 3, 20, 10, 30)),
    "a datetime with a blank": (dt.datetime, "2026-03-20 10:30", dt.datetime(2026, 3, 20, 10, 30)),
    "a datetime at midnight": (dt.datetime, "2026-03-20", dt.datetime(2026, 3, 20)),
    "a datetime with one digit of fraction": (
        dt.datetime,
        "2026-03-20T10:30:00.5",
        dt.datetime(2026, 3, 20, 10, 30, 0, 500_000),
    ),
    "a datetime with nanoseconds": (
        dt.datetime,
        "2026-03-20T10:30:00.123456789Z",
        dt.datetime(2026, 3, 20, 10, 30, 0, 123_456, tzinfo=UTC),
    ),
    "a date": (dt.date, "2026-03-20", dt.date(2026, 3, 20)),
    "a leap day": (dt.date, "2024-02-29", dt.date(2024, 2, 29)),
    "a time": (dt.time, "10:30:15", dt.time(10, 30, 15)),
    "a time without seconds": (dt.time, "10:30", dt.time(10, 30)),
    "a time with a fraction and a zone": (
        dt.time,
        "10:30:00.25Z",
        dt.time(10, 30, 0, 250_000, tzinfo=UTC),
    ),
    "a timedelta": (dt.timedelta, 90, dt.timedelta(seconds=90)),
    "a timedelta with a fraction": (dt.timedelta, -1.5, dt.timedelta(seconds=-1.5)),
    "a UUID": (uuid.UUID, str(AN_UUID), AN_UUID),
    "a UUID in capitals": (uuid.UUID, str(AN_UUID).upper(), AN_UUID),
    "a Decimal": (Decimal, "12.5", Decimal("12.5")),
    "a Decimal with an exponent": (Decimal, "-1e5", Decimal("-1e5")),
    "an integer as a Decimal": (Decimal, 5, Decimal(5)),
    "bytes": (bytes, "aGk=", b"hi"),
    "no bytes": (bytes, "", b""),
}


@table(("target", "written", "expected"), SCALARS)
def test_a_scalar_arrives_as_its_type(target, written, expected):
    received, _ = call(target, written)
    assert [exactly(value) for value in received] == [exactly(expected)]


def test_the_zeros_of_a_decimal_are_kept():
    received, _ = call(Decimal, "12.50")
    assert str(received[0]) == "12.50"


NO_SCALARS = {
    "str of null": (str, None, "expected a string, got null"),
    "str of an array": (str, ["a"], "expected a string, got an array"),
    "int of a whole float": (int, 1.0, "expected an integer, got a number with a fraction"),
    "int of a string": (int, "1", NO_INTEGER),
    "int of null": (int, None, "expected an integer, got null"),
    "float of a boolean": (float, True, "expected a number, got a boolean"),
    "float of a string": (float, "1.5", "expected a number, got a string"),
    "float of too large an integer": (float, 10**400, "expected a number that a double can hold"),
    "bool of 1": (bool, 1, "expected a boolean, got an integer"),
    "bool of 0": (bool, 0, "expected a boolean, got an integer"),
    "bool of null": (bool, None, "expected a boolean, got null"),
    "None of 0": (None, 0, "expected null, got an integer"),
    "None of false": (None, False, "expected null, got a boolean"),
    "NewType of a string": (Number, "3", NO_INTEGER),
    "datetime of a number": (
        dt.datetime,
        1_700_000_000,
        "expected an ISO 8601 datetime as a string, got an integer",
    ),
    "datetime of a word": (dt.datetime, "tomorrow", DATETIME),
    "datetime without hyphens": (dt.datetime, "20260320T103000", DATETIME),
    "datetime of a week": (dt.datetime, "2026-W12-5", DATETIME),
    "datetime in month 13": (dt.datetime, "2026-13-01T00:00:00", DATETIME),
    "datetime with a line end": (dt.datetime, "2026-03-20T10:30:00\n", DATETIME),
    "datetime in other digits": (dt.datetime, "٢٠٢٦-٠٣-٢٠", DATETIME),
    "datetime at hour 24": (dt.datetime, "2026-03-20T24:00:00", DATETIME),
    "datetime a day off": (dt.datetime, "2026-03-20T10:30:00+24:00", DATETIME),
    "datetime with an hour only": (dt.datetime, "2026-03-20T10", DATETIME),
    "date of a number": (
        dt.date,
        20260320,
        "expected an ISO 8601 date as a string, got an integer",
    ),
    "date of a datetime": (dt.date, "2026-03-20T00:00:00", DATE),
    "date that is none": (dt.date, "2026-02-30", DATE),
    "time of null": (dt.time, None, "expected an ISO 8601 time as a string, got null"),
    "time at hour 25": (dt.time, "25:00", TIME),
    "time with an hour only": (dt.time, "10", TIME),
    "time of a datetime": (dt.time, "2026-03-20T10:30:00", TIME),
    "timedelta of a string": (dt.timedelta, "90", "expected a number of seconds, got a string"),
    "timedelta of a boolean": (dt.timedelta, True, "expected a number of seconds, got a boolean"),
    "timedelta out of range": (
        dt.timedelta,
        1e300,
        "expected a number of seconds that a timedelta can hold",
    ),
    "timedelta beyond a double": (
        dt.timedelta,
        10**400,
        "expected a number of seconds that a timedelta can hold",
    ),
    "UUID of a number": (uuid.UUID, 5, "expected a UUID as a string, got an integer"),
    "UUID of a word": (uuid.UUID, "me", "expected a UUID"),
    "Decimal of a float": (
        Decimal,
        1.5,
        "expected a decimal written as a string, got a number with a fraction",
    ),
    "Decimal of a boolean": (Decimal, True, "expected a decimal as a string, got a boolean"),
    "Decimal of a word": (Decimal, "much", "expected a decimal such as '12.50'"),
    "Decimal of NaN": (Decimal, "NaN", "expected a decimal such as '12.50'"),
    "Decimal of infinity": (Decimal, "-Infinity", "expected a decimal such as '12.50'"),
    "bytes of a number": (bytes, 5, "expected base64 as a string, got an integer"),
    "bytes without padding": (bytes, "aGk", "expected base64"),
    "bytes with a blank": (bytes, "aG k=", "expected base64"),
    "bytes of no ASCII": (bytes, "é", "expected base64"),
}


@table(("target", "written", "message"), NO_SCALARS)
def test_nothing_is_cast_to_a_scalar(target, written, message):
    assert refusal(target, written) == [("value", message)]


# Choices.

CHOICES = {
    "a member of an enum": (Mood, "calm", Mood.CALM),
    "a member of another type": (Mood, 2, Mood.LEVEL),
    "a member of a str enum": (Colour, "red", Colour.RED),
    "a member of an int enum": (Size, 1, Size.SMALL),
    "a member of an IntEnum": (Step, 2, Step.SECOND),
    "a literal string": (Literal["a", 1], "a", "a"),
    "a literal number": (Literal["a", 1], 1, 1),
    "a literal boolean": (Literal[True], True, True),
    "a literal null": (Literal["a", None], None, None),
    "a literal member": (Literal[Colour.BLUE], "blue", Colour.BLUE),
}


@table(("target", "written", "expected"), CHOICES)
def test_a_choice_arrives_as_its_member(target, written, expected):
    received, _ = call(target, written)
    assert [exactly(value) for value in received] == [exactly(expected)]


NO_CHOICES = {
    "another word": (Colour, "green", "expected one of 'red', 'blue'"),
    "a member's name": (Colour, "RED", "expected one of 'red', 'blue'"),
    "a number as a string": (Size, "1", "expected one of 1, 2"),
    "true for 1": (Size, True, "expected one of 1, 2"),
    "1.0 for 1": (Step, 1.0, "expected one of 1, 2"),
    "an object": (Mood, {}, "expected one of 'calm', 2"),
    "another literal": (Literal["a", 1], "b", "expected one of 'a', 1"),
    "true for a literal 1": (Literal["a", 1], True, "expected one of 'a', 1"),
    "1 for a literal true": (Literal[True], 1, "expected True"),
    "not the only literal": (Literal["a"], "b", "expected 'a'"),
    "not the literal member": (Literal[Colour.BLUE], "red", "expected 'blue'"),
}


@table(("target", "written", "message"), NO_CHOICES)
def test_a_value_that_is_no_choice_is_refused_with_the_choices(target, written, message):
    assert refusal(target, written) == [("value", message)]


# Arrays.

ARRAYS = {
    "list": (list[int], [1, 2], [1, 2]),
    "typing.List": (typing.List[int], [1], [1]),
    "a bare list": (list, [1, "a"], [1, "a"]),
    "a list of floats": (list[float], [1, 2.5], [1.0, 2.5]),
    "an empty list": (list[int], [], []),
    "a list of lists": (list[list[int]], [[1], []], [[1], []]),
    "a list of objects": (list[Point], [{"x": 1}], [Point(1)]),
    "a tuple of two": (tuple[int, str], [1, "a"], (1, "a")),
    "a variadic tuple": (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    "an empty variadic tuple": (tuple[int, ...], [], ()),
    "a bare tuple": (tuple, [1, "a"], (1, "a")),
    "an empty tuple": (typing.Tuple[()], [], ()),
    "set": (set[int], [1, 2, 1], {1, 2}),
    "a bare set": (set, ["a"], {"a"}),
    "frozenset": (frozenset[str], ["a"], frozenset("a")),
    "a set of frozen classes": (set[Hashable], [{"x": 1}], {Hashable(1)}),
    "deque": (collections.deque[int], [1], collections.deque([1])),
    "Sequence": (collections.abc.Sequence[int], [1], [1]),
    "MutableSequence": (collections.abc.MutableSequence[int], [1], [1]),
    "Collection": (collections.abc.Collection[int], [1], [1]),
    "Iterable": (collections.abc.Iterable[int], [1], [1]),
    "typing.Sequence": (typing.Sequence[int], [1], [1]),
    "Set": (collections.abc.Set[int], [1], frozenset({1})),
    "MutableSet": (collections.abc.MutableSet[int], [1], {1}),
}


@table(("target", "written", "expected"), ARRAYS)
def test_an_array_arrives_as_its_type(target, written, expected):
    received, _ = call(target, written)
    assert [exactly(value) for value in received] == [exactly(expected)]


NO_ARRAYS = {
    "list of an object": (list[int], {}, "value", "expected an array, got an object"),
    "list of a string": (list[str], "ab", "value", "expected an array, got a string"),
    "list of null": (list[int], None, "value", "expected an array, got null"),
    "list with a bad item": (list[int], [1, "2"], "value[1]", NO_INTEGER),
    "list in a list": (list[list[int]], [[], ["2"]], "value[1][0]", NO_INTEGER),
    "a tuple too short": (tuple[int, str], [1], "value", "expected an array of 2 items, got 1"),
    "a tuple too long": (tuple[int], [1, 2], "value", "expected an array of 1 items, got 2"),
    "a tuple with a bad item": (tuple[int, int], [1, "2"], "value[1]", NO_INTEGER),
    "a variadic tuple": (tuple[int, ...], ["1"], "value[0]", NO_INTEGER),
    "an empty tuple": (tuple[()], [1], "value", "expected an array of 0 items, got 1"),
    "set of a string": (set[str], "ab", "value", "expected an array, got a string"),
    "set with a bad item": (set[int], ["1"], "value[0]", NO_INTEGER),
    "frozenset": (frozenset[int], ["1"], "value[0]", NO_INTEGER),
    "deque": (collections.deque[int], ["1"], "value[0]", NO_INTEGER),
    "Sequence": (collections.abc.Sequence[int], ["1"], "value[0]", NO_INTEGER),
    "Set": (collections.abc.Set[int], ["1"], "value[0]", NO_INTEGER),
    "a set of objects": (
        set[Any],
        [{}],
        "value",
        "expected items that a set can hold, got objects or arrays",
    ),
}


@table(("target", "written", "path", "message"), NO_ARRAYS)
def test_an_array_that_does_not_fit_is_refused(target, written, path, message):
    assert refusal(target, written) == [(path, message)]


def test_every_bad_item_of_an_array_is_reported():
    assert refusal(list[int], ["1", 2, "3"]) == [("value[0]", NO_INTEGER), ("value[2]", NO_INTEGER)]


# Objects.

OBJECTS = {
    "dict": (dict[str, int], {"a": 1}, {"a": 1}),
    "typing.Dict": (typing.Dict[str, int], {"a": 1}, {"a": 1}),
    "a bare dict": (dict, {"a": [1]}, {"a": [1]}),
    "Mapping": (collections.abc.Mapping[str, int], {"a": 1}, {"a": 1}),
    "MutableMapping": (collections.abc.MutableMapping[str, int], {"a": 1}, {"a": 1}),
    "a dict of objects": (dict[str, Point], {"a": {"x": 1}}, {"a": Point(1)}),
    "OrderedDict": (
        collections.OrderedDict[str, int],
        {"a": 1},
        collections.OrderedDict(a=1),
    ),
    "defaultdict": (
        collections.defaultdict[str, int],
        {"a": 1},
        collections.defaultdict(int, {"a": 1}),
    ),
    "a dict by enum": (dict[Colour, int], {"red": 1}, {Colour.RED: 1}),
    "a dict by literal": (dict[Literal["a", "b"], int], {"a": 1}, {"a": 1}),
    "a dict by date": (dict[dt.date, int], {"2026-03-20": 1}, {dt.date(2026, 3, 20): 1}),
    "a dict by UUID": (dict[uuid.UUID, int], {str(AN_UUID): 1}, {AN_UUID: 1}),
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
    "a quoted annotation": ("dict[str, Point]", {"a": {"x": 1}}, {"a": Point(1)}),
    "quoted fields": (
        Quoted,
        {"point": {"x": 1}, "points": [{"x": 2}]},
        Quoted(Point(1), [Point(2)]),
    ),
    "a class inside of itself": (
        Node,
        {"value": 1, "next": {"value": 2}},
        Node(1, Node(2)),
    ),
}


@table(("target", "written", "expected"), OBJECTS)
def test_an_object_arrives_as_its_type(target, written, expected):
    received, _ = call(target, written)
    assert [exactly(value) for value in received] == [exactly(expected)]


NO_OBJECTS = {
    "dict of an array": (dict[str, int], [], "value", "expected an object, got an array"),
    "dict with a bad item": (dict[str, int], {"a": "1"}, "value.a", NO_INTEGER),
    "dict with an odd name": (dict[str, int], {"a b": "1"}, 'value["a b"]', NO_INTEGER),
    "dict with a bad key": (
        dict[Colour, int],
        {"green": 1},
        "value.green",
        "expected one of 'red', 'blue'",
    ),
    "dict by date": (dict[dt.date, int], {"today": 1}, "value.today", DATE),
    "attrs of an array": (Point, [1], "value", "expected an object, got an array"),
    "attrs of null": (Point, None, "value", "expected an object, got null"),
    "attrs without a field": (Point, {"y": 1}, "value.x", MISSING),
    "attrs with a bad default": (Point, {"x": 1, "y": "2"}, "value.y", NO_INTEGER),
    "attrs that objects as a whole": (Whole, {"x": -1}, "value", "x is negative"),
    "a generic attrs class": (Box[int], {"content": "1"}, "value.content", NO_INTEGER),
    "a generic TypedDict": (TypedBox[int], {"content": "1"}, "value.content", NO_INTEGER),
    "dataclass of a string": (Order, "a", "value", "expected an object, got a string"),
    "dataclass without a field": (Order, {}, "value.item", MISSING),
    "dataclass with a bad item": (
        Order,
        {"item": "a", "amounts": ["1"]},
        "value.amounts[0]",
        NO_INTEGER,
    ),
    "TypedDict of null": (Film, None, "value", "expected an object, got null"),
    "TypedDict without a field": (Film, {}, "value.title", MISSING),
    "TypedDict without what is required": (Song, {"year": 1}, "value.title", MISSING),
    "TypedDict with a bad field": (Film, {"title": "a", "year": "1"}, "value.year", NO_INTEGER),
    "NamedTuple of an array": (Pair, [1, "a"], "value", "expected an object, got an array"),
    "NamedTuple without a field": (Pair, {}, "value.left", MISSING),
    "NamedTuple with a bad field": (Pair, {"left": "1"}, "value.left", NO_INTEGER),
    "a quoted annotation": ("list[Point]", [{"x": "1"}], "value[0].x", NO_INTEGER),
    **{
        f"{node.__name__} inside of itself": (
            node,
            {"value": 1, "next": {"value": "2"}},
            "value.next.value",
            NO_INTEGER,
        )
        for node in (Node, NamedNode, DataNode)
    },
}


@table(("target", "written", "path", "message"), NO_OBJECTS)
def test_an_object_that_does_not_fit_is_refused(target, written, path, message):
    assert refusal(target, written) == [(path, message)]


def test_a_defaultdict_may_hold_what_has_no_default():
    received, _ = call(collections.defaultdict[str, int | None], {"a": None})
    assert received == [{"a": None}]


MAPPINGS = {
    "OrderedDict": collections.OrderedDict[str, int],
    "defaultdict": collections.defaultdict[str, int],
}


@table("target", MAPPINGS)
def test_a_mapping_of_another_kind_names_the_path_too(target):
    assert refusal(target, {"a": "1"}) == [("value.a", NO_INTEGER)]


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
    "the first class of equals": (Narrow | Wide, {"a": 1}, Narrow(1)),
    "a class or null": (Optional[Point], {"x": 1}, Point(1)),
    "an item or a list": (int | list[int], [1], [1]),
}


@table(("target", "written", "expected"), UNIONS)
def test_a_value_arrives_as_the_member_of_a_union_that_it_fits(target, written, expected):
    received, _ = call(target, written)
    assert [exactly(value) for value in received] == [exactly(expected)]


JSON_VALUES = st.sampled_from(["", "a", 0, 1, 1.0, 1.5, True, False, None, [], {}])


@pytest.mark.parametrize("kind", [str, int, bool])
@given(st.data())
def test_an_array_takes_items_of_one_type_and_names_each_other_one(kind, data):
    value = data.draw(st.lists(JSON_VALUES | JSON_VALUES.filter(lambda one: type(one) is kind)))
    wrong = [f"value[{index}]" for index, item in enumerate(value) if type(item) is not kind]
    received, result = call(list[kind], value)
    assert [problem["path"] for problem in result.problems] == wrong
    assert received == ([] if wrong else [value])


DAY = dt.date(2026, 3, 20)
AROUND_UNIONS = {
    "nothing": (lambda union: union, "2026-03-20", DAY),
    "a list": (lambda union: list[union], ["2026-03-20"], [DAY]),
    "a tuple": (lambda union: tuple[union], ["2026-03-20"], (DAY,)),
    "an object": (lambda union: dict[str, union], {"a": "2026-03-20"}, {"a": DAY}),
    "an optional list": (lambda union: list[union] | None, ["2026-03-20"], [DAY]),
}


@table(("around", "written", "expected"), AROUND_UNIONS)
def test_a_union_is_not_taken_for_the_one_with_its_members_the_other_way_round(
    around, written, expected
):
    assert around(str | dt.date) == around(dt.date | str)
    call(around(str | dt.date), written)
    assert call(around(dt.date | str), written)[0] == [expected]


NO_UNIONS = {
    "Optional": (Optional[int], "1", "value", NO_INTEGER),
    "PEP 604": (int | None, True, "value", "expected an integer, got a boolean"),
    "Union": (int | str, 1.5, "value", "expected one of int, str, got a number with a fraction"),
    "true among integers": (
        Union[int, str],
        True,
        "value",
        "expected one of int, str, got a boolean",
    ),
    "null among others": (int | str, None, "value", "expected one of int, str, got null"),
    "with null": (int | str | None, [], "value", "expected one of int, str, null, got an array"),
    "generics by their names": (
        int | list[int],
        "a",
        "value",
        "expected one of int, list[int], got a string",
    ),
    "inside of an optional class": (Optional[Point], {"x": "1"}, "value.x", NO_INTEGER),
    "inside of a tagged class": (
        Cat | Dog,
        {"kind": "dog", "tricks": [1]},
        "value.tricks[0]",
        "expected a string, got an integer",
    ),
    "inside of a list": (int | list[int], ["1"], "value[0]", NO_INTEGER),
    "no class at all": (Cat | Dog, 5, "value", "expected one of Cat, Dog, got an integer"),
}


@table(("target", "written", "path", "message"), NO_UNIONS)
def test_a_value_that_fits_no_member_of_a_union_is_refused(target, written, path, message):
    assert refusal(target, written) == [(path, message)]


# Validators.

ANNOTATED = {
    "a function": (Annotated[int, small], 9),
    "a validator of attrs": (Annotated[int, validators.ge(1)], 1),
    "a note": (Annotated[int, "how many"], 1),
    "a note and a function": (Annotated[int, "how many", even], 2),
    "an item": (list[Annotated[int, even]], [2]),
    "a list": (Annotated[list[int], validators.min_len(2)], [1, 2]),
}


@table(("target", "written"), ANNOTATED)
def test_a_value_that_its_validators_take_arrives(target, written):
    received, _ = call(target, written)
    assert [exactly(value) for value in received] == [exactly(written)]


NOT_VALID = {
    "a function": (Annotated[int, small], 10, "value", "is too large"),
    "a validator of attrs": (
        Annotated[int, validators.ge(1)],
        0,
        "value",
        "'value' must be >= 1: 0",
    ),
    "a validator without words": (Annotated[int, wordless], 1, "value", "ValueError"),
    "an item": (list[Annotated[int, even]], [2, 3], "value[1]", "is odd"),
    "the type first": (Annotated[int, small], "10", "value", NO_INTEGER),
    "an attrs class": (Range, {"low": 1, "high": 0}, "value.high", "high is below low"),
    "what a converter made of a field": (
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


@table(("target", "written", "path", "message"), NOT_VALID)
def test_a_value_that_a_validator_objects_to_is_refused(target, written, path, message):
    assert refusal(target, written) == [(path, message)]


def test_every_validator_of_a_value_has_its_say():
    target = Annotated[int, small, even]
    assert refusal(target, 11) == [("value", "is too large"), ("value", "is odd")]


def test_every_validator_of_a_class_has_its_say():
    assert refusal(Range, {"low": -1, "high": 11}) == [
        ("value.low", "'low' must be >= 0: -1"),
        ("value.high", "'high' must be <= 10: 11"),
    ]


def test_a_validator_has_its_say_beside_a_field_of_the_wrong_type():
    assert refusal(Range, {"low": -1, "high": "11"}) == [
        ("value.low", "'low' must be >= 0: -1"),
        ("value.high", NO_INTEGER),
    ]


def test_a_validator_that_asks_for_a_field_of_the_wrong_type_has_no_say():
    assert refusal(Range, {"low": "1", "high": 5}) == [("value.low", NO_INTEGER)]


def test_a_validator_that_asks_for_a_missing_field_has_no_say():
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


def test_a_validator_sees_the_defaults_of_the_other_fields():
    assert refusal(Choice, {"count": "1", "chosen": 3, "latest": 0}) == [
        ("value.chosen", "is not allowed"),
        ("value.count", NO_INTEGER),
    ]


def test_a_validator_sees_defaults_that_are_made_of_other_fields():
    assert refusal(Choice, {"count": "1", "chosen": 3}) == [("value.count", NO_INTEGER)]


@attrs.define
class Broken:
    x: int = attrs.field(validator=lambda self, attribute, value: value.upper())
    y: int = attrs.field(default=0, validator=validators.ge(0))


def test_a_validator_that_breaks_has_its_path_beside_the_others():
    assert refusal(Broken, {"x": 1, "y": -1}) == [
        ("value.x", "'int' object has no attribute 'upper'"),
        ("value.y", "'y' must be >= 0: -1"),
    ]


# Unknown fields.

CLASSES = {
    "attrs": (Point, {"x": 1}),
    "dataclass": (Order, {"item": "a"}),
    "TypedDict": (Film, {"title": "a"}),
    "NamedTuple": (Pair, {"left": 1}),
}


@table(("target", "fields"), CLASSES)
def test_an_unknown_field_of_a_class_passes(target, fields):
    _, result = call(target, {**fields, "more": 1})
    assert result.problems == []


@table(("target", "fields"), CLASSES)
def test_forbid_extra_refuses_an_unknown_field_of_a_class(target, fields):
    written = {**fields, "more": 1}
    assert refusal(target, written, forbid_extra=True) == [("value.more", "unknown field")]


def test_every_unknown_field_is_reported_beside_other_problems():
    written = [{"x": "1", "z": 0, "a b": 0}]
    assert refusal(list[Point], written, forbid_extra=True) == [
        ("value[0].x", NO_INTEGER),
        ('value[0]["a b"]', "unknown field"),
        ("value[0].z", "unknown field"),
    ]


def test_unknown_fields_are_reported_in_order():
    names = [f"name_{number}" for number in range(9)]
    problems = refusal(Point, {"x": 1, **dict.fromkeys(reversed(names))}, forbid_extra=True)
    assert [path for path, _ in problems] == [f"value.{name}" for name in names]


def test_forbid_extra_takes_any_key_of_a_dict():
    received, _ = call(dict[str, int], {"a": 1}, forbid_extra=True)
    assert received == [{"a": 1}]


def test_a_member_of_a_union_without_the_field_does_not_fit_where_extra_is_forbidden():
    received, _ = call(Narrow | Wide, {"a": 1, "b": 2}, forbid_extra=True)
    assert received == [Wide(1, 2)]


# Postponed annotations.

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
    assert refusal(target, data) == [("value.next.next.value", NO_INTEGER)]


# Secrets.

REFUSING = [
    *(int, float, bool, None, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, Decimal),
    *(bytes, Mood, Colour, Size, Literal["a"], Point, Order, Film, Pair, User, Box[int]),
    *(list[int], tuple[int, int], tuple[int, ...], set[int], frozenset[int], dict[str, int]),
    *(dict[Colour, str], Optional[int], int | float, Cat | Dog, Annotated[int, small]),
]


def without_address(target):
    """Return a name that is the same in every run."""
    return re.sub(" at 0x[0-9a-f]+", "", str(target))


@pytest.mark.parametrize("target", REFUSING, ids=without_address)
@table(
    "value",
    {"text": SECRET, "array": [SECRET, [SECRET]], "object": {"x": SECRET, "kind": SECRET}},
)
def test_no_message_holds_the_value(target, value):
    messages = [message for _, message in refusal(target, value)]
    assert messages
    assert SECRET not in "".join(messages)


@table(
    "written",
    {"blanks": " 1 ", "an underscore": "1_0", "other digits": "١", "no digit": ".", "hex": "0x1"},
)
def test_a_decimal_is_written_in_plain_digits(written):
    assert refusal(Decimal, written) == [("value", "expected a decimal such as '12.50'")]


@table(
    "written", {"odd hyphens": "1-2345678123456781234567812345678", "braces": "{%s}" % ("1" * 32)}
)
def test_a_uuid_is_written_in_one_of_two_ways(written):
    assert refusal(uuid.UUID, written) == [("value", "expected a UUID")]


def test_a_uuid_may_be_written_without_hyphens():
    assert call(uuid.UUID, "1" * 32)[0] == [uuid.UUID("1" * 32)]


def test_a_counter_counts_whole_numbers():
    counter = collections.Counter[str]
    assert refusal(counter, {"a": "1"}) == [("value.a", NO_INTEGER)]
    assert call(counter, {"a": 1})[0] == [collections.Counter(a=1)]
