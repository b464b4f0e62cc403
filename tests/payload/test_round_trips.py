"""Laws of structuring and JSON, with examples by hypothesis."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import NotRequired, TypedDict

from arbprov import ProviderApp
from arbprov.payload.json import dumps, parse_object
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure
from arbprov.task import Status

pytestmark = pytest.mark.usefixtures("each_json")

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


@attrs.frozen
class Chain:
    name: str
    rest: Chain | None = None


@dataclasses.dataclass
class Data:
    name: str
    days: list[dt.date]


class Typed(TypedDict):
    x: int
    y: NotRequired[str]


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

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PAIRS = st.lists(st.builds(Pair, st.integers(), TEXT), max_size=3)
CHAINS = st.recursive(st.builds(Chain, TEXT), lambda rest: st.builds(Chain, TEXT, rest))

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
    (Pair, st.builds(Pair, st.integers(), TEXT)),
    (Data, st.builds(Data, TEXT, st.lists(st.dates(), max_size=3))),
    (Typed, st.fixed_dictionaries({"x": st.integers()}, optional={"y": TEXT})),
    (Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    (tuple[float, ...], st.lists(FLOATS).map(tuple)),
    (collections.deque[int], st.lists(st.integers()).map(collections.deque)),
    (dict[dt.date, list[Pair]], st.dictionaries(st.dates(), PAIRS, max_size=3)),
    (Annotated[int, attrs.validators.ge(0)], st.integers(0)),
    (Leaf | Pair | None, LEAVES | st.builds(Pair, st.integers(), TEXT) | st.none()),
    (Chain, CHAINS),
]


def echo(target):
    """Return the list of what a handler receives for a `target`, and the client to call it."""
    app = ProviderApp("echo")
    received = []

    def it(value):
        received.append(value)
        return {"value": value}

    it.__annotations__ = {"value": target}
    app.action(it)
    return received, app.test_client()


@pytest.mark.parametrize(("target", "values"), TYPES, ids=[str(target) for target, _ in TYPES])
def test_a_value_that_is_returned_can_be_passed_again(target, values):
    received, client = echo(target)

    @given(values)
    def holds(value):
        received.clear()
        result = client.call("it", {"value": value})
        assert received == [value], result.message
        assert client.call("it", result.data).data == result.data

    holds()


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
def test_any_bytes_are_an_object_or_a_validation_failure(raw):
    try:
        assert isinstance(parse_object(raw), dict)
    except ValidationFailure as failure:
        assert failure.problems


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
def test_any_value_is_json_or_a_validation_failure(value):
    try:
        data = to_builtins(value)
    except ValidationFailure as failure:
        assert failure.problems
    else:
        assert json.loads(dumps(data)) == data


@given(ANYTHING)
def test_builtins_stay_as_they_are(value):
    try:
        data = to_builtins(value)
    except ValidationFailure:
        return
    assert to_builtins(data) == data


ODD_TEXT = st.text(st.characters(codec=None, categories=["Cs", "Lu", "Po"]), max_size=4)
ODD_OBJECTS = st.dictionaries(ODD_TEXT, JSON | ODD_TEXT, max_size=3)

STRICT = ProviderApp("strict")
STRICT.action("it", forbid_extra=True)(lambda: None)


@given(ODD_OBJECTS)
def test_a_payload_that_is_not_unicode_has_a_result_that_can_be_sent(data):
    raw = json.dumps(data).encode()
    assert json.loads(STRICT.test_client().call("it", raw).body.encode())["message"]


@given(ODD_OBJECTS | ODD_TEXT)
def test_a_result_that_is_not_unicode_can_be_sent(value):
    app = ProviderApp("odd")
    app.action("it")(lambda: value)
    assert json.loads(app.test_client().call("it").body.encode())["message"]


@given(ODD_TEXT)
def test_an_error_that_is_not_unicode_can_be_sent(text):
    app = ProviderApp("odd")

    @app.action
    def it():
        raise ValueError(text)

    assert json.loads(app.test_client().call("it").body.encode())["message"]


@pytest.mark.parametrize("target", [target for target, _ in TYPES], ids=str)
def test_any_json_is_a_value_of_the_type_or_a_problem(target):
    received, client = echo(target)

    @given(JSON)
    def holds(value):
        received.clear()
        result = client.call("it", {"value": value})
        assert bool(received) != bool(result.problems)

    holds()
