"""The fields of a payload that nothing reads: `TaskResult.ignored`, and `forbid_extra`."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
from dataclasses import InitVar
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from support.structuring import problems, structure, table
from typing_extensions import NotRequired, Required, TypedDict

from arbprov import Blueprint, ProviderApp, TaskContext
from arbprov.executors.inline import make_task

T = TypeVar("T")


@attrs.frozen
class Place:
    city: str
    zip: str = ""


@attrs.define
class Odd:
    _private: int = 0
    renamed: int = attrs.field(default=0, alias="other")
    computed: int = attrs.field(default=0, init=False)


@dataclasses.dataclass
class Trip:
    places: list[Place]
    best: Place | None = None
    by_name: dict[str, Place] = dataclasses.field(default_factory=dict)
    ends: tuple[Place, int] | None = None


@dataclasses.dataclass
class Scaled:
    x: int
    factor: InitVar[Place] = None
    total: int = dataclasses.field(init=False, default=0)


class Film(TypedDict, total=False):
    title: Required[str]
    studio: NotRequired[Place]


class Pair(NamedTuple):
    left: Place
    right: int = 0


@attrs.frozen
class Box(Generic[T]):
    item: T
    items: list[T] = attrs.field(factory=list)
    name: str = ""


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    lives: int = 9


@attrs.frozen
class Dog:
    kind: Literal["dog"]
    tricks: int = 0


class Customer(pydantic.BaseModel):
    name: str
    home: Place2 | None = None
    mail: str = pydantic.Field("", alias="e-mail")
    phone: str = pydantic.Field("", validation_alias=pydantic.AliasChoices("phone", "tel"))
    age: int = pydantic.Field(0, validation_alias=pydantic.AliasPath("more", "age"))


class Place2(pydantic.BaseModel):
    city: str
    zip: str = ""


class ByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    mail: str = pydantic.Field("", alias="e-mail")


class OnlyByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True, validate_by_alias=False)
    mail: str = pydantic.Field("", alias="e-mail")


class Keeps(pydantic.BaseModel, extra="allow"):
    home: Place2


class Ignores(pydantic.BaseModel, extra="ignore"):
    home: Place2


class Refuses(pydantic.BaseModel, extra="forbid"):
    home: Place2


class Reads(pydantic.BaseModel):
    city: str

    @pydantic.model_validator(mode="before")
    @classmethod
    def read(cls, fields: Any) -> Any:
        return {"city": fields["town"]} if "town" in fields else fields


class Makes(pydantic.BaseModel):
    city: str

    def __init__(self, **fields: Any) -> None:
        super().__init__(city=fields.get("town", fields.get("city")))


class Reshapes(pydantic.BaseModel):
    here: Place2
    there: Annotated[Place2, pydantic.BeforeValidator(lambda value: value)]
    all: list[Annotated[Place2, pydantic.WrapValidator(lambda value, make: make(value))]]

    @pydantic.field_validator("here", mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return value


class Places(pydantic.RootModel[list[Place2]]):
    pass


class ReadsRoot(pydantic.RootModel[Place2]):
    @pydantic.model_validator(mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return value


@pydantic.dataclasses.dataclass
class Stay:
    city: str
    scale: InitVar[int] = 0
    total: int = dataclasses.field(init=False, default=0)


@pydantic.dataclasses.dataclass(config={"extra": "allow"})
class KeepingStay:
    city: str


class Order(msgspec.Struct, rename="camel"):
    unit_price: int
    ship_to: Address | None = None


class Address(msgspec.Struct):
    city: str
    zip: str = ""


class Tagged(msgspec.Struct, tag=True):
    city: str = ""


class Exact(msgspec.Struct, forbid_unknown_fields=True):
    address: Address


PLACE = {"city": "Oslo", "zpi": "0150"}
CASES = {
    "attrs": (Place, PLACE, ["zpi"]),
    "attrs, names": (Odd, {"_private": 1, "renamed": 1}, []),
    "attrs, no names": (
        Odd,
        {"private": 1, "other": 1, "computed": 1},
        ["private", "other", "computed"],
    ),
    "dataclass": (
        Trip,
        {
            "places": [{"city": "Rome"}, PLACE],
            "best": PLACE,
            "by_name": {"a b": PLACE},
            "ends": [PLACE, 1],
            "plcaes": [],
        },
        ["plcaes", "places[1].zpi", "best.zpi", 'by_name["a b"].zpi', "ends[0].zpi"],
    ),
    "InitVar": (
        Scaled,
        {"x": 1, "factor": PLACE, "total": 1, "y": 1},
        ["total", "y", "factor.zpi"],
    ),
    "TypedDict": (Film, {"title": "a", "studio": PLACE, "stduio": 1}, ["stduio", "studio.zpi"]),
    "NamedTuple": (Pair, {"left": PLACE, "rihgt": 1}, ["rihgt", "left.zpi"]),
    "generic": (
        Box[Place],
        {"item": PLACE, "items": [PLACE], "x": 1},
        ["x", "item.zpi", "items[0].zpi"],
    ),
    "list": (list[Place], [PLACE, {"city": "Rome"}], ["[0].zpi"]),
    "bare list": (list, [PLACE], []),
    "tuple": (tuple[Place, ...], [PLACE], ["[0].zpi"]),
    "defaultdict": (collections.defaultdict[str, Place], {"a": PLACE}, ["a.zpi"]),
    "dict": (dict[str, Any], PLACE, []),
    "bare dict": (dict, PLACE, []),
    "Any": (Any, PLACE, []),
    "Annotated": (Annotated[Place, lambda place: None], PLACE, ["zpi"]),
    "union by tag": (Cat | Dog, {"kind": "dog", "tricks": 1, "lives": 9}, ["lives"]),
    "union of lists": (list[int] | list[Place], [PLACE], ["[0].zpi"]),
    "pydantic": (
        Customer,
        {"name": "Ada", "e-mail": "a", "tel": "1", "more": {"age": 7}, "home": PLACE, "mial": 1},
        ["mial", "home.zpi"],
    ),
    "pydantic, not by alias": (Customer, {"name": "Ada", "mail": "a"}, ["mail"]),
    "pydantic, by name too": (ByName, {"e-mail": "a", "mail": "a", "x": 1}, ["x"]),
    "pydantic, only by name": (OnlyByName, {"e-mail": "a", "mail": "a"}, ['["e-mail"]']),
    "pydantic, extra=allow": (Keeps, {"home": PLACE, "x": 1}, ["home.zpi"]),
    "pydantic, any validator": (list[Reads | Makes], [{"city": "a", "x": 1}, {"town": "a"}], []),
    "pydantic, own __init__": (Makes, {"town": "a"}, []),
    "pydantic, validators of fields": (
        Reshapes,
        {"here": PLACE, "there": PLACE, "all": [PLACE]},
        [],
    ),
    "pydantic, RootModel": (Places, [PLACE], ["[0].zpi"]),
    "pydantic, RootModel with a validator": (ReadsRoot, PLACE, []),
    "pydantic dataclass": (Stay, {"city": "a", "scale": 1, "total": 1}, ["total"]),
    "pydantic dataclass, extra=allow": (KeepingStay, {"city": "a", "x": 1}, []),
    "pydantic union": (Customer | Place2, PLACE, ["zpi"]),
    "msgspec": (
        Order,
        {"unitPrice": 1, "unit_price": 1, "shipTo": PLACE},
        ["unit_price", "shipTo.zpi"],
    ),
    "msgspec, tag": (Tagged, {"type": "Tagged", "ctiy": "a"}, ["ctiy"]),
}


# Where unknown fields are forbidden, the same value is accepted, or has other problems.
LENIENT = {
    "union with Any": (Place | Any, PLACE, ["zpi"]),
    "pydantic, extra=ignore": (Ignores, {"home": PLACE, "x": 1}, ["x", "home.zpi"]),
}


def paths_inside(paths):
    return [f"value{'' if path[0] == '[' else '.'}{path}" for path in paths]


@table(("target", "value", "ignored"), CASES | LENIENT)
def test_fields_that_nothing_reads_are_listed(target, value, ignored):
    received, result = structure(target, value)
    assert received, result.message
    assert result.ignored == paths_inside(ignored)


@table(("target", "value", "ignored"), CASES)
def test_fields_that_nothing_reads_are_problems_where_they_are_forbidden(target, value, ignored):
    received, result = structure(target, value, forbid_extra=True)
    assert bool(received) == (not ignored)
    paths = [path for path, message in problems(result) if message.startswith("unknown field")]
    assert sorted(paths) == sorted(paths_inside(ignored))
    assert result.ignored == []


def test_a_pydantic_model_that_asks_to_ignore_unknown_fields_is_obeyed():
    received, result = structure(Ignores, {"home": {"city": "Oslo"}, "x": 1}, forbid_extra=True)
    assert received, result.message
    _, result = structure(Ignores, {"home": PLACE, "x": 1}, forbid_extra=True)
    assert problems(result) == [("value.home.zpi", "unknown field; did you mean 'zip'?")]


def test_any_member_of_a_union_may_take_a_field_that_is_forbidden_in_another():
    received, _ = structure(Place | Any, PLACE, forbid_extra=True)
    assert received == [PLACE]


# Models that refuse unknown fields themselves.


@table(
    ("target", "value", "problem"),
    {
        "pydantic": (Refuses, {"home": PLACE, "x": 1}, "Extra inputs are not permitted"),
        "msgspec": (Exact, {"address": PLACE, "x": 1}, "Object contains unknown field `x`"),
    },
)
@pytest.mark.parametrize("forbid_extra", [False, True])
def test_a_model_that_refuses_unknown_fields_says_it_in_its_own_words(
    target, value, problem, forbid_extra
):
    _, result = structure(target, value, forbid_extra=forbid_extra)
    inside = [path for path, message in problems(result) if "zpi" in path]
    assert problem in [message for _, message in problems(result)]
    assert inside == (["value." + next(iter(value)) + ".zpi"] if forbid_extra else [])
    assert bool(result.ignored) != forbid_extra


# Values that do not fit.


@table(
    ("target", "value", "ignored"),
    {
        "a required field is missing": (Place, {"ctiy": "Oslo"}, ["ctiy"]),
        "a field of a wrong type": (Trip, {"places": PLACE, "x": 1}, ["x"]),
        "an item of a wrong type": (list[Place], [1, PLACE], ["[1].zpi"]),
        "a tuple that is too long": (tuple[Place, int], [PLACE, 1, PLACE], ["[0].zpi"]),
        "no member of a union": (Place | Box[Place], {"ctiy": "a", "name": "b"}, ["ctiy"]),
        "no member of a union, nested": (
            Pair | Box[Place],
            {"left": PLACE, "item": PLACE, "right": "a", "name": 1},
            ["left.zpi", "item.zpi"],
        ),
        "no object in a union": (int | str, PLACE, []),
        "a scalar": (int, PLACE, []),
    },
)
def test_ignored_fields_are_listed_beside_problems(target, value, ignored):
    received, result = structure(target, value)
    assert not received
    assert result.ignored == paths_inside(ignored)


def test_fields_that_only_pydantic_can_resolve_are_not_listed():
    @dataclasses.dataclass
    class Local:
        x: "Inner"  # noqa: UP037

    @dataclasses.dataclass
    class Inner:
        y: int

    class Model(pydantic.BaseModel):
        local: Local

    _, result = structure(Model, {"local": {"x": {"y": 1, "z": 1}}, "more": 1})
    assert result.ignored == ["value.more"]


# Parameters.


def forecast(city: str, days: int = 3): ...
def nested(places: list[Place]): ...
def none(): ...
def whole(payload: dict): ...
def whole_class(payload: Place): ...
def whole_union(payload: Cat | Dog): ...
def whole_and_field(payload: Place, note: str, trip: Place | None = None): ...
def rest(city: str, ctx: TaskContext, **extra): ...
def only_rest(ctx: TaskContext, **extra): ...
def typed_rest(city: str, **extra: Place): ...
def whole_and_rest(payload: Place, **extra): ...
def film_and_note(payload: Film, note: str = ""): ...


PARAMETERS = {
    "a field": (forecast, {}, {"city": "Oslo", "dyas": 3}, ["dyas"]),
    "a nested field": (nested, {}, {"places": [{"city": "Rome"}, PLACE]}, ["places[1].zpi"]),
    "no parameter": (none, {}, {"city": "Oslo"}, ["city"]),
    "the whole payload": (whole, {}, {"city": "Oslo"}, []),
    "the whole payload as a class": (whole_class, {}, PLACE, ["zpi"]),
    "the whole payload as a union": (whole_union, {}, {"kind": "cat", "lvies": 1}, ["lvies"]),
    "the whole payload and a field": (
        whole_and_field,
        {},
        {**PLACE, "note": "a", "trip": PLACE},
        ["zpi", "trip.zpi"],
    ),
    "**extra": (rest, {}, {"city": "Oslo", "dyas": 3}, []),
    "**extra and a reserved name": (rest, {}, {"city": "Oslo", "ctx": 1}, ["ctx"]),
    "**extra of a type": (typed_rest, {}, {"city": "Oslo", "a": PLACE}, ["a.zpi"]),
    "**extra and the whole payload": (whole_and_rest, {}, {**PLACE, "payload": 1}, ["payload"]),
    "a TypedDict and a field": (film_and_note, {}, {"title": "a", "note": "b", "x": 1}, ["x"]),
    "a bound argument": (
        functools.partial(forecast, days=1),
        {},
        {"city": "a", "days": 3},
        ["days"],
    ),
}
SCHEMAS = {
    "a schema": (none, {"a": {"b": int}}, {"a": {"b": 1, "c": 2}, "d": 3}, ["d", "a.c"]),
    "a schema of a list": (none, {"a": [{"b": int}]}, {"a": [{"b": 1, "c": 2}]}, ["a[0].c"]),
    "a schema and the whole payload": (whole, {"a": int}, {"a": 1, "b": 2}, ["b"]),
    "a schema and **extra": (rest, {"city": str}, {"city": "a", "b": 2, "ctx": 1}, ["ctx"]),
    "a TypedDict and **extra": (only_rest, Film, {"title": "a", "b": 1, "ctx": 1}, ["ctx"]),
    "a class and **extra": (rest, Place, PLACE, ["zpi"]),
    "a class": (forecast, Place, {**PLACE, "days": 5}, ["zpi", "days"]),
}


def call(handler, schema, payload, forbid_extra=None, **app_options):
    app = ProviderApp("binding", **app_options)
    app.action("it", payload_schema=schema or None, forbid_extra=forbid_extra)(handler)
    return app.test_client().call("it", payload)


@table(("handler", "schema", "payload", "ignored"), PARAMETERS | SCHEMAS)
def test_fields_that_no_parameter_takes_are_listed(handler, schema, payload, ignored):
    assert sorted(call(handler, schema, payload).ignored) == sorted(ignored)


@table(("handler", "schema", "payload", "ignored"), PARAMETERS | SCHEMAS)
def test_fields_that_no_parameter_takes_are_problems_where_they_are_forbidden(
    handler, schema, payload, ignored
):
    result = call(handler, schema, payload, forbid_extra=True)
    assert sorted(path for path, _ in problems(result)) == sorted(ignored)
    assert result.status == ("error" if ignored else "success")


DICT = {
    "no parameter": (none, {"a": 1}, ["a"]),
    "a field": (forecast, {"city": "Oslo", "a": {"b": 1}}, ["a"]),
    "the whole payload": (whole, {"a": 1}, []),
    "**extra": (rest, {"city": "Oslo", "a": 1, "ctx": 2}, ["ctx"]),
}


@table(("handler", "payload", "ignored"), DICT)
def test_a_schema_of_any_object_forbids_no_field_but_no_parameter_may_take_it(
    handler, payload, ignored
):
    assert call(handler, dict, payload).ignored == ignored
    assert call(handler, dict, payload, forbid_extra=True).status == "success"


@pytest.mark.parametrize("forbid_extra", [False, True])
@pytest.mark.parametrize("schema", [None, {"city": str}])
def test_the_rest_is_taken_whether_or_not_unknown_fields_are_forbidden(schema, forbid_extra):
    def it(city: str, **extra):
        return [city, extra]

    result = call(it, schema, {"city": "Oslo", "a": 1, "b": [2]}, forbid_extra=forbid_extra)
    assert result.data == ["Oslo", {"a": 1, "b": [2]}]


def test_a_whole_payload_that_forbids_fields_does_not_see_fields_of_other_parameters():
    def it(payload: Film, note: str):
        return [payload["title"], note]

    assert call(it, None, {"title": "a", "note": "b"}, forbid_extra=True).data == ["a", "b"]


def test_limits_see_the_payload_of_a_schema_that_forbids_fields():
    app = ProviderApp("limited", forbid_extra=True)

    @app.action(payload_schema={"city": str})
    @app.rate_limit("1/hour", key="payload.note")
    def it(city: str, **extra):
        return extra

    client = app.test_client()
    notes = [client.call("it", {"city": "Oslo", "note": note}).status.value for note in "aba"]
    assert notes == ["success", "success", "limit"]


# Payloads without a list of ignored fields.


@pytest.mark.parametrize("payload", [b"[]", b"{"])
def test_a_payload_that_can_not_be_read_has_no_ignored_fields(payload):
    app = ProviderApp("binding")
    app.action("it")(none)
    assert app.test_client().call("it", payload).ignored == []


def test_a_task_of_an_unknown_action_has_no_ignored_fields():
    assert ProviderApp("binding").test_client().call("it", {"a": 1}).ignored == []


def test_a_field_that_the_handler_takes_out_of_the_payload_is_not_ignored():
    app = ProviderApp("binding")
    app.action("it")(lambda payload: payload.clear())
    assert app.test_client().call("it", {"a": 1}).ignored == []


def test_ignored_fields_of_an_account_are_normal():
    app = ProviderApp("accounts", forbid_extra=True)

    @app.action
    def it(account: Place):
        return account.city

    result = app.test_client().call("it", account=PLACE)
    assert (result.data, result.ignored) == ("Oslo", [])


def test_acall_and_invoke_list_ignored_fields_too():
    app = ProviderApp("binding")

    @app.action
    def it(city: str = "Oslo"):
        return city

    assert asyncio.run(app.test_client().acall("it", {"ctiy": "Rome"})).ignored == ["ctiy"]
    assert app.invoke("it", {"ctiy": "Rome"}).ignored == ["ctiy"]


def test_hooks_do_not_know_ignored_fields():
    app, seen = ProviderApp("hooks"), []
    app.action("it")(none)

    @app.after_task
    def note(result):
        seen.append(result.ignored)
        return result

    assert app.test_client().call("it", {"a": 1}).ignored == ["a"]
    assert seen == [[]]


# forbid_extra of the app.


@pytest.mark.parametrize("variable", [None, "true", "false"])
@pytest.mark.parametrize("of_app", [None, True, False])
@pytest.mark.parametrize("of_action", [None, True, False])
def test_the_actions_own_forbid_extra_overrides_the_apps_which_overrides_the_variable(
    variable, of_app, of_action, monkeypatch
):
    if variable:
        monkeypatch.setenv("ARBPROV_FORBID_EXTRA", variable)
    app, blueprint = ProviderApp("strict", forbid_extra=of_app), Blueprint("parts")
    app.action("own", forbid_extra=of_action)(none)
    blueprint.action("shared", forbid_extra=of_action)(none)
    app.register_blueprint(blueprint)
    given = [value for value in (of_action, of_app) if value is not None]
    is_forbidden = given[0] if given else variable == "true"
    client = app.test_client()
    for action in ("own", "shared"):
        result = client.call(action, {"a": 1})
        assert result.status == ("error" if is_forbidden else "success")
        assert result.ignored == ([] if is_forbidden else ["a"])


def test_a_blueprint_follows_the_setting_of_each_app_that_it_is_part_of():
    blueprint = Blueprint("parts")
    blueprint.action("it")(none)
    statuses = []
    for forbid_extra in (True, False):
        app = ProviderApp("strict", forbid_extra=forbid_extra)
        app.register_blueprint(blueprint)
        statuses.append(app.test_client().call("it", {"a": 1}).status)
    assert statuses == ["error", "success"]


def test_an_actions_own_forbid_extra_includes_its_account():
    app = ProviderApp("accounts")

    @app.action(forbid_extra=True)
    def it(account: Place): ...

    result = app.test_client().call("it", account=PLACE)
    assert problems(result) == [("account.zpi", "unknown field; did you mean 'zip'?")]


# Near names.


def test_a_problem_of_a_forbidden_field_has_the_near_name():
    payload = {"city": "Oslo", "Days": 3, "far": 1}
    assert problems(call(forecast, None, payload, forbid_extra=True)) == [
        ("Days", "unknown field; did you mean 'days'?"),
        ("far", "unknown field"),
    ]
    assert problems(call(nested, None, {"places": [PLACE]}, forbid_extra=True)) == [
        ("places[0].zpi", "unknown field; did you mean 'zip'?")
    ]


def test_the_near_name_may_be_that_of_any_reader_of_the_payload():
    app = ProviderApp("near")
    app.action("it")(whole_and_field)
    task = make_task("1", "it", {"city": "Oslo", "zpi": "0150", "ntoe": "a"}, None)
    call = app._live_dispatcher().prepare(task)
    assert [field.suggestion for field in call.ignored_fields()] == [
        "; did you mean 'zip'?",
        "; did you mean 'note'?",
    ]


def test_only_the_first_problems_have_near_names_since_finding_them_takes_long():
    payload = {"city": "Oslo", **{f"days{number:02}": 1 for number in range(30)}}
    messages = [text for _, text in problems(call(forecast, None, payload, forbid_extra=True))]
    assert len(messages) == 30
    assert [text for text in messages if "did you mean" in text] == messages[:10]


def test_a_long_name_is_not_compared():
    assert problems(call(forecast, None, {"city": "a", "days" * 50: 1}, forbid_extra=True)) == [
        ("days" * 50, "unknown field")
    ]
