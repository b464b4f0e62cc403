"""Messages of problems: they never hold the value, since it may be a secret."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re
import uuid
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

import attrs
import pytest
from support.structuring import refusal, table
from typing_extensions import TypedDict

from arbprov.payload.validation import field_path, join_paths

SECRET = "open-sesame"


class Colour(str, enum.Enum):
    RED = "red"


class Mood(enum.Enum):
    CALM = "calm"
    LEVEL = 2


class Step(enum.IntEnum):
    FIRST = 1


@attrs.define
class Point:
    x: int


@dataclasses.dataclass
class Order:
    item: int


class Film(TypedDict):
    title: int


class Pair(NamedTuple):
    left: int


@attrs.define
class Nested:
    points: list[Point]


@attrs.define
class Cat:
    kind: Literal["cat"]


@attrs.define
class Dog:
    kind: Literal["dog"]


def small(value):
    if value > 9:
        raise ValueError("is too large")


TYPES = [
    *(int, float, bool, None, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, Decimal),
    *(bytes, Mood, Colour, Step, Literal["a"], Point, Order, Film, Pair, Nested),
    *(list[int], tuple[int, int], tuple[int, ...], set[int], frozenset[int], dict[str, int]),
    *(dict[Colour, str], int | None, int | float, Cat | Dog, Annotated[int, small]),
]


def stable_id(target):
    """Return a name of a type that is the same in every process."""
    return re.sub(" at 0x[0-9a-f]+", "", str(target))


@pytest.mark.parametrize("target", TYPES, ids=stable_id)
@table(
    "value",
    {"text": SECRET, "array": [SECRET, [SECRET]], "object": {"x": SECRET, "kind": SECRET}},
)
def test_no_message_holds_the_value(target, value):
    messages = [message for _, message in refusal(target, value)]
    assert messages
    assert SECRET not in "".join(messages)


@pytest.mark.parametrize(
    ("parent", "child", "path"),
    [
        ("", "", ""),
        ("a", "", "a"),
        ("", "b", "b"),
        ("a", "b", "a.b"),
        ("a", "[0]", "a[0]"),
        ("a[0]", "b", "a[0].b"),
        ("a", '["b c"]', 'a["b c"]'),
    ],
)
def test_a_path_joins_its_parts(parent, child, path):
    assert join_paths(parent, child) == path


@pytest.mark.parametrize(
    ("name", "path"), [("city", "city"), ("a b", '["a b"]'), ("", '[""]'), ("class", "class")]
)
def test_a_name_that_is_not_an_identifier_stands_in_brackets(name, path):
    assert field_path(name) == path
