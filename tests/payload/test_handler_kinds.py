"""Handlers that could not work are refused at registration; bound arguments are not fields."""

from __future__ import annotations

import functools
import json
from datetime import date

import pytest

import arbprov
from arbprov import ProviderApp
from arbprov.errors import ConfigurationError


class Service:
    def method(self, x: int):
        return x

    def rows(self):
        yield 1


def rows():
    yield 1


async def later():
    yield 1


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Service.method, "first parameter is 'self'"),
        (rows, "is a generator"),
        (later, "is a generator"),
        (Service().rows, "is a generator"),
        (functools.partial(rows), "is a generator"),
    ],
)
def test_a_handler_that_could_not_work_is_refused(handler, message):
    with pytest.raises(ConfigurationError, match=message):
        ProviderApp("kinds").action("it")(handler)


def test_the_method_of_an_object_is_a_handler():
    app = ProviderApp("kinds")
    app.action("it")(Service().method)
    assert app.test_client().call("it", {"x": 1}).data == 1


@pytest.mark.parametrize("schema", [None, {"a": int}])
def test_a_payload_replaces_no_bound_argument(schema):
    def it(a: int, url: str, **extra):
        return [a, url, extra]

    app = ProviderApp("kinds")
    handler = functools.partial(functools.partial(it, url="https://example.com"))
    app.action("it", payload_schema=schema)(handler)
    result = app.test_client().call("it", {"a": 1, "url": "https://example.org", "b": 2})
    assert result.data == [1, "https://example.com", {"b": 2}]


def test_a_bound_argument_is_an_unknown_field_where_such_are_forbidden():
    app = ProviderApp("kinds")
    handler = functools.partial(lambda a, b: [a, b], b=1)
    app.action("it", forbid_extra=True)(handler)
    assert app.test_client().call("it", {"a": 1}).data == [1, 1]
    assert app.test_client().call("it", {"a": 1, "b": 2}).problems == [
        {"path": "b", "message": "unknown field"}
    ]


def test_an_author_can_write_typed_values_as_json():
    assert arbprov.to_builtins({"when": date(2026, 3, 20)}) == {"when": "2026-03-20"}
    assert json.loads(arbprov.dumps([date(2026, 3, 20), b"a"])) == ["2026-03-20", "YQ=="]
