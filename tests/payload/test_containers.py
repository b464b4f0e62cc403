"""Arrays and objects as lists, tuples, sets and dicts of any kind."""

# ruff: noqa: UP006 - the old spellings are under test too

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import typing
import uuid
from typing import Annotated, Any, Literal, NewType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.structuring import (
    NOT_AN_INTEGER,
    Colour,
    Point,
    exactly,
    refusal,
    structure,
    table,
)

from arbprov.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("each_json")

AN_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
DATE = "expected an ISO 8601 date such as '2026-03-20'"


@attrs.frozen
class Hashable:
    x: int


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


@table(("target", "json_value", "expected"), ARRAYS)
def test_an_array_arrives_as_its_type(target, json_value, expected):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(expected)]


INVALID_ARRAYS = {
    "list of an object": (list[int], {}, "value", "expected an array, got an object"),
    "list of a string": (list[str], "ab", "value", "expected an array, got a string"),
    "list of null": (list[int], None, "value", "expected an array, got null"),
    "list with a bad item": (list[int], [1, "2"], "value[1]", NOT_AN_INTEGER),
    "list in a list": (list[list[int]], [[], ["2"]], "value[1][0]", NOT_AN_INTEGER),
    "a tuple too short": (tuple[int, str], [1], "value", "expected an array of 2 items, got 1"),
    "a tuple too long": (tuple[int], [1, 2], "value", "expected an array of 1 item, got 2"),
    "a tuple with a bad item": (tuple[int, int], [1, "2"], "value[1]", NOT_AN_INTEGER),
    "a variadic tuple": (tuple[int, ...], ["1"], "value[0]", NOT_AN_INTEGER),
    "an empty tuple": (tuple[()], [1], "value", "expected an array of 0 items, got 1"),
    "set of a string": (set[str], "ab", "value", "expected an array, got a string"),
    "set with a bad item": (set[int], ["1"], "value[0]", NOT_AN_INTEGER),
    "frozenset": (frozenset[int], ["1"], "value[0]", NOT_AN_INTEGER),
    "deque": (collections.deque[int], ["1"], "value[0]", NOT_AN_INTEGER),
    "Sequence": (collections.abc.Sequence[int], ["1"], "value[0]", NOT_AN_INTEGER),
    "Set": (collections.abc.Set[int], ["1"], "value[0]", NOT_AN_INTEGER),
    "a set of objects": (
        set[Any],
        [{}],
        "value",
        "expected items that a set can hold, got objects or arrays",
    ),
}


@table(("target", "json_value", "path", "message"), INVALID_ARRAYS)
def test_an_array_that_does_not_fit_is_refused(target, json_value, path, message):
    assert refusal(target, json_value) == [(path, message)]


def test_every_bad_item_of_an_array_is_reported():
    assert refusal(list[int], ["1", 2, "3"]) == [
        ("value[0]", NOT_AN_INTEGER),
        ("value[2]", NOT_AN_INTEGER),
    ]


JSON_VALUES = st.sampled_from(["", "a", 0, 1, 1.0, 1.5, True, False, None, [], {}])


@pytest.mark.parametrize("kind", [str, int, bool])
@given(st.data())
def test_an_array_names_each_item_of_another_type(kind, data):
    value = data.draw(st.lists(JSON_VALUES | JSON_VALUES.filter(lambda value: type(value) is kind)))
    wrong = [f"value[{index}]" for index, item in enumerate(value) if type(item) is not kind]
    received, result = structure(list[kind], value)
    assert [problem["path"] for problem in result.problems] == wrong
    assert received == ([] if wrong else [value])


# Mappings.

MAPPINGS = {
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
}


@table(("target", "json_value", "expected"), MAPPINGS)
def test_an_object_arrives_as_its_mapping(target, json_value, expected):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(expected)]


INVALID_MAPPINGS = {
    "dict of an array": (dict[str, int], [], "value", "expected an object, got an array"),
    "dict with a bad item": (dict[str, int], {"a": "1"}, "value.a", NOT_AN_INTEGER),
    "dict with an odd name": (dict[str, int], {"a b": "1"}, 'value["a b"]', NOT_AN_INTEGER),
    "dict with a bad key": (
        dict[Colour, int],
        {"green": 1},
        "value.green",
        "expected one of 'red', 'blue'",
    ),
    "dict by date": (dict[dt.date, int], {"today": 1}, "value.today", DATE),
}


@table(("target", "json_value", "path", "message"), INVALID_MAPPINGS)
def test_an_object_that_does_not_fit_a_mapping_is_refused(target, json_value, path, message):
    assert refusal(target, json_value) == [(path, message)]


def test_a_defaultdict_may_hold_items_of_a_type_without_a_default():
    received, _ = structure(collections.defaultdict[str, int | None], {"a": None})
    assert received == [{"a": None}]


OTHER_MAPPINGS = {
    "OrderedDict": collections.OrderedDict[str, int],
    "defaultdict": collections.defaultdict[str, int],
}


@table("target", OTHER_MAPPINGS)
def test_a_problem_in_any_mapping_has_its_path(target):
    assert refusal(target, {"a": "1"}) == [("value.a", NOT_AN_INTEGER)]


def test_a_counter_counts_whole_numbers():
    counter = collections.Counter[str]
    assert refusal(counter, {"a": "1"}) == [("value.a", NOT_AN_INTEGER)]
    assert structure(counter, {"a": 1})[0] == [collections.Counter(a=1)]


def test_forbid_extra_takes_any_key_of_a_dict():
    received, _ = structure(dict[str, int], {"a": 1}, forbid_extra=True)
    assert received == [{"a": 1}]


UserId = NewType("UserId", str)


@pytest.mark.parametrize(
    "key_type",
    [UserId, Annotated[UserId, "an id"], Literal["a"] | uuid.UUID, Literal["b"] | UserId],
)
def test_keys_may_have_a_type_of_strings_under_another_name(key_type):
    received, result = structure(dict[key_type, int], {"a": 1})
    assert received == [{"a": 1}]
    assert result.data == {"value": {"a": 1}}


def test_keys_may_not_have_another_type_under_another_name():
    with pytest.raises(ConfigurationError, match="keys of a JSON object are strings"):
        structure(dict[NewType("Number", int), int], {})
