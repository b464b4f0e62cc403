"""Laws of structuring and JSON, for whatever hypothesis comes up with."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov import ProviderApp
from arbprov.codec import dump, load_object, plain
from arbprov.problems import Misfit
from arbprov.task import Status

TEXT = st.text(st.characters(codec="utf-8"))


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Pair(NamedTuple):
    left: int
    right: str


@attrs.frozen
class Leaf:
    when: dt.datetime
    price: Decimal
    raw: bytes


@attrs.frozen
class Tree:
    name: str
    leaves: list[Leaf]
    by_id: dict[uuid.UUID, Colour]
    maybe: float | None = None


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
DATETIMES = st.datetimes(timezones=st.none() | OFFSETS)
LEAVES = st.builds(Leaf, DATETIMES, st.decimals(allow_nan=False, allow_infinity=False), st.binary())
TREES = st.builds(
    Tree,
    TEXT,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(st.uuids(), st.sampled_from(Colour), max_size=3),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)

TYPES: list[tuple[Any, Any]] = [
    (str, TEXT),
    (int, st.integers()),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (dt.date, st.dates()),
    (dt.datetime, DATETIMES),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(days=-9999), dt.timedelta(days=9999))),
    (Colour, st.sampled_from(Colour)),
    (list[int], st.lists(st.integers())),
    (tuple[int, str], st.tuples(st.integers(), TEXT)),
    (dict[str, int], st.dictionaries(TEXT, st.integers())),
    (int | str | None, st.integers() | TEXT | st.none()),
    (Leaf, LEAVES),
    (Tree, TREES),
]


@pytest.mark.parametrize(("target", "values"), TYPES, ids=[str(target) for target, _ in TYPES])
def test_what_is_written_is_read_again(target, values):
    app = ProviderApp("echo")
    received = []

    def it(value):
        received.append(value)
        return {"value": value}

    it.__annotations__ = {"value": target}
    app.action(it)
    client = app.test_client()

    @given(values)
    def holds(value):
        received.clear()
        result = client.call("it", {"value": value})
        assert received == [value], result.message
        assert client.call("it", result.data).data == result.data

    holds()


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=5)

ECHO = ProviderApp("echo")
ECHO.action("it")(lambda payload: payload)
CLIENT = ECHO.test_client()


@given(OBJECTS)
def test_json_passes_through_unchanged(data):
    assert CLIENT.call("it", json.dumps(data).encode()).data == data


@given(st.binary() | OBJECTS.map(lambda data: json.dumps(data).encode()[:-1]))
def test_any_bytes_are_an_object_or_a_misfit(raw):
    try:
        assert isinstance(load_object(raw), dict)
    except Misfit as misfit:
        assert misfit.problems


@given(st.binary(), st.binary(), TEXT)
def test_any_task_has_exactly_one_result(payload, account, action):
    result = CLIENT.call(action, payload, account=account)
    assert json.loads(result.body)["status"] in set(Status)


KEYS = TEXT | st.integers()
ODD = st.floats() | st.complex_numbers() | st.sets(st.integers()) | st.just(object()) | st.text()
ANYTHING = st.recursive(
    JSON | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(ANYTHING)
def test_anything_is_json_or_a_misfit_with_paths(value):
    try:
        data = plain(value)
    except Misfit as misfit:
        assert misfit.problems
    else:
        assert json.loads(dump(data)) == data


@given(ANYTHING)
def test_plain_data_is_plain_already(value):
    try:
        data = plain(value)
    except Misfit:
        return
    assert plain(data) == data
