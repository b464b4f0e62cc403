"""JSON Schema of types: a validator accepts what the binder accepts, and nothing else."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import annotated_types as at
import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.structuring import structure
from typing_extensions import Doc, NotRequired, TypedDict

from arbprov import ProviderApp, TaskContext
from arbprov.payload.json_schema import make_json_schema
from arbprov.payload.schema import compile_schema


def schema_of(target, **options):
    """Return the schema of a type, without the dialect."""
    schema = make_json_schema(target, **options)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema.pop("$schema") == "https://json-schema.org/draft/2020-12/schema"
    return schema


def definition(target, **options):
    """Return the definition of a class."""
    schema = schema_of(target, **options)
    return schema["$defs"][schema["$ref"].rpartition("/")[2]]


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


UserId = NewType("UserId", str)
T = TypeVar("T")


@attrs.frozen
class Place:
    """A place to visit.

    Where it is.

    Attributes:
        city: The city's name,
            in English.
        near: Places in its
            neighbourhood.
    """

    city: Annotated[str, at.MinLen(1)]
    zone: str = "UTC"
    near: list[Place] = attrs.field(factory=list)
    token: uuid.UUID = attrs.field(factory=uuid.uuid4)
    computed: int = attrs.field(init=False, default=1)


@dataclasses.dataclass
class Order:
    count: int
    by: dataclasses.InitVar[str]
    bare: dataclasses.InitVar = None
    tags: list[str] = dataclasses.field(default_factory=list)
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, by, bare):
        pass


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str = "r"


@attrs.frozen
class Box(Generic[T]):
    content: T
    rest: list[T]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = pydantic.Field(9, ge=0, validation_alias="livesLeft")
    friend: Optional[Cat] = None  # noqa: UP045 - pydantic reads it on Python 3.10


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    friend: Optional[Cat] = None  # noqa: UP045


class Stock(msgspec.Struct, rename="camel"):
    unit_price: Annotated[float, msgspec.Meta(ge=0)]
    rest: Stock | None = None


@pytest.mark.parametrize(
    ("target", "schema"),
    [
        (Any, {}),
        (object, {}),
        (None, {"type": "null"}),
        (str, {"type": "string"}),
        (UserId, {"type": "string"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | Any, {}),
        (Colour, {"enum": ["red", 2]}),
        (Literal["a", 1, True], {"enum": ["a", 1, True]}),
        (Literal[Colour.RED], {"const": "red"}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (frozenset[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (tuple, {"type": "array"}),
        (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (dict, {"type": "object"}),
        (dict[str, Any], {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            collections.Counter[Literal["a", "b"]],
            {
                "type": "object",
                "propertyNames": {"enum": ["a", "b"]},
                "additionalProperties": {"type": "integer"},
            },
        ),
    ],
    ids=str,
)
def test_types(target, schema):
    assert schema_of(target) == schema


@pytest.mark.parametrize(
    ("target", "schema"),
    [
        (Annotated[int, at.Ge(1), at.Lt(5)], {"minimum": 1, "exclusiveMaximum": 5}),
        (Annotated[int, at.Interval(gt=1, le=5)], {"exclusiveMinimum": 1, "maximum": 5}),
        (Annotated[int, at.Ge(1), at.Ge(3)], {"minimum": 1, "allOf": [{"minimum": 3}]}),
        (Annotated[int, at.MultipleOf(3)], {"multipleOf": 3}),
        (Annotated[str, at.Len(1, 5)], {"minLength": 1, "maxLength": 5}),
        (Annotated[list, at.MinLen(1)], {"minItems": 1}),
        (Annotated[dict, at.MaxLen(1)], {"maxProperties": 1}),
        (Annotated[bytes, at.MaxLen(1)], {}),
        (Annotated[str, at.Predicate(str.isupper)], {}),
        (Annotated[str, "the city"], {"description": "the city"}),
        (Annotated[str, Doc("the city")], {"description": "the city"}),
        (Annotated[str, pydantic.Field(pattern="^a", title="A")], {"pattern": "^a", "title": "A"}),
        (Annotated[str, msgspec.Meta(pattern="b")], {"pattern": "b"}),
        (Annotated[str, msgspec.Meta(description="x")], {"description": "x"}),
        (Annotated[dt.date, at.Gt(dt.date(2026, 1, 1))], {}),
    ],
    ids=str,
)  # fmt: skip
def test_constraints(target, schema):
    inner = schema_of(target.__origin__)
    assert {name: v for name, v in schema_of(target).items() if name not in inner} == schema


def test_a_length_bounds_each_kind_that_a_union_has():
    schema = schema_of(Annotated[str | list[int], at.MinLen(2)])
    assert (schema["minLength"], schema["minItems"], schema["minProperties"]) == (2, 2, 2)


def test_a_class_has_its_description_its_fields_and_their_defaults():
    assert definition(Place) == {
        "description": "A place to visit.",
        "type": "object",
        "properties": {
            "city": {
                "type": "string",
                "minLength": 1,
                "description": "The city's name, in English.",
            },
            "zone": {"type": "string", "default": "UTC"},
            "near": {
                "type": "array",
                "items": {"$ref": "#/$defs/Place"},
                "description": "Places in its neighbourhood.",
                "default": [],
            },
            "token": schema_of(uuid.UUID),
        },
        "required": ["city"],
    }


@pytest.mark.parametrize(
    ("target", "properties", "required"),
    [
        (Order, ["count", "tags", "by", "bare"], ["count", "by"]),
        (Movie, ["title", "year"], ["title"]),
        (Pair, ["left", "right"], ["left"]),
    ],
)
def test_the_fields_of_other_classes(target, properties, required):
    schema = definition(target)
    assert (list(schema["properties"]), schema["required"]) == (properties, required)


def test_generic_classes_have_a_definition_for_each_type():
    definitions = schema_of(tuple[Box[int], Box[str]])["$defs"]
    contents = {name: d["properties"]["content"] for name, d in definitions.items()}
    assert contents == {"Box_int": {"type": "integer"}, "Box_str": {"type": "string"}}


def test_classes_of_one_name_have_definitions_of_their_own():
    other = attrs.make_class("Place", {"x": attrs.field(type=int)})
    assert set(schema_of(tuple[Place, other])["$defs"]) == {"Place", "Place_2"}


def test_models_of_other_libraries_have_the_schemas_that_they_write():
    schema = schema_of(tuple[Cat | Dog, Stock])
    assert set(schema["$defs"]) == {"Cat", "Stock"}
    lives = schema["$defs"]["Cat"]["properties"]["livesLeft"]
    assert (lives["minimum"], lives["default"]) == (0, 9)
    assert schema["$defs"]["Stock"]["properties"]["unitPrice"] == {"type": "number", "minimum": 0}


def test_a_dict_schema_is_an_object():
    target = compile_schema({"city": str, "days": Optional[int]}, "payload_schema")  # noqa: UP045
    assert schema_of(target, forbid_extra=True) == {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


# The validator and the binder.

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
# JSON Schema takes 1.0 for an integer, and arbprov for a number.
FLOATS = st.floats(-1e6, 1e6).filter(lambda number: not number.is_integer())
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | FLOATS | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
DATETIMES = st.datetimes(timezones=st.none() | st.just(dt.timezone.utc)).map(dt.datetime.isoformat)
PLACES = st.recursive(
    st.fixed_dictionaries({"city": TEXT}, optional={"zone": TEXT | SCALARS, "other": JSON}),
    lambda inner: st.fixed_dictionaries({"city": TEXT}, optional={"near": st.lists(inner)}),
    max_leaves=4,
)
# Each type with values that fit it, for the most part.
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Any, JSON),
    (None, st.none()),
    (str, TEXT),
    (int, st.integers(-9, 9)),
    (bool, st.booleans()),
    (float, FLOATS | st.integers(-9, 9)),
    (bytes, st.sampled_from(["", "YQ==", "YWI=", "YWJj", "YWJj\n", "YQ=", "Y===", "+/+/"]) | TEXT),
    (dt.timedelta, FLOATS | st.integers(-9, 9)),
    (Decimal, st.sampled_from(["1", "-1.50", "1e5", "1_0", ".5", "1.\n", "٣"]) | st.integers()),
    (uuid.UUID, st.uuids().map(str) | st.uuids().map(lambda u: u.hex) | TEXT),
    (dt.date, st.dates().map(str) | DATETIMES),
    (dt.time, st.times().map(str) | DATETIMES | st.sampled_from(["10:30", "10:30Z", "10:30:00.1"])),
    (dt.datetime, DATETIMES | st.dates().map(str)),
    (Colour, st.sampled_from(["red", 2, "RED", 1])),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None, "1"])),
    (Place, PLACES),
    (Order, st.fixed_dictionaries({"count": st.integers()}, optional={"by": TEXT, "total": JSON})),
    (Movie, st.fixed_dictionaries({"title": TEXT}, optional={"year": st.integers(-9, 9)})),
    (Pair, st.fixed_dictionaries({"left": st.integers(-9, 9)}, optional={"right": TEXT})),
    (Stock, st.fixed_dictionaries({"unitPrice": FLOATS}, optional={"rest": st.none()})),
    (Annotated[int, at.Interval(ge=-2, lt=5)], st.integers(-9, 9)),
    (Annotated[str, at.Len(1, 3)], TEXT),
    (Annotated[str, pydantic.Field(pattern="^a")], st.sampled_from(["a", "ab", "b", ""])),
]


@st.composite
def types(draw, depth=2):
    """Return a type, made of others down to a depth, with values for it."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(LEAVES))
    (first, values), (second, more) = draw(types(depth - 1)), draw(types(depth - 1))
    return draw(
        st.sampled_from(
            [
                (list[first], st.lists(values, max_size=3)),
                (dict[str, first], st.dictionaries(TEXT, values, max_size=3)),
                (Union[first, second], values | more),  # noqa: UP007 - `|` can't join None
                (tuple[first, second], st.tuples(values, more).map(list)),
            ]
        )
    )


def is_valid(target, value):
    return jsonschema.Draft202012Validator(make_json_schema(target)).is_valid(value)


@pytest.mark.parametrize(("target", "values"), LEAVES, ids=[str(target) for target, _ in LEAVES])
@given(st.data())
def test_a_validator_accepts_what_the_binder_accepts(target, values, data):
    value = data.draw(values | JSON)
    received, result = structure(target, value)
    assert is_valid(target, value) == bool(received), result.message


@given(types().flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1] | JSON)))
def test_a_validator_accepts_what_the_binder_accepts_of_compound_types(case):
    target, value = case
    received, result = structure(target, value)
    assert is_valid(target, value) == bool(received), result.message


# The payloads and accounts of actions.


def payload_of(handler, **options):
    """Return the schema of the payload of an action."""
    app = ProviderApp("documented")
    app.action("it", **options)(handler)
    schema = app.schema()["it"]["payload"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def test_an_action_has_its_description_and_those_of_its_parameters():
    app = ProviderApp("weather")

    @app.action
    def forecast(ctx: TaskContext, account: Place, city: str, days: int = 3):
        """Forecast for a city.

        Args:
            ctx: The task.
            city: Its name.
        """

    schema = app.schema()["forecast"]
    assert schema["description"] == "Forecast for a city."
    assert schema["payload"] == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Its name."},
            "days": {"type": "integer", "default": 3},
        },
        "required": ["city"],
    }
    assert (schema["account"]["$ref"], set(schema["account"]["$defs"])) == (
        "#/$defs/Place",
        {"Place"},
    )


def whole(payload: Place):
    pass


def beside(payload: Movie, rating: int):
    pass


def any_beside(payload: dict[str, int], rating: int):
    pass


def rest(city: str, **extra: int):
    pass


def nothing(ctx: TaskContext):
    pass


def two(title, year):
    pass


# Handlers, and the options of their actions.
HANDLERS: dict[str, Any] = {
    "fields": (lambda city, days=3: None, {}),
    "whole": (whole, {}),
    "beside": (beside, {}),
    "any_beside": (any_beside, {}),
    "rest": (rest, {}),
    "nothing": (nothing, {}),
    "dict schema": (two, {"payload_schema": {"title": str, "year": Optional[int]}}),  # noqa: UP045
    "TypedDict schema": (two, {"payload_schema": Movie}),
    "mapping schema": (two, {"payload_schema": dict[str, int | str]}),
    "struct schema": (lambda unit_price: None, {"payload_schema": Stock}),
    "model schema": (lambda kind, friend: None, {"payload_schema": Dog}),
    "class schema": (lambda city: None, {"payload_schema": Place}),
}
NAMES = ["city", "days", "title", "year", "rating", "unitPrice", "kind", "friend", "zone", "other"]


@pytest.mark.parametrize("forbid_extra", [False, True])
@pytest.mark.parametrize(("handler", "options"), HANDLERS.values(), ids=HANDLERS)
@settings(max_examples=max(25, settings().max_examples // 10))
@given(st.dictionaries(st.sampled_from(NAMES), SCALARS | st.sampled_from(["dog", "cat"])))
def test_a_validator_accepts_the_payloads_that_an_action_accepts(
    handler, options, forbid_extra, payload
):
    app = ProviderApp("documented", forbid_extra=forbid_extra)
    app.action("it", **options)(handler)
    schema = payload_of(handler, forbid_extra=forbid_extra, **options)
    result = app.test_client().call("it", payload)
    is_valid = jsonschema.Draft202012Validator(schema).is_valid(payload)
    assert is_valid == (result.status == "success"), result.message


@pytest.mark.parametrize("value", ["text", [], None, 3])
def test_a_payload_and_an_account_are_objects(value):
    app = ProviderApp("documented")
    app.action("it")(lambda: None)
    for schema in (app.schema()["it"]["payload"], app.schema()["it"]["account"]):
        assert not jsonschema.Draft202012Validator(schema).is_valid(value)
