"""`payload_schema=` and `account_schema=`: schemas as data."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any, Dict, List, Literal, NewType, Optional, Tuple

import attrs
import pytest

from arbprov import ConfigurationError, ProviderApp


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

FORMS = [
    # schema of a field, a value that fits, one that does not, its path and message
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


@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form[0])[:40])
def test_a_value_that_fits_its_form_arrives(form):
    assert call({"field": form[0]}, {"field": form[1]}).data == {"field": form[1]}


@pytest.mark.parametrize("form", [f for f in FORMS if f[4]], ids=lambda form: str(form[0])[:40])
def test_a_value_that_does_not_fit_its_form_is_refused_with_its_path(form):
    _, _, bad, path, message = form
    ((found_path, found),) = problems({"field": form[0]}, {"field": bad})
    assert found_path == f"field{path}"
    assert found.startswith(message)


def test_a_list_of_dicts_by_typing_is_a_schema_where_python_takes_it():
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


def test_an_optional_field_that_is_not_there_is_none():
    assert call({"a": Optional[int]}, {}).data == {"a": None}


def test_a_field_that_is_not_there_is_a_problem():
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


def test_validators_are_asked():
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


def test_a_default_serves_for_an_optional_field_that_is_not_there():
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


def test_an_account_schema_gives_its_account():
    app = ProviderApp("accounts")

    @app.action(account_schema={"since": datetime})
    def it(account):
        return account["since"].year

    assert app.test_client().call("it", account={"since": "2026-03-20"}).data == 2026


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"a": "str"}, "payload_schema.a: 'str' is no type; write one such as str or [str]"),
        ({"a": {"b": 5}}, "payload_schema.a.b: 5 is no type"),
        ({"a": []}, "payload_schema.a: a list in a schema has one item, the type of its items"),
        ({"a": [int, str]}, "payload_schema.a: a list in a schema has one item"),
        ({"a": [{"b": len}]}, "payload_schema.a[].b: <built-in function len> is no type"),
        ({1: int}, "payload_schema: the field name 1 is no string"),
        (5, "payload_schema: 5 is no type"),
        ({"a": object.__class__.__mro__}, "payload_schema.a: (<class 'type'>"),
    ],
    ids=repr,
)
def test_a_schema_that_is_none_is_refused_at_import(schema, message):
    def handler(payload):
        return payload

    with pytest.raises(ConfigurationError) as caught:
        ProviderApp("misuse").action(payload_schema=schema)(handler)
    where = f"{handler.__qualname__} ({__file__}:{handler.__code__.co_firstlineno}): "
    assert str(caught.value).startswith(where + message)


def test_a_parameter_that_the_schema_does_not_have_is_refused_at_import():
    def handler(city):
        return city

    with pytest.raises(ConfigurationError, match="'city': it is no field of payload_schema"):
        ProviderApp("misuse").action(payload_schema={"town": str})(handler)
