"""Scalars, enums and literals in a handler, and values that are refused."""

from __future__ import annotations

import datetime as dt
import enum
import typing
import uuid
from decimal import Decimal
from typing import Any, Literal

import pytest
from support.structuring import (
    NOT_AN_INTEGER,
    Colour,
    exactly,
    refusal,
    structure,
    table,
)

pytestmark = pytest.mark.usefixtures("each_json")

DATETIME = "expected an ISO 8601 datetime such as '2026-03-20T10:30:00+01:00'"
DATE = "expected an ISO 8601 date such as '2026-03-20'"
TIME = "expected an ISO 8601 time such as '10:30:00'"
UTC = dt.timezone.utc
AN_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
Number = typing.NewType("Number", int)


class Mood(enum.Enum):
    CALM = "calm"
    LEVEL = 2


class Size(int, enum.Enum):
    SMALL = 1
    LARGE = 2


class Step(enum.IntEnum):
    FIRST = 1
    SECOND = 2


class Text(str):
    """A subclass of str."""


class Moment(dt.datetime):
    """A subclass of datetime."""


# Scalars.


def test_the_string_false_is_not_a_boolean():
    assert refusal(bool, "false") == [("value", "expected a boolean, got a string")]


def test_a_number_is_not_a_string():
    assert refusal(str, 5) == [("value", "expected a string, got an integer")]


def test_true_is_not_an_integer():
    assert refusal(int, True) == [("value", "expected an integer, got a boolean")]


def test_a_number_with_a_fraction_is_not_an_integer():
    assert refusal(int, 1.7) == [("value", "expected an integer, got a number with a fraction")]


def test_an_integer_becomes_a_float():
    received, _ = structure(float, 1)
    assert [exactly(value) for value in received] == [(float, 1.0)]


SCALARS = {
    "a string": (str, "x", "x"),
    "an empty string": (str, "", ""),
    "an integer": (int, -5, -5),
    "an integer beyond 64 bits": (int, 10**30, 10**30),
    "a float": (float, 1.5, 1.5),
    "true": (bool, True, True),
    "false": (bool, False, False),
    "None": (None, None, None),
    "type(None)": (type(None), None, None),
    "anything": (Any, [1, "a", None], [1, "a", None]),
    "an object": (object, {"a": 1}, {"a": 1}),
    "a NewType": (Number, 3, 3),
    "a subclass of str": (Text, "x", Text("x")),
    "a subclass of datetime": (Moment, "2026-03-20T10:30:00", Moment(2026, 3, 20, 10, 30)),
    "a UTC datetime": (
        dt.datetime,
        "2026-03-20T10:30:00Z",
        dt.datetime(2026, 3, 20, 10, 30, tzinfo=UTC),
    ),
    "a datetime with an offset": (
        dt.datetime,
        "2026-03-20T10:30:00-01:30",
        dt.datetime(2026, 3, 20, 10, 30, tzinfo=dt.timezone(-dt.timedelta(minutes=90))),
    ),
    "a naive datetime": (dt.datetime, "2026-03-20T10:30:00", dt.datetime(2026, 3, 20, 10, 30)),
    "a datetime with a blank": (dt.datetime, "2026-03-20 10:30", dt.datetime(2026, 3, 20, 10, 30)),
    "a datetime at midnight": (dt.datetime, "2026-03-20", dt.datetime(2026, 3, 20)),
    "a datetime with one digit of fraction": (
        dt.datetime,
        "2026-03-20T10:30:00.5",
        dt.datetime(2026, 3, 20, 10, 30, 0, 500_000),
    ),
    "a datetime with nanoseconds": (
        dt.datetime,
        "2026-03-20T10:30:00.123456789Z",
        dt.datetime(2026, 3, 20, 10, 30, 0, 123_456, tzinfo=UTC),
    ),
    "a date": (dt.date, "2026-03-20", dt.date(2026, 3, 20)),
    "a leap day": (dt.date, "2024-02-29", dt.date(2024, 2, 29)),
    "a time": (dt.time, "10:30:15", dt.time(10, 30, 15)),
    "a time without seconds": (dt.time, "10:30", dt.time(10, 30)),
    "a time with a fraction and a zone": (
        dt.time,
        "10:30:00.25Z",
        dt.time(10, 30, 0, 250_000, tzinfo=UTC),
    ),
    "a timedelta": (dt.timedelta, 90, dt.timedelta(seconds=90)),
    "a timedelta with a fraction": (dt.timedelta, -1.5, dt.timedelta(seconds=-1.5)),
    "a UUID": (uuid.UUID, str(AN_UUID), AN_UUID),
    "a UUID in capitals": (uuid.UUID, str(AN_UUID).upper(), AN_UUID),
    "a Decimal": (Decimal, "12.5", Decimal("12.5")),
    "a Decimal with an exponent": (Decimal, "-1e5", Decimal("-1e5")),
    "an integer as a Decimal": (Decimal, 5, Decimal(5)),
    "bytes": (bytes, "aGk=", b"hi"),
    "empty bytes": (bytes, "", b""),
}


@table(("target", "json_value", "expected"), SCALARS)
def test_a_scalar_arrives_as_its_type(target, json_value, expected):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(expected)]


def test_a_decimal_keeps_its_trailing_zeros():
    received, _ = structure(Decimal, "12.50")
    assert str(received[0]) == "12.50"


INVALID_SCALARS = {
    "str of null": (str, None, "expected a string, got null"),
    "str of an array": (str, ["a"], "expected a string, got an array"),
    "int of a whole float": (int, 1.0, "expected an integer, got a number with a fraction"),
    "int of a string": (int, "1", NOT_AN_INTEGER),
    "int of null": (int, None, "expected an integer, got null"),
    "float of a boolean": (float, True, "expected a number, got a boolean"),
    "float of a string": (float, "1.5", "expected a number, got a string"),
    "float of too large an integer": (float, 10**400, "expected a number that a double can hold"),
    "bool of 1": (bool, 1, "expected a boolean, got an integer"),
    "bool of 0": (bool, 0, "expected a boolean, got an integer"),
    "bool of null": (bool, None, "expected a boolean, got null"),
    "None of 0": (None, 0, "expected null, got an integer"),
    "None of false": (None, False, "expected null, got a boolean"),
    "NewType of a string": (Number, "3", NOT_AN_INTEGER),
    "datetime of a number": (
        dt.datetime,
        1_700_000_000,
        "expected an ISO 8601 datetime as a string, got an integer",
    ),
    "datetime of a word": (dt.datetime, "tomorrow", DATETIME),
    "datetime without hyphens": (dt.datetime, "20260320T103000", DATETIME),
    "datetime of a week": (dt.datetime, "2026-W12-5", DATETIME),
    "datetime in month 13": (dt.datetime, "2026-13-01T00:00:00", DATETIME),
    "datetime with a line end": (dt.datetime, "2026-03-20T10:30:00\n", DATETIME),
    "datetime in other digits": (dt.datetime, "٢٠٢٦-٠٣-٢٠", DATETIME),
    "datetime at hour 24": (dt.datetime, "2026-03-20T24:00:00", DATETIME),
    "datetime a day off": (dt.datetime, "2026-03-20T10:30:00+24:00", DATETIME),
    "datetime with an hour only": (dt.datetime, "2026-03-20T10", DATETIME),
    "date of a number": (
        dt.date,
        20260320,
        "expected an ISO 8601 date as a string, got an integer",
    ),
    "date of a datetime": (dt.date, "2026-03-20T00:00:00", DATE),
    "a date that does not exist": (dt.date, "2026-02-30", DATE),
    "time of null": (dt.time, None, "expected an ISO 8601 time as a string, got null"),
    "time at hour 25": (dt.time, "25:00", TIME),
    "time with an hour only": (dt.time, "10", TIME),
    "time of a datetime": (dt.time, "2026-03-20T10:30:00", TIME),
    "timedelta of a string": (dt.timedelta, "90", "expected a number of seconds, got a string"),
    "timedelta of a boolean": (dt.timedelta, True, "expected a number of seconds, got a boolean"),
    "timedelta out of range": (
        dt.timedelta,
        1e300,
        "expected a number of seconds that a timedelta can hold",
    ),
    "timedelta beyond a double": (
        dt.timedelta,
        10**400,
        "expected a number of seconds that a timedelta can hold",
    ),
    "UUID of a number": (uuid.UUID, 5, "expected a UUID as a string, got an integer"),
    "UUID of a word": (uuid.UUID, "me", "expected a UUID"),
    "Decimal of a float": (
        Decimal,
        1.5,
        "expected a decimal written as a string, got a number with a fraction",
    ),
    "Decimal of a boolean": (Decimal, True, "expected a decimal as a string, got a boolean"),
    "Decimal of a word": (Decimal, "much", "expected a decimal such as '12.50'"),
    "Decimal of NaN": (Decimal, "NaN", "expected a decimal such as '12.50'"),
    "Decimal of infinity": (Decimal, "-Infinity", "expected a decimal such as '12.50'"),
    "bytes of a number": (bytes, 5, "expected base64 as a string, got an integer"),
    "bytes without padding": (bytes, "aGk", "expected base64"),
    "bytes with a blank": (bytes, "aG k=", "expected base64"),
    "bytes of no ASCII": (bytes, "é", "expected base64"),
}


@table(("target", "json_value", "message"), INVALID_SCALARS)
def test_nothing_is_cast_to_a_scalar(target, json_value, message):
    assert refusal(target, json_value) == [("value", message)]


@table(
    "json_value",
    {"blanks": " 1 ", "an underscore": "1_0", "other digits": "١", "no digit": ".", "hex": "0x1"},
)
def test_a_decimal_in_another_form_than_plain_digits_is_refused(json_value):
    assert refusal(Decimal, json_value) == [("value", "expected a decimal such as '12.50'")]


@table(
    "json_value",
    {"odd hyphens": "1-2345678123456781234567812345678", "braces": "{%s}" % ("1" * 32)},
)
def test_a_uuid_in_another_form_is_refused(json_value):
    assert refusal(uuid.UUID, json_value) == [("value", "expected a UUID")]


def test_a_uuid_may_be_written_without_hyphens():
    assert structure(uuid.UUID, "1" * 32)[0] == [uuid.UUID("1" * 32)]


# Choices.

CHOICES = {
    "a member of an enum": (Mood, "calm", Mood.CALM),
    "a member of another type": (Mood, 2, Mood.LEVEL),
    "a member of a str enum": (Colour, "red", Colour.RED),
    "a member of an int enum": (Size, 1, Size.SMALL),
    "a member of an IntEnum": (Step, 2, Step.SECOND),
    "a literal string": (Literal["a", 1], "a", "a"),
    "a literal number": (Literal["a", 1], 1, 1),
    "a literal boolean": (Literal[True], True, True),
    "a literal null": (Literal["a", None], None, None),
    "a literal member": (Literal[Colour.BLUE], "blue", Colour.BLUE),
}


@table(("target", "json_value", "expected"), CHOICES)
def test_a_choice_arrives_as_its_member(target, json_value, expected):
    received, _ = structure(target, json_value)
    assert [exactly(value) for value in received] == [exactly(expected)]


INVALID_CHOICES = {
    "another word": (Colour, "green", "expected one of 'red', 'blue'"),
    "a member's name": (Colour, "RED", "expected one of 'red', 'blue'"),
    "a number as a string": (Size, "1", "expected one of 1, 2"),
    "true for 1": (Size, True, "expected one of 1, 2"),
    "1.0 for 1": (Step, 1.0, "expected one of 1, 2"),
    "an object": (Mood, {}, "expected one of 'calm', 2"),
    "another literal": (Literal["a", 1], "b", "expected one of 'a', 1"),
    "true for a literal 1": (Literal["a", 1], True, "expected one of 'a', 1"),
    "1 for a literal true": (Literal[True], 1, "expected True"),
    "not the only literal": (Literal["a"], "b", "expected 'a'"),
    "not the literal member": (Literal[Colour.BLUE], "red", "expected 'blue'"),
}


@table(("target", "json_value", "message"), INVALID_CHOICES)
def test_another_value_than_a_choice_is_refused_with_the_choices(target, json_value, message):
    assert refusal(target, json_value) == [("value", message)]
