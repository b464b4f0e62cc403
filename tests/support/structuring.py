"""Calls a handler with a typed parameter, to see how a JSON value arrives."""

from __future__ import annotations

import enum

import attrs
import pytest

from arbprov import ProviderApp

MISSING = "required field is missing"
NOT_AN_INTEGER = "expected an integer, got a string"


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.define
class Point:
    x: int
    y: int = 0


def structure(target, value, **options):
    """Call a handler whose parameter `value` is a `target`; return what it got, and the result."""
    received = []
    app = ProviderApp("strict")

    def it(value):
        received.append(value)
        return {"value": value}

    it.__annotations__ = {"value": target}
    app.action("it", **options)(it)
    return received, app.test_client().call("it", {"value": value})


def refusal(target, value, **options):
    """Return the path and the message of each problem of a value that does not fit `target`."""
    received, result = structure(target, value, **options)
    assert not received, "the handler ran"
    return problems(result)


def problems(result):
    """Return the path and the message of each problem of a result."""
    return [(problem["path"], problem["message"]) for problem in result.problems]


def exactly(value):
    """Return the value with its type, so that 1, 1.0 and True differ, at any depth."""
    return type(value), repr(value) if isinstance(value, (list, tuple, dict)) else value


def table(names, cases):
    """Parametrize a test with cases, each under its name."""
    return pytest.mark.parametrize(names, cases.values(), ids=cases)
