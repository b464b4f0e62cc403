"""Values that a handler may return, and their JSON."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import json
import math
import types
import uuid
from decimal import Decimal
from typing import NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arbprov
from arbprov import ProviderApp, ProviderResponse
from arbprov.payload.json import MAX_DEPTH, dumps, parse_object
from arbprov.payload.serialize import encode_task_data, to_builtins
from arbprov.payload.validation import ValidationFailure, field_path, join_paths

pytestmark = pytest.mark.usefixtures("each_json")


def refusal(value) -> list[tuple[str, str]]:
    """Return the path and the message of each problem of a value that is refused."""
    with pytest.raises(ValidationFailure) as caught:
        to_builtins(value)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_the_error_says_each_problem_at_its_path():
    with pytest.raises(ValueError, match=r"^\[0\]: inf is not .* number; \[1\]\.a: .* for object$"):
        arbprov.dumps([float("inf"), {"a": object()}])


# Builtins.


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 2


class Name(str):
    __slots__ = ()


@attrs.frozen
class Point:
    x: int
    when: dt.date | None = None


@dataclasses.dataclass
class Tagged:
    tags: list[str]


class Pair(NamedTuple):
    left: int
    right: Colour


NOON = dt.datetime(2026, 3, 20, 12, 0, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, None),
        (True, True),
        (10**40, 10**40),
        (1.5, 1.5),
        ("ž", "ž"),
        (Name("n"), "n"),
        (Colour.RED, "red"),
        (Level.HIGH, 2),
        (b"hi", "aGk="),
        (Decimal("12.50"), "12.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (NOON, "2026-03-20T12:00:00+00:00"),
        (NOON.date(), "2026-03-20"),
        (NOON.time(), "12:00:00"),
        (dt.timedelta(minutes=1.5), 90.0),
        (Point(1, NOON.date()), {"x": 1, "when": "2026-03-20"}),
        (Tagged(["a"]), {"tags": ["a"]}),
        (Pair(1, Colour.RED), {"left": 1, "right": "red"}),
        ((1, (2,)), [1, [2]]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.deque([1]), [1]),
        ({NOON.date(): 1}, {"2026-03-20": 1}),
        ({Colour.RED: {"b": Point(1)}}, {"red": {"b": {"x": 1, "when": None}}}),
    ],
    ids=repr,
)
def test_a_value_with_a_json_form_becomes_it(value, data):
    assert json.loads(dumps(to_builtins(value))) == data


CYCLE: list = [{}]
CYCLE[0]["a"] = CYCLE


def deep(levels: int) -> list:
    """Return a list with `levels` lists inside each other."""
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def deep_object(levels: int) -> dict:
    """Return an object with `levels` objects inside each other."""
    return functools.reduce(lambda inner, _: {"a": inner}, range(levels), {})


class Promise:
    def __await__(self):
        return iter(())


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (float("nan"), "", "nan is not a JSON number"),
        ({"a": [float("-inf")]}, "a[0]", "-inf is not a JSON number"),
        (Decimal("NaN"), "", "NaN is not a JSON number"),
        ({"a": object()}, "a", "JSON has no form for object"),
        ({"a": {1}}, "a", "a set has no order in JSON; return sorted(...) or list(...) of it"),
        ([complex(1)], "[0]", "JSON has no form for complex"),
        ([].__iter__(), "", "JSON has no form for list_iterator"),
        ({"a": Promise()}, "a", "JSON has no form for Promise; await it"),
        (len, "", "JSON has no form for builtin_function_or_method"),
        ({1: "a"}, '["1"]', "the key 1 is not a string"),
        ({"a": {None: 1}}, "a.None", "the key None is not a string"),
        ({"a": {NOON.date(): 1, "2026-03-20": 2}}, "a", "two of its keys are the same text"),
        ({"odd name": {(): 1}}, '["odd name"]["()"]', "the key () is not a string"),
        ("\ud800", "", "a string with a lone surrogate is not Unicode text"),
        pytest.param(10**5000, "", "an integer of more than 4,200 digits is too long", id="digits"),
        (CYCLE, "[0].a", "contains itself"),
        (deep(200), "", "nested deeper than 100 levels"),
        (deep_object(200), "", "nested deeper than 100 levels"),
        (Point(object()), "x", "JSON has no form for object"),
    ],
)
def test_a_value_without_a_json_form_is_refused_with_its_path(value, path, message):
    assert refusal(value) == [(path, message)]


def test_every_part_without_a_json_form_is_reported_at_once():
    value = {"a": float("nan"), "b": [1, {2}], "c": {"d": object()}}
    assert [path for path, _ in refusal(value)] == ["a", "b[1]", "c.d"]


# Any value, compared with a simple model of its JSON.

VALID = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from([b"", "ž", "🐎", 10**4000, -(10**4000)])
)
INVALID = st.sampled_from([float("nan"), float("-inf"), "\ud800", 10**4250, {1}, len, Level])
NAMES = st.text(max_size=2) | st.sampled_from([1, None, True, 1.5, (), "\ud800"])


def containers(inner):
    lists = st.lists(inner, max_size=3)
    return lists | lists.map(tuple) | st.dictionaries(NAMES, inner, max_size=3)


VALUES = st.recursive(VALID, containers) | st.recursive(VALID | INVALID, containers)


def is_text(value) -> bool:
    return type(value) is str and not any("\ud800" <= each <= "\udfff" for each in value)


def is_valid(value) -> bool:
    if value == b"":
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return value.bit_length() <= 14_000
    return is_text(value) or value is None or type(value) is bool


def steps(value) -> list[tuple[str, object, bool]]:
    """Return the items of a value, each with its path and whether its key is valid."""
    if type(value) is dict:
        names = [key if type(key) is str else repr(key) for key in value]
        items = zip(names, value.items(), strict=True)
        return [(field_path(name), item, is_text(key)) for name, (key, item) in items]
    items = enumerate(value) if type(value) in (list, tuple) else ()
    return [(f"[{index}]", item, True) for index, item in items]


def invalid_paths(value, path: str = "") -> list[str]:
    """Return the path of each part of a value that has no JSON form."""
    found = []
    for step, item, valid_key in steps(value):
        item_path = join_paths(path, step)
        found += invalid_paths(item, item_path) or ([] if valid_key else [item_path])
    return found if type(value) in (dict, list, tuple) or is_valid(value) else [path]


def as_json(value):
    if type(value) is dict:
        return {key: as_json(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [as_json(item) for item in value]
    return "" if value == b"" else value


@given(VALUES)
def test_a_value_is_converted_or_each_invalid_part_is_reported(value):
    if paths := invalid_paths(value):
        assert [path for path, _ in refusal(value)] == paths
    else:
        assert repr(to_builtins(value)) == repr(as_json(value))


def mutable_ids(value) -> list[int]:
    below = [each for _, item, _ in steps(value) for each in mutable_ids(item)]
    return [id(value), *below] if type(value) in (dict, list) else below


@given(st.recursive(VALID, containers))
def test_builtins_share_no_mutable_object_with_the_value(value):
    if not invalid_paths(value):
        data = to_builtins(value)
        assert not set(mutable_ids(value)) & set(mutable_ids(data))


def test_a_shared_value_is_not_a_cycle():
    shared = [1]
    assert to_builtins({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


def test_a_handler_whose_result_has_no_json_form_runs_once():
    app = ProviderApp("once")
    runs = []

    @app.action
    def it() -> dict:
        runs.append(1)
        return {"when": float("inf")}

    result = app.test_client().call("it")
    assert (len(runs), result.status, result.message) == (
        1,
        "error",
        "The action returned what JSON can't carry: when: inf is not a JSON number",
    )


def test_a_handler_that_returns_nothing_returns_an_empty_object():
    app = ProviderApp("nothing")
    app.action("it")(lambda: None)
    assert app.test_client().call("it").envelope["data"]["response"] == {}


@pytest.mark.parametrize("value", [[1, 2], "text", 5, False])
def test_a_handler_may_return_any_json(value):
    app = ProviderApp("any")
    app.action("it")(lambda: value)
    assert app.test_client().call("it").data == value


@attrs.define
class Link:
    next: object = None


# Through an action.


def answer(value):
    """Return the result of an action whose handler returns `value`."""
    app = ProviderApp("answer")
    app.action("it")(lambda: value)
    return app.test_client().call("it")


def echo(raw: bytes):
    """Return the result of an action that returns its payload."""
    app = ProviderApp("echo")
    app.action("it")(lambda payload: payload)
    return app.test_client().call("it", raw)


def test_a_result_without_a_json_form_is_an_error_with_its_problems():
    assert answer({"a": [1, {2}], "b": float("nan")}).problems == [
        {
            "path": "a[1]",
            "message": "a set has no order in JSON; return sorted(...) or list(...) of it",
        },
        {"path": "b", "message": "nan is not a JSON number"},
    ]


@pytest.mark.parametrize(
    "data", [deep_object(MAX_DEPTH - 1), {"a": deep(MAX_DEPTH - 2)}], ids=["objects", "arrays"]
)
def test_a_payload_of_the_maximum_depth_may_be_returned(data):
    assert echo(json.dumps(data).encode()).data == data


def test_a_value_deeper_than_the_maximum_is_refused():
    # `deep(0)` has one level.
    assert refusal(deep(MAX_DEPTH)) == [("", "nested deeper than 100 levels")]


def test_objects_may_be_as_deep_as_dicts():
    chain = functools.reduce(lambda rest, _: Link(rest), range(MAX_DEPTH), None)
    assert parse_object(dumps(to_builtins(chain)).encode())


def test_a_generator_has_no_json_form():
    assert refusal({"rows": (row for row in [1])}) == [("rows", "JSON has no form for generator")]


# Text that is not Unicode.

LONE = "\ud800"


def test_a_lone_surrogate_of_a_payload_is_a_problem_with_its_path():
    assert echo(b'{"a": ["\\ud800"]}').problems == [
        {"path": "a[0]", "message": "a string with a lone surrogate is not Unicode text"}
    ]


def test_an_unknown_field_whose_name_is_not_unicode_ends_the_task_with_an_error():
    app = ProviderApp("odd")
    app.action("it", forbid_extra=True)(lambda: None)
    result = app.test_client().call("it", b'{"\\ud800": 1}')
    assert (result.status, [p["message"] for p in result.problems]) == ("error", ["unknown field"])


def test_an_exception_that_is_not_unicode_ends_the_task_with_an_error():
    app = ProviderApp("odd")

    @app.action
    def it():
        raise ValueError(LONE)

    assert app.test_client().call("it").data["type"] == "ValueError"


def test_a_key_that_is_not_unicode_ends_the_task_with_an_error():
    assert [p["message"] for p in answer({LONE: 1}).problems] == [
        "a string with a lone surrogate is not Unicode text"
    ]


@pytest.mark.parametrize("status", ["success", "error"])
def test_a_message_that_is_not_unicode_can_be_sent(status):
    result = answer(ProviderResponse(status, message=LONE))
    assert json.loads(result.body.encode())["message"]


# Values that fail in other ways are validation failures too.


class Nameless:
    def __repr__(self):
        raise RuntimeError("no name")


@attrs.define
class Unset:
    x: int = attrs.field(init=False)


def linked() -> Link:
    link = Link()
    link.next = [link]
    return link


def queued() -> collections.deque:
    queue: collections.deque = collections.deque()
    queue.append(queue)
    return queue


def test_a_key_whose_repr_fails_is_refused():
    ((_, message),) = refusal({Nameless(): 1})
    assert message.endswith("is not a string")


def test_a_key_of_too_many_digits_is_refused():
    ((_, message),) = refusal({10**5000: 1})
    assert message.endswith("is not a string")


def test_an_object_that_lacks_its_field_is_refused():
    assert [path for path, _ in refusal([Unset()])] == ["[0].x"]


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_an_array_too_deep_for_the_interpreter_is_refused(levels):
    assert refusal(deep(levels)) == [("", "nested deeper than 100 levels")]


@pytest.mark.parametrize(
    ("value", "path"), [(linked(), "a.next[0]"), (queued(), "a[0]")], ids=["attrs", "deque"]
)
def test_a_cycle_through_an_object_is_named_with_its_path(value, path):
    assert refusal({"a": value}) == [(path, "contains itself")]


class Count(int):
    pass


class Ratio(float):
    pass


@pytest.mark.parametrize("value", [Count(5), Ratio(0.5)])
def test_a_number_of_a_subclass_becomes_a_builtin(value):
    assert type(to_builtins(value)) in (int, float)
    assert to_builtins(value) == value


def test_a_cycle_is_found_beside_values_without_children():
    cycle: list = [None, object, 1]
    cycle.append(cycle)
    assert refusal(cycle) == [("[3]", "contains itself")]


def test_a_value_shared_at_every_level_is_soon_found_too_deep():
    shared: list = []
    for _ in range(150):
        shared = [shared, shared]
    assert refusal(shared) == [("", "nested deeper than 100 levels")]


# A payload or an account, as it is passed in Python.


@pytest.mark.parametrize(
    ("data", "raw"),
    [(None, b"{}"), (b"{raw", b"{raw"), ({"day": dt.date(2026, 3, 20)}, b'{"day":"2026-03-20"}')],
)
def test_task_data_is_encoded_unless_it_is_bytes(data, raw):
    assert encode_task_data(data) == raw
