"""A form from a JSON Schema: its fields, and the value that is read back from them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov.errors import Problem
from arbprov.localhub.page.form_fields import can_show, make_fields
from arbprov.localhub.page.form_values import read_value
from arbprov.localhub.page.schema_parts import MISSING, classify

LINE = {
    "type": "object",
    "properties": {"article": {"type": "string"}, "price": {"type": "number"}},
    "required": ["article"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "a/b~c d": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "flag": {"type": "boolean"},
        "unit": {"enum": ["C", "F", 3, None]},
        "fixed": {"const": "always"},
        "line": {"$ref": "#/$defs/Line"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "anything": {},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {}},
    },
    "required": ["text", "lines"],
    "$defs": {"Line": LINE},
}
KINDS = {
    "text": "text",
    "a/b~c d": "text",
    "count": "number",
    "maybe": "number",
    "flag": "boolean",
    "unit": "choice",
    "fixed": "choice",
    "line": "object",
    "lines": "list",
    "tags": "list",
    "grid": "list",
    "anything": "json",
    "map": "json",
    "pair": "json",
}


def fields(value=MISSING, problems=(), schema=SCHEMA):
    form = make_fields(schema, value, "payload", "", problems)
    return {field.label: field for field in form.children}


def read(*pairs, schema=SCHEMA):
    return read_value(schema, pairs, "payload", "")


def test_each_kind_of_value_has_its_field():
    assert {name: field.kind for name, field in fields().items()} == KINDS


def test_a_field_says_what_it_takes():
    found = fields()
    assert found["count"].hint == "integer, at least 1, at most 9, optional"
    assert found["text"].hint == "string, at least 1 characters"
    assert found["anything"].hint == "JSON, optional"


def test_a_required_field_is_marked():
    assert {name for name, field in fields().items() if field.is_required} == {"text", "lines"}


def test_a_required_list_begins_with_an_item():
    assert [item.name for item in fields()["lines"].children] == ["payload/lines/0"]
    assert fields({"lines": []})["lines"].children == ()
    assert fields()["tags"].children == ()


def test_a_list_has_a_template_for_a_new_item():
    grid = fields()["grid"]
    assert (grid.placeholder, grid.template.name) == ("__1__", "payload/grid/__1__")
    assert grid.template.template.name == "payload/grid/__1__/__2__"


def test_an_id_has_no_blank():
    assert fields()["a/b~c d"].id == "field-payload%2Fa~1b~0c%20d"


def test_problems_are_at_the_fields_of_their_paths():
    problems = [
        Problem("lines[1].article", "first"),
        Problem("lines[1].article", "second"),
        Problem('["a/b~c d"]', "third"),
    ]
    found = fields({"lines": [{}, {}]}, problems)
    assert found["lines"].children[1].children[0].messages == ("first", "second")
    assert found["a/b~c d"].messages == ("third",)


def test_long_text_has_several_lines():
    found = fields({"text": "a" * 81})
    assert (found["text"].is_long, found["a/b~c d"].is_long) == (True, False)


def test_a_very_long_list_is_edited_as_json():
    found = fields({"tags": ["a"] * 101})["tags"]
    assert (found.kind, json.loads(found.value)) == ("json", ["a"] * 101)


def test_a_very_long_list_is_read_as_json():
    assert read(("payload/tags", '["a"]'))[0]["tags"] == ["a"]


# Reading.


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", " a ", " a "),
        ("text", "a\r\nb", "a\nb"),
        ("count", " 12 ", 12),
        ("count", "-1.5e3", -1500.0),
        ("count", "01", "01"),
        ("count", "many", "many"),
        ("count", "1e999", "1e999"),
        ("count", "NaN", "NaN"),
        ("flag", "true", True),
        ("flag", "odd", "odd"),
        ("unit", '"C"', "C"),
        ("unit", "3", 3),
        ("unit", '"odd"', '"odd"'),
        ("anything", "[1, {}]", [1, {}]),
        ("a~1b~0c d", "x", "x"),
    ],
)
def test_a_text_becomes_a_value(name, text, value):
    found, problems = read((f"payload/{name}", text))
    del found["lines"]
    assert (list(found.values()), problems) == ([value], [])


def test_blank_fields_are_left_out():
    pairs = [
        (f"payload/{name}", "") for name in ("text", "count", "maybe", "flag", "unit", "anything")
    ]
    assert read(*pairs) == ({"lines": []}, [])


def test_a_blank_that_must_be_there_may_be_null():
    schema = {
        "type": "object",
        "properties": {"a": {"type": ["integer", "null"]}},
        "required": ["a"],
    }
    assert read(schema=schema) == ({"a": None}, [])


def test_a_blank_object_that_must_be_there_is_empty():
    schema = {"type": "object", "properties": {"line": LINE}, "required": ["line"]}
    assert read(schema=schema) == ({"line": {}}, [])


def test_items_keep_their_order_and_blank_ones_stay():
    pairs = [
        ("payload/lines/n7", ""),
        ("payload/lines/n7/article", "first"),
        ("payload/lines/2", ""),
        ("payload/lines/2/article", ""),
        ("payload/lines/0", ""),
        ("payload/lines/0/price", "3"),
    ]
    assert read(*pairs)[0]["lines"] == [{"article": "first"}, {}, {"price": 3}]


def test_blank_items_are_empty_text_or_null():
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "flags": {"type": "array", "items": {"type": "boolean"}},
        },
    }
    assert read(("payload/tags/0", ""), ("payload/flags/0", ""), schema=schema)[0] == {
        "tags": [""],
        "flags": [None],
    }


def test_text_that_is_not_json_is_a_problem_at_its_path_and_stays():
    found, problems = read(("payload/anything", "{"))
    assert [problem.path for problem in problems] == ["anything"]
    assert fields(found)["anything"].value == "{"


# Odd schemas.


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#/$defs/Loop"},
        {"$ref": "#/$defs/Odd"},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"anyOf": [{"type": "null"}, 7]},
        {"type": ["integer", "string"]},
        {"type": "object"},
        {"type": "array"},
        {"enum": [[1], 2]},
        {"enum": [*range(101)]},
        7,
    ],
    ids=str,
)
def test_what_has_no_field_of_its_own_is_asked_for_as_json(schema):
    definitions = {"Loop": {"$ref": "#/$defs/Loop"}, "Odd": 7}
    assert classify(schema, definitions).kind == "json"


def test_a_schema_that_refers_to_itself_ends_with_json():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    field = make_fields({**node, "$defs": {"Node": node}}, MISSING, "payload", "")
    depth = 0
    while field.kind == "object":
        field, depth = field.children[0], depth + 1
    assert (field.kind, depth) == ("json", 6)


def test_a_description_that_is_not_text_is_left_out():
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": 3}}}
    assert fields(schema=schema)["a"].description == ""


# What a form can show is sent again unchanged.

values = st.fixed_dictionaries(
    {
        "text": st.text(min_size=1).filter(lambda text: text.strip() and "\r" not in text),
        "lines": st.lists(
            st.fixed_dictionaries({}, optional={"article": st.sampled_from(["a", "b"])}), max_size=3
        ),
    },
    optional={
        "count": st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("x"),
        "flag": st.booleans(),
        "unit": st.sampled_from(["C", "F", 3]),
        "tags": st.lists(st.sampled_from(["", "a"]), min_size=1, max_size=3),
        "grid": st.lists(st.lists(st.integers(), min_size=1, max_size=2), min_size=1, max_size=2),
        "anything": st.none() | st.booleans() | st.lists(st.integers()) | st.just("text"),
    },
)


@given(values)
def test_a_form_shows_what_fits_its_schema(value):
    assert can_show(SCHEMA, value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*KINDS, "odd"]), inner),
)


@given(json_values)
def test_what_a_form_says_it_can_show_is_read_back_unchanged(value):
    if can_show(SCHEMA, value):
        form = make_fields(SCHEMA, value, "payload", "")
        assert read(*form.pairs()) == (value, [])


@pytest.mark.parametrize("value", [MISSING, None, [], "text", {"lines": None}, {"odd": 1}])
def test_a_form_says_what_it_cannot_show(value):
    assert not can_show(SCHEMA, value)
