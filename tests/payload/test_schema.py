"""`payload_schema=` and `account_schema=`: schemas as data."""

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime
from typing import (
    Annotated,
    Any,
    Dict,
    Generic,
    List,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

import attrs
import pytest
from typing_extensions import TypedDict

from arbprov import ConfigurationError, ProviderApp, TaskContext
from arbprov.payload.classes import json_fields
from arbprov.payload.schema import compile_schema

pytestmark = pytest.mark.usefixtures("each_json")


def call(schema, payload, handler=None, **options):
    app = ProviderApp("schemas")

    def whole(payload):
        return payload

    app.action("it", payload_schema=schema, **options)(handler or whole)
    return app.test_client().call("it", payload)


def problems(schema, payload, **options):
    found = call(schema, payload, **options).problems
    return [(problem["path"], problem["message"]) for problem in found]


@attrs.frozen
class Point:
    x: int


Id = NewType("Id", int)

CASES = [
    # schema of a field, a value that fits, another that does not, its path and message
    (str, "a", 5, "", "expected a string, got an integer"),
    (bool, True, "false", "", "expected a boolean, got a string"),
    (Any, {"a": 1}, None, None, None),
    (None, None, 0, "", "expected null, got an integer"),
    (Id, 1, "1", "", "expected an integer, got a string"),
    (Optional[int], None, "1", "", "expected an integer, got a string"),
    (int | None, 1, "1", "", "expected an integer, got a string"),
    (Literal["a", "b"], "a", "c", "", "expected one of 'a', 'b'"),
    (List[str], ["a"], [1], "[0]", "expected a string, got an integer"),
    ([str], ["a"], ["a", 1], "[1]", "expected a string, got an integer"),
    (list[{"a": int}], [{"a": 1}], [{"a": "1"}], "[0].a", "expected an integer, got a string"),
    ([{"a": int}], [{"a": 1}], [{}], "[0].a", "required field is missing"),
    (
        {"a": {"b": int}},
        {"a": {"b": 1}},
        {"a": {"b": ""}},
        ".a.b",
        "expected an integer, got a str",
    ),
    (Dict[str, str], {"a": "b"}, {"a": 1}, ".a", "expected a string, got an integer"),
    (dict[str, Any], {"a": 1}, [], "", "expected an object, got an array"),
    (List[Dict[str, str]], [{"a": "b"}], [{"a": 1}], "[0].a", "expected a string, got an integer"),
    (Dict[str, List[int]], {"a": [1]}, {"a": ["1"]}, ".a[0]", "expected an integer, got a string"),
    (Tuple[int, str], [1, "a"], [1], "", "expected an array of 2 items, got 1"),
    (dict[str, {"a": int}], {"k": {"a": 1}}, {"k": {}}, ".k.a", "required field is missing"),
    (Point, {"x": 1}, {"x": "1"}, ".x", "expected an integer, got a string"),
    ([Point], [{"x": 1}], [{}], "[0].x", "required field is missing"),
    ({}, {"any": 1}, [], "", "expected an object, got an array"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0])[:40])
def test_a_value_that_fits_its_type_arrives(case):
    schema, value, *_ = case
    assert call({"field": schema}, {"field": value}).data == {"field": value}


@pytest.mark.parametrize("case", [c for c in CASES if c[4]], ids=lambda case: str(case[0])[:40])
def test_a_value_that_does_not_fit_its_type_is_refused_with_its_path(case):
    schema, _, bad, path, message = case
    ((found_path, found),) = problems({"field": schema}, {"field": bad})
    assert found_path == f"field{path}"
    assert found.startswith(message)


def test_a_list_of_dicts_by_typing_is_a_schema_where_python_accepts_it():
    # Python 3.10 itself refuses anything but a type in `List[...]`.
    if sys.version_info >= (3, 11):
        schema = {"field": List[{"a": int}]}
        assert problems(schema, {"field": [{}]}) == [("field[0].a", "required field is missing")]
    else:
        with pytest.raises(TypeError):
            List[{"a": int}]


def test_values_are_structured_in_place():
    def handler(payload):
        return payload["when"].year

    assert call({"when": datetime}, {"when": "2026-03-20T10:30:00"}, handler).data == 2026


def test_a_missing_optional_field_is_none():
    assert call({"a": Optional[int]}, {}).data == {"a": None}


def test_a_missing_field_is_a_problem():
    assert problems({"a": int}, {}) == [("a", "required field is missing")]


def test_unknown_fields_stay():
    assert call({"a": int}, {"a": 1, "b": 2}).data == {"a": 1, "b": 2}


def test_unknown_fields_are_problems_where_they_are_forbidden():
    found = problems({"a": {"b": int}}, {"a": {"b": 1, "c": 2}, "d": 3}, forbid_extra=True)
    assert found == [("d", "unknown field"), ("a.c", "unknown field")]


def test_every_problem_is_reported_at_once():
    schema = {"user": {"name": str, "emails": [str]}, "tags": [str]}
    payload = {"user": {"emails": ["a", 1, None]}, "tags": "t"}
    assert problems(schema, payload) == [
        ("user.name", "required field is missing"),
        ("user.emails[1]", "expected a string, got an integer"),
        ("user.emails[2]", "expected a string, got null"),
        ("tags", "expected an array, got a string"),
    ]


def test_validators_run():
    schema = {"a": Annotated[int, attrs.validators.gt(0)]}
    assert problems(schema, {"a": 0}) == [("a", "'value' must be > 0: 0")]


def test_a_class_is_a_schema_too():
    def handler(payload):
        return payload.x

    assert call(Point, {"x": 1}, handler).data == 1


def test_parameters_take_the_fields_of_a_schema():
    def handler(user, tags=("none",)):
        return [user, list(tags)]

    schema = {"user": {"name": str}, "tags": [str]}
    assert call(schema, {"user": {"name": "n"}, "tags": []}, handler).data == [{"name": "n"}, []]


def test_a_default_replaces_a_missing_optional_field():
    def handler(tags="none"):
        return tags

    assert call({"tags": Optional[str]}, {}, handler).data == "none"


def test_the_rest_of_the_fields_goes_to_keyword_arguments():
    def handler(a, **extra):
        return extra

    assert call({"a": int, "b": datetime}, {"a": 1, "b": "2026-03-20", "c": 3}, handler).data == {
        "b": "2026-03-20T00:00:00",
        "c": 3,
    }


def test_parameters_take_the_fields_of_a_class_as_schema():
    def handler(x):
        return x

    assert call(Point, {"x": 7}, handler).data == 7


def test_an_account_schema_structures_the_account():
    app = ProviderApp("accounts")

    @app.action(account_schema={"since": datetime})
    def it(account):
        return account["since"].year

    assert app.test_client().call("it", account={"since": "2026-03-20"}).data == 2026


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"a": "str"}, "payload_schema.a: 'str' is not a type; write a type such as str or [str]"),
        ({"a": {"b": 5}}, "payload_schema.a.b: 5 is not a type"),
        ({"a": []}, "payload_schema.a: a list in a schema has one item, the type of its items"),
        ({"a": [int, str]}, "payload_schema.a: a list in a schema has one item"),
        ({"a": [{"b": len}]}, "payload_schema.a[].b: <built-in function len> is not a type"),
        ({1: int}, "payload_schema: the field name 1 is not a string"),
        (5, "payload_schema: 5 is not a type"),
        ({"a": object.__class__.__mro__}, "payload_schema.a: (<class 'type'>"),
    ],
    ids=repr,
)
def test_an_invalid_schema_is_refused_at_import(schema, message):
    def handler(payload):
        return payload

    with pytest.raises(ConfigurationError) as caught:
        ProviderApp("misuse").action(payload_schema=schema)(handler)
    where = f"{handler.__qualname__} ({__file__}:{handler.__code__.co_firstlineno}): "
    assert str(caught.value).startswith(where + message)


def test_a_parameter_that_the_schema_does_not_have_is_refused_at_import():
    def handler(city):
        return city

    with pytest.raises(ConfigurationError, match="'city': it is not a field of payload_schema"):
        ProviderApp("misuse").action(payload_schema={"town": str})(handler)


# The guide's own sample, with `[{...}]` for `List[{...}]`, which Python 3.10 itself refuses.

GUIDE = {
    "user": {
        "personal_info": {"first_name": str, "date_of_birth": datetime},
        "contact_info": {
            "email": str,
            "addresses": List[Dict[str, str]],
            "emergency_contacts": [{"name": str, "phone": str}],
        },
        "preferences": {"notifications": {"email": bool, "sms": bool}},
        "subscriptions": [
            {
                "service": str,
                "start_date": datetime,
                "end_date": Optional[datetime],
                "features": List[str],
            }
        ],
    },
    "metadata": {"tags": List[str], "custom_fields": Dict[str, Any]},
}


def sample():
    """Return a payload that fits the guide's schema."""
    return {
        "user": {
            "personal_info": {"first_name": "Ann", "date_of_birth": "1990-05-15T00:00:00"},
            "contact_info": {
                "email": "ann@example.com",
                "addresses": [{"street": "High Street"}],
                "emergency_contacts": [{"name": "Bob", "phone": "1"}],
            },
            "preferences": {"notifications": {"email": True, "sms": False}},
            "subscriptions": [
                {
                    "service": "news",
                    "start_date": "2026-03-20T00:00:00",
                    "end_date": None,
                    "features": ["daily"],
                }
            ],
        },
        "metadata": {"tags": ["new"], "custom_fields": {"any": [1, {"b": None}]}},
    }


def test_the_sample_of_the_guide_passes_unchanged():
    assert call(GUIDE, sample()).data == sample()


def test_the_sample_of_the_guide_arrives_as_dicts_with_typed_values():
    received = []
    call(GUIDE, sample(), lambda payload: received.append(payload))
    subscription = received[0]["user"]["subscriptions"][0]
    assert (type(subscription), subscription["start_date"]) == (dict, datetime(2026, 3, 20))


def test_every_problem_of_the_sample_of_the_guide_is_reported():
    payload = sample()
    del payload["user"]["personal_info"]["first_name"]
    payload["user"]["contact_info"]["addresses"].append({"street": 5})
    payload["user"]["contact_info"]["emergency_contacts"][0]["phone"] = None
    payload["user"]["preferences"]["notifications"]["sms"] = "false"
    payload["user"]["subscriptions"][0]["end_date"] = "never"
    payload["metadata"] = []
    assert problems(GUIDE, payload) == [
        ("user.personal_info.first_name", "required field is missing"),
        ("user.contact_info.addresses[1].street", "expected a string, got an integer"),
        ("user.contact_info.emergency_contacts[0].phone", "expected a string, got null"),
        ("user.preferences.notifications.sms", "expected a boolean, got a string"),
        (
            "user.subscriptions[0].end_date",
            "expected an ISO 8601 datetime such as '2026-03-20T10:30:00+01:00'",
        ),
        ("metadata", "expected an object, got an array"),
    ]


# Other types.

T = TypeVar("T")


@attrs.frozen
class Box(Generic[T]):
    content: T


class Typed(TypedDict):
    x: int


class Named(NamedTuple):
    x: int


@dataclasses.dataclass
class Data:
    x: int


@pytest.mark.parametrize("cls", [Typed, Named, Data], ids=lambda cls: cls.__name__)
def test_any_class_is_a_schema(cls):
    assert problems(cls, {"x": "1"}) == [("x", "expected an integer, got a string")]


@pytest.mark.parametrize("cls", [Typed, Named, Data, Point], ids=lambda cls: cls.__name__)
def test_parameters_take_the_fields_of_any_class(cls):
    assert call(cls, {"x": 7}, lambda x: x).data == 7


def test_a_generic_class_in_a_schema_has_its_argument():
    found = problems({"box": Box[int]}, {"box": {"content": "1"}})
    assert found == [("box.content", "expected an integer, got a string")]


@pytest.mark.parametrize(
    ("generic", "value"), [(List, [1, "a"]), (Dict, {"a": 1}), (Optional[List], [1])], ids=str
)
def test_the_bare_generics_of_typing_are_types(generic, value):
    assert call({"field": generic}, {"field": value}).data == {"field": value}


def test_an_odd_name_has_its_path():
    found = problems({"a b": {"c": int}}, {"a b": {}})
    assert found == [('["a b"].c', "required field is missing")]


def test_null_is_not_an_object():
    assert problems({"a": {"b": int}}, {"a": None}) == [("a", "expected an object, got null")]


def test_a_schema_is_the_whole_payload_where_it_is_any_dict():
    assert problems(Dict[str, int], {"a": "1"}) == [("a", "expected an integer, got a string")]


# A schema and a handler.


def test_a_schema_replaces_the_annotations():
    def handler(days: str):
        return days

    assert call({"days": int}, {"days": 3}, handler).data == 3


def test_a_missing_optional_field_is_none_for_its_parameter():
    received = []
    call({"a": Optional[int]}, {}, lambda a: received.append(a))
    assert received == [None]


def test_a_field_that_may_only_be_null_may_be_left_out():
    assert call({"a": None}, {}).data == {"a": None}


def test_the_rest_of_the_fields_does_not_replace_account_and_context():
    def handler(account, ctx: TaskContext, **extra):
        return [account, ctx.id, extra]

    payload = {"a": 1, "account": "evil", "ctx": "evil"}
    assert call({"a": int}, payload, handler).data == [{}, "test-1", {"a": 1}]


def test_payload_and_parameters_go_together():
    def handler(payload, a, **extra):
        return [payload, a, extra]

    data = call({"a": int, "b": int}, {"a": 1, "b": 2, "c": 3}, handler).data
    assert data == [{"a": 1, "b": 2, "c": 3}, 1, {"b": 2, "c": 3}]


def test_a_schema_is_checked_though_the_handler_takes_nothing():
    assert problems({"a": int}, {}, handler=lambda: None) == [("a", "required field is missing")]


def test_a_default_does_not_replace_a_required_field():
    found = problems({"a": int}, {}, handler=lambda a=1: a)
    assert found == [("a", "required field is missing")]


def test_unknown_fields_of_an_account_are_problems_where_they_are_forbidden():
    app = ProviderApp("accounts")
    app.action("it", account_schema={"a": int}, forbid_extra=True)(lambda: None)
    result = app.test_client().call("it", account={"a": 1, "b": "x"})
    assert result.problems == [{"path": "account.b", "message": "unknown field"}]


def test_payload_and_account_schemas_are_reported_at_once():
    app = ProviderApp("accounts")
    app.action("it", payload_schema={"a": int}, account_schema={"b": int})(lambda: None)
    result = app.test_client().call("it", {}, account={})
    assert {problem["path"] for problem in result.problems} == {"a", "account.b"}


# Misuse.


def test_an_invalid_account_schema_has_its_path():
    with pytest.raises(ConfigurationError, match=r"account_schema\.a\[\]: 5 is not a type"):
        ProviderApp("misuse").action("it", account_schema={"a": [5]})(lambda: None)


def test_a_type_that_no_json_can_become_is_refused_at_import():
    with pytest.raises(ConfigurationError, match="no JSON value can become complex"):
        ProviderApp("misuse").action("it", payload_schema={"a": [complex]})(lambda: None)


@pytest.mark.parametrize("schema", [[str], int, List[int], str], ids=str)
def test_a_schema_that_no_object_fits_is_refused_at_import(schema):
    with pytest.raises(ConfigurationError):
        ProviderApp("misuse").action("it", payload_schema=schema)(lambda payload: payload)


def test_a_union_is_a_schema():
    schema = Union[Data, Typed]
    assert call(schema, {"x": 7}, lambda payload: payload).data == {"x": 7}


def test_a_missing_field_of_any_object_is_a_problem():
    def handler(city):
        return city

    assert call(dict[str, str], {"city": "Paris"}, handler).data == "Paris"
    found = call(dict[str, str], {"town": "Paris"}, handler).problems
    assert found == [{"path": "city", "message": "required field is missing"}]


def test_the_fields_of_a_schema_are_known_by_their_names_in_json():
    assert json_fields(compile_schema({"name": str, "age": int}, "payload")) == {
        "name": str,
        "age": int,
    }
