"""An object that fits no member of a union has the problems of the member that its tag names."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import typing
from typing import Annotated, Literal, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from support.structuring import refusal, structure
from typing_extensions import TypedDict

pytestmark = pytest.mark.usefixtures("each_json")


def made(target, value):
    return structure(target, value)[0][0]


class Kind(enum.Enum):
    CAT = "cat"
    DOG = "dog"


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    name: str
    unit: Literal["kg"] = "kg"


@attrs.frozen
class Dog:
    kind: Literal["dog", "hound"]
    name: str
    age: int = 0
    unit: Literal["kg"] = "kg"


@dataclasses.dataclass
class DataCat:
    kind: Literal[Kind.CAT]
    name: str


@dataclasses.dataclass
class DataDog:
    kind: Literal[Kind.DOG]
    name: str
    age: int = 0


class DictCat(TypedDict):
    kind: Annotated[Literal["cat"], "a tag"]
    name: str


class DictDog(TypedDict):
    kind: Literal["dog"]
    name: str
    age: int


class TupleCat(NamedTuple):
    kind: Literal["cat"]


class TupleDog(NamedTuple):
    kind: Literal["dog"]
    age: int


class ModelCat(pydantic.BaseModel):
    kind: Literal["cat"] = pydantic.Field(alias="type")
    name: str


class ModelDog(pydantic.BaseModel):
    kind: Literal["dog"] = pydantic.Field(alias="type")
    name: str
    age: int = 0


class StructCat(msgspec.Struct, tag="cat"):
    n: int


class StructDog(msgspec.Struct, tag="dog"):
    n: int
    age: int = 0


DOG = {"kind": "dog", "name": "Rex", "age": "x"}
MEMBERS = [
    (Cat | Dog, DOG),
    (DataCat | DataDog, DOG),
    (DictCat | DictDog, DOG),
    (DictCat | DictDog | None, DOG),
    (TupleCat | TupleDog, DOG),
    (ModelCat | ModelDog, {"type": "dog", "name": "Rex", "age": "x"}),
    (StructCat | StructDog, {"type": "dog", "n": 1, "age": "x"}),
    (Cat | StructDog | Dog, DOG),
]


@pytest.mark.parametrize(("target", "value"), MEMBERS)
def test_the_member_that_the_tag_names_is_at_fault(target, value):
    reverse = functools.reduce(operator.or_, reversed(typing.get_args(target)))
    for members in (target, reverse):
        assert [path for path, _ in refusal(members, value)] == ["value.age"]


def test_a_second_value_of_the_tag_names_the_member_too():
    assert refusal(Cat | Dog, {**DOG, "kind": "hound"}) == [
        ("value.age", "expected an integer, got a string")
    ]


def test_an_unknown_tag_is_the_problem_with_all_choices():
    assert refusal(Cat | Dog, {"kind": "cow", "name": "Rex"}) == [
        ("value.kind", "expected one of 'cat', 'dog', 'hound'")
    ]
    assert refusal(StructCat | StructDog, {"type": "cow", "n": 1}) == [
        ("value.type", "expected one of 'cat', 'dog'")
    ]


def test_a_missing_tag_is_a_missing_field():
    assert refusal(Cat | Dog, {"name": "Rex"}) == [("value.kind", "required field is missing")]
    assert refusal(Cat | Dog, {}) == [("value.kind", "required field is missing")]
    # As in msgspec: a struct has its tag in none of its fields, but its JSON has it in a union.
    assert refusal(StructCat | StructDog, {"n": 1}) == [("value.type", "required field is missing")]
    assert made(StructCat, {"n": 1}) == StructCat(1)


def test_one_and_true_are_different_tags():
    class One(TypedDict):
        kind: Literal[1]
        n: int

    class Yes(TypedDict):
        kind: Literal[True]
        m: int

    assert refusal(One | Yes, {"kind": True}) == [("value.m", "required field is missing")]


def test_other_values_than_objects_have_no_tag():
    assert refusal(Cat | Dog, 3) == [("value", "expected one of Cat, Dog, got an integer")]


def test_an_alias_counts_as_a_field_where_a_union_chooses():
    class Narrow(pydantic.BaseModel):
        a: int

    class Wide(pydantic.BaseModel, populate_by_name=True):
        a: int
        page_size: int = pydantic.Field(0, validation_alias=pydantic.AliasChoices("pageSize", "s"))
        deep: int = pydantic.Field(0, validation_alias=pydantic.AliasPath("x", "y"))

    for value in ({"a": 1, "pageSize": 2}, {"a": 1, "s": 2}, {"a": 1, "page_size": 2}):
        assert made(Narrow | Wide, value) == Wide(a=1, page_size=2)
