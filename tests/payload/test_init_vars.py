"""Dataclasses with InitVar fields: arguments of the constructor only."""

from __future__ import annotations

import dataclasses
from dataclasses import InitVar

import pytest
from support.structuring import refusal, structure

pytestmark = pytest.mark.usefixtures("each_json")


def made(target, value):
    return structure(target, value)[0][0]


@dataclasses.dataclass
class Needs:
    x: int
    factor: InitVar[int]
    tags: list[str] = dataclasses.field(default_factory=list)
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, factor):
        if factor < 0:
            raise ValueError("factor must not be negative")
        self.x *= factor


@dataclasses.dataclass
class Defaults:
    x: int
    factor: InitVar[int] = 2
    bare: InitVar = None

    def __post_init__(self, factor, bare):
        self.x *= factor


@dataclasses.dataclass
class Inherits(Needs):
    name: str = ""


def test_the_constructor_gets_the_field():
    assert made(Needs, {"x": 2, "factor": 3}) == dataclasses.replace(Needs(6, 1), factor=1)
    assert made(Defaults, {"x": 1, "factor": 5, "bare": []}).x == 5
    assert made(Inherits, {"x": 2, "factor": 3}).x == 6
    assert made(list[Needs], [{"x": 2, "factor": 3, "tags": ["a"]}])[0].tags == ["a"]


def test_the_field_may_have_a_default():
    assert made(Defaults, {"x": 1}).x == 2


def test_unknown_fields_are_ignored():
    assert made(Needs, {"x": 2, "factor": 3, "total": 4, "other": 5}).total == 0


def test_its_problems_have_its_path():
    assert refusal(Needs, {"x": 1}) == [("value.factor", "required field is missing")]
    assert refusal(Needs, {"x": 1, "factor": "a"}) == [
        ("value.factor", "expected an integer, got a string")
    ]
    assert refusal(Needs, {"x": 1, "factor": -1}) == [("value", "factor must not be negative")]


def test_it_counts_as_a_field_where_a_union_chooses():
    @dataclasses.dataclass
    class Plain:
        x: int

    assert type(made(Plain | Needs, {"x": 1, "factor": 2})) is Needs


def test_an_extra_field_is_a_problem_where_it_is_forbidden():
    from arbprov import ProviderApp

    app = ProviderApp("scale")
    app.action("value", payload_schema=Needs, forbid_extra=True)(lambda payload: payload.x)
    client = app.test_client()
    assert client.call("value", {"x": 1, "factor": 2}).data == 2
    assert client.call("value", {"x": 1, "factor": 2, "y": 1}).problems == [
        {"path": "y", "message": "unknown field"}
    ]
