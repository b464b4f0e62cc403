"""The log as JSON lines: the names of the fields, and that each record is one line."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov.logs.current import current_task
from arbprov.logs.handler import BatchingHandler
from arbprov.logs.json_lines import JsonFormatter
from arbprov.task import Task

FORMATTER = JsonFormatter({"service.name": "weather"})
PLACE = {"name": "shop", "pathname": "/app/shop.py", "lineno": 7, "funcName": "order"}
MAIN = {"process": 42, "threadName": "MainThread", "created": 1_753_000_000.25}
USUAL = PLACE | MAIN | {"levelno": logging.INFO, "levelname": "INFO", "msg": "one"}


def record(**attributes):
    return logging.makeLogRecord(USUAL | attributes)


def line_of(**attributes):
    return json.loads(FORMATTER.format(record(**attributes)))


def attributes_of(**attributes):
    """Return the attributes of a line beside those that each line has."""
    usual = line_of()["attributes"]
    return {k: v for k, v in line_of(**attributes)["attributes"].items() if k not in usual}


@pytest.fixture
def in_task():
    token = current_task.set(Task("t1", "forecast"))
    yield
    current_task.reset(token)


def test_these_are_the_fields_of_a_line():
    assert line_of() == {
        "timestamp": "2025-07-20T08:26:40.250000Z",
        "severity_text": "INFO",
        "severity_number": 9,
        "body": "one",
        "attributes": {
            "code.file.path": "/app/shop.py",
            "code.function.name": "order",
            "code.line.number": 7,
            "process.pid": 42,
            "thread.name": "MainThread",
        },
        "scope": {"name": "shop"},
        "resource": {"service.name": "weather"},
    }


@pytest.mark.usefixtures("in_task")
def test_a_line_has_the_task_that_it_is_logged_in():
    found = line_of()["attributes"]
    assert (found["arbprov.task.id"], found["arbprov.action"]) == ("t1", "forecast")


def test_a_long_task_id_is_cut():
    token = current_task.set(Task("x" * 2_000, "forecast"))
    try:
        assert line_of()["attributes"]["arbprov.task.id"] == "x" * 1_000
    finally:
        current_task.reset(token)


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_753_000_000.9999996, "2025-07-20T08:26:40.999999Z"),
        (-0.25, "1969-12-31T23:59:59.750000Z"),
    ],
)
def test_the_time_is_in_utc_with_microseconds(created, shown):
    assert line_of(created=created)["timestamp"] == shown


@pytest.mark.parametrize(
    ("level", "number"),
    [(0, 0), (5, 4), (10, 5), (13, 8), (20, 9), (25, 12), (30, 13), (40, 17), (50, 21), (99, 24)],
)
def test_a_level_has_the_number_of_opentelemetry(level, number):
    assert line_of(levelno=level)["severity_number"] == number


class ShopError(Exception):
    pass


def error_info(error):
    try:
        raise error
    except Exception:
        return sys.exc_info()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [(KeyError("city"), "KeyError", "'city'"), (ShopError("closed"), None, "closed")],
)
def test_an_exception_has_its_attributes(error, kind, message):
    found = attributes_of(exc_info=error_info(error))
    stacktrace = found.pop("exception.stacktrace")
    kind = kind or f"{__name__}.ShopError"
    assert found == {"exception.type": kind, "exception.message": message}
    assert stacktrace.startswith("Traceback (most recent call last):\n")


def test_the_text_of_an_exception_that_another_handler_has_formatted_is_used():
    assert attributes_of(exc_text="Traceback") == {"exception.stacktrace": "Traceback"}


def test_no_exception_has_no_attributes():
    assert attributes_of(exc_info=(None, None, None)) == {}


def test_a_stack_has_an_attribute():
    assert attributes_of(stack_info="Stack") == {"code.stacktrace": "Stack"}


EXTRA = {
    "text": "Paris",
    "number": 3,
    "share": 0.5,
    "flag": True,
    "nothing": None,
    "list": [1, "two", {"three": 3}],
}


def test_an_author_s_extra_fields_are_attributes():
    assert attributes_of(**EXTRA) == EXTRA


class Mute:
    def __str__(self):
        raise SystemExit


ITSELF: list = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"bytes", "b'bytes'"),
        (float("nan"), "nan"),
        ([float("inf")], "[inf]"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (ITSELF, "[[...]]"),
        (Mute(), ""),
        ([Mute()], [""]),
        (10**5000, ""),
    ],
    ids=["bytes", "nan", "inf", "tuple key", "itself", "mute", "mute in a list", "long number"],
)
def test_a_value_that_json_can_t_hold_is_a_text(value, shown):
    assert attributes_of(value=value) == {"value": shown}


def test_an_extra_field_does_not_replace_an_attribute():
    found = attributes_of(**{"process.pid": 1, "thread.name": "x", "code.stacktrace": "y"})
    assert found == {"extra.process.pid": 1, "extra.thread.name": "x", "extra.code.stacktrace": "y"}


def test_an_extra_field_does_not_replace_an_exception():
    found = attributes_of(exc_info=error_info(KeyError("city")), **{"exception.type": "mine"})
    assert (found["exception.type"], found["extra.exception.type"]) == ("KeyError", "mine")


def test_without_an_exception_extra_fields_may_describe_one():
    assert attributes_of(**{"exception.type": "mine"}) == {"exception.type": "mine"}


def test_a_name_of_another_type_becomes_a_text():
    odd = record()
    vars(odd)[7] = "seven"
    assert json.loads(FORMATTER.format(odd))["attributes"]["7"] == "seven"


@pytest.mark.parametrize("names", [("trace_id", "span_id"), ("otelTraceID", "otelSpanID")])
def test_a_trace_is_at_the_top(names):
    line = line_of(**dict(zip(names, ["ab" * 16, "cd" * 8], strict=True)))
    assert (line["trace_id"], line["span_id"]) == ("ab" * 16, "cd" * 8)
    assert line["attributes"] == line_of()["attributes"]


@pytest.mark.parametrize("none", ["0", "", None, 7])
def test_an_empty_trace_is_left_out(none):
    assert line_of(otelTraceID=none) == line_of()


def test_arguments_that_do_not_fit_lose_no_line():
    line = line_of(msg="%d", args=("x",))
    assert line["body"].startswith("'%d' can't be logged: TypeError: ")
    assert line["attributes"] == line_of()["attributes"]


class Text(str):
    __slots__ = ()

    def __str__(self):
        return self


def test_a_message_of_an_author_s_class_is_plain_text():
    assert line_of(msg=Text("one"))["body"] == "one"


# Any record is a line.


def lines_of(odd, task=None):
    """Return what a handler writes for a record, as lines."""
    stream = io.BytesIO()
    handler = BatchingHandler()
    handler.setStream(io.TextIOWrapper(stream, encoding="utf-8", write_through=True))
    handler.setFormatter(FORMATTER)
    handler.handle(odd)
    return stream.getvalue().decode().splitlines()


def test_a_line_separator_does_not_split_a_line():
    text = "a\x85b\u2028c\u2029d\x0be\x1cf\rg\nh"
    (line,) = lines_of(record(msg=text))
    assert json.loads(line)["body"] == text


def test_half_of_a_pair_is_the_text_of_its_escape():
    (line,) = lines_of(record(msg="a\udc80b\ud83d"))
    assert json.loads(line)["body"] == "a\\udc80b\\ud83d"


@pytest.mark.parametrize(
    "odd",
    [{"created": float("nan")}, {"created": 1e300}, {"levelname": [1]}, {"lineno": {}}],
    ids=str,
)
def test_a_record_with_odd_attributes_has_a_line_that_says_why(odd):
    (line,) = lines_of(record(**odd))
    assert "can't be logged" in json.loads(line)["body"]


class Evil(Exception):
    """An error that raises whatever is asked of it."""

    def __str__(self):
        raise KeyboardInterrupt


texts = st.text(st.characters())
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(), st.just(Mute())
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(texts, st.integers(), st.tuples(texts)), inner, max_size=3),
    ),
    max_leaves=5,
)
errors = st.sampled_from([None, error_info(ShopError("\ud800")), error_info(Evil())])


@given(
    msg=values,
    args=st.one_of(st.just(()), st.tuples(values), st.tuples(values, values)),
    extra=st.dictionaries(texts, values, max_size=3),
    exc_info=errors,
    level=st.integers(1, 100),
    name=texts,
)
def test_any_record_is_one_line_of_json(msg, args, extra, exc_info, level, name):
    logger = logging.Logger(name)
    kept = []
    logger.addFilter(lambda made: kept.append(made) or False)
    fields = {key: value for key, value in extra.items() if key not in vars(record())}
    fields = {k: v for k, v in fields.items() if k not in {"message", "asctime"}}
    logger.log(level, msg, *args, extra=fields, exc_info=exc_info)
    (line,) = lines_of(kept[0])
    line.encode()  # no halves of pairs
    names = []
    found = json.loads(line, object_pairs_hook=lambda pairs: names.append(pairs) or dict(pairs))
    assert all(len(pairs) == len(dict(pairs)) for pairs in names)
    assert type(found["body"]) is str
    assert list(found)[:3] == ["timestamp", "severity_text", "severity_number"]
