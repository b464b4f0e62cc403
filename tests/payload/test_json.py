"""JSON text as a task carries it: read, or refused."""

from __future__ import annotations

import json

import pytest

from arbprov import ProviderApp
from arbprov.payload.json import MAX_DEPTH, parse_object
from arbprov.payload.validation import ValidationFailure

pytestmark = pytest.mark.usefixtures("each_json")


def refusal(raw: bytes) -> list[tuple[str, str]]:
    """Return the path and the message of each problem of a document that is refused."""
    with pytest.raises(ValidationFailure) as caught:
        parse_object(raw)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"", {}),
        (b"{}", {}),
        (b' {"a": [1, 2.5, null, true]} ', {"a": [1, 2.5, None, True]}),
        ('{"ž": "🐎"}'.encode(), {"ž": "🐎"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1e308}', {"a": 1e308}),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)
def test_an_object_is_read(raw, data):
    assert parse_object(raw) == data


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff{}", "not UTF-8: byte 0 can't be decoded"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8: byte 7 can't be decoded"),
        (b"\xef\xbb\xbf{}", "not JSON: Expecting value (character 0)"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes (character 1)"),
        (b"{} {}", "not JSON: Extra data (character 3)"),
        (b"null", "expected a JSON object, got null"),
        (b'"text"', "expected a JSON object, got a string"),
        (b"[{}]", "expected a JSON object, got an array"),
        (b"1.5", "expected a JSON object, got a number with a fraction"),
        (b'{"a": NaN}', "not JSON: NaN is not a JSON number"),
        (b'{"a": -Infinity}', "not JSON: -Infinity is not a JSON number"),
        (b'{"a": -1e999}', "holds a number that is too large for a double"),
        (b'{"a": ' + b"1" * 5000 + b"}", "holds an integer of more than 4,300 digits"),
    ],
)
def test_a_document_that_is_not_an_object_is_refused(raw, message):
    ((path, found),) = refusal(raw)
    assert path == ""
    assert found.startswith(message)


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_an_object_of_the_maximum_depth_is_read():
    assert parse_object(nested(MAX_DEPTH))


def test_an_object_of_the_maximum_depth_may_have_other_fields():
    assert parse_object(b'{"b": [],' + nested(MAX_DEPTH)[1:])["b"] == []


def test_an_object_deeper_than_the_maximum_is_refused():
    assert refusal(nested(MAX_DEPTH + 1)) == [("", "nested deeper than 100 levels")]


def test_an_object_too_deep_for_the_interpreter_is_refused():
    assert refusal(b'{"a":' * 100_000) == [("", "nested deeper than 100 levels")]


def test_brackets_side_by_side_do_not_count_as_depth():
    raw = json.dumps({"a": [[]] * 1000}).encode()
    assert parse_object(raw) == {"a": [[]] * 1000}


def echo(raw: bytes):
    """Return the result of an action that returns its payload."""
    app = ProviderApp("echo")
    app.action("it")(lambda payload: payload)
    return app.test_client().call("it", raw)


def test_a_problem_of_the_whole_payload_has_the_path_payload():
    assert echo(b"[]").problems == [
        {"path": "payload", "message": "expected a JSON object, got an array"}
    ]


def test_an_empty_payload_is_an_empty_object():
    assert echo(b"").data == {}
