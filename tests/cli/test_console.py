"""What `arbprov dev` shows of its provider."""

from __future__ import annotations

import io
import json
import logging
import math
import operator
import os
import re
import time
import typing

import pytest

from arbprov import ProviderApp, ProviderResponse, TaskContext
from arbprov.cli.console import DevOptions, describe_start, show_provider
from arbprov.cli.terminal import Terminal
from arbprov.errors import InvalidPayloadError, Problem
from arbprov.executors.inline import InlineRunner, make_task
from arbprov.hooks import Hooks

START = DevOptions("start")


@pytest.fixture(autouse=True)
def _logging(monkeypatch):
    """Have the loggers as a new process has them, and restore them."""
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for logger in (logging.getLogger(), logging.getLogger("arbprov")):
        monkeypatch.setattr(logger, "handlers", [])
        monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    logging.getLogger("arbprov").manager._clear_cache()
    yield
    logging.getLogger("arbprov").manager._clear_cache()


@pytest.fixture
def show(app, monkeypatch):
    """Return a function that shows the app, with an author's handlers of the log."""

    def show(options=START, handlers=()):
        # Here, since pytest has added its own handlers by now.
        monkeypatch.setattr(logging.getLogger(), "handlers", list(handlers))
        show_provider(app, options)

    return show


@pytest.fixture
def app():
    return ProviderApp("shop")


def start_of(app, options=START):
    return describe_start(app, app._live_dispatcher(), Terminal(io.StringIO()), options)


@pytest.fixture
def run(app, show, capsys):
    """Return a function that runs a task and returns the lines that `dev` shows of it."""

    def run(action, payload=None, account=None, options=START, handlers=()):
        show(options, handlers)
        capsys.readouterr()
        InlineRunner(app._live, Hooks(), time.sleep).run(make_task("t1", action, payload, account))
        return capsys.readouterr().err.splitlines()

    return run


# The start.


def test_no_action_has_no_call(app):
    assert start_of(app) == ["Provider shop has 0 actions:"]


def test_the_shortest_call_with_a_payload_is_shown(app):
    app.action("a")(lambda: None)
    app.action("b")(lambda a_rather_long_name, another_rather_long_name, number_three: None)
    app.action("c")(lambda city: None)
    assert start_of(app)[-1] == """  arbprov call c '{"city": "city"}'"""


def test_a_call_that_is_too_long_is_written_as_several_lines_that_a_shell_joins(app):
    names = [f"a_rather_long_name_{number}" for number in range(3)]

    @app.action
    @app.rate_limit("5/minute", key="account.api_key")
    def work(payload: dict) -> None: ...

    for number, name in enumerate(names):
        app.rate_limit(f"{number + 1}/hour", key=f"payload.{name}")(work)
    lines = start_of(app, DevOptions("start", "--hub-url grpc://127.0.0.1:1"))
    call = lines[lines.index("Call it from another terminal:") + 1 :]
    assert call[0] == "  arbprov call work \\"
    assert call[1] == "    '{"
    assert call[2] == '  "a_rather_long_name_0": "sample-a_rather_long_name_0",'
    assert call[-2:] == ["}' \\", "    --hub-url grpc://127.0.0.1:1"]
    assert max(map(len, lines)) <= 80


def test_a_call_with_a_longer_field_than_a_line_is_shown_in_whole(app):
    name = "a" * 90
    app.rate_limit("5/minute", key=f"payload.{name}")(app.action("work")(lambda payload: None))
    assert f'  "{name}": "sample-{name}"' in start_of(app)


def test_only_some_of_many_actions_are_listed(app):
    for number in range(15):
        app.action(f"action_{number:02}")(lambda city: None)
    lines = start_of(app)
    assert lines[12:14] == ["  action_11(city)", "  and 3 more"]


def test_several_limits_have_a_line_each(app):
    @app.action
    @app.rate_limit("5/second")
    @app.rate_limit("1000/hour")
    def work() -> None: ...

    assert start_of(app)[1:4] == [
        "  work()",
        "      at most 1000/hour",
        "      at most 5/second",
    ]


def test_an_action_without_a_sample_has_no_call(app):
    def work(ctx: TaskContext, x) -> None: ...

    def never(value):
        raise ValueError("never")

    work.__annotations__["x"] = typing.Annotated[int, never]
    app.action(work)
    assert start_of(app)[-1].startswith("  work(")


# Tasks.


def test_a_task_that_succeeds_is_one_line(app, run):
    app.action("price")(lambda item: {"item": item})
    (line,) = run("price", {"item": "tea"})
    assert re.fullmatch(r"\d\d:\d\d:\d\d  price   success  +\d+\.\d ms", line)


def test_a_long_task_has_its_seconds(app, run, monkeypatch):
    now = iter(range(0, 1000, 3))
    app.action("price", timeout=100)(lambda: None)
    clock = app._live_dispatcher().clock
    monkeypatch.setattr(type(clock), "monotonic", lambda self: float(next(now)))
    (line,) = run("price")
    assert line.endswith(" s")


def fail():
    raise ValueError("first\nsecond " + "word " * 100)


LINE = fail.__code__.co_firstlineno


def test_a_failure_has_its_reason_and_its_place(app, run):
    app.action("price")(fail)
    line, *reason = run("price")
    assert line.endswith(f"test_console.py:{LINE + 1}")
    assert reason[0].startswith(r"          ValueError: first\nsecond word word")
    assert (len(reason), reason[2][-1]) == (3, "…")
    assert max(map(len, [line, *reason])) <= 80


def test_a_place_is_shown_from_its_end_if_it_is_long(app, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # so that the place is an absolute path
    monkeypatch.setenv("COLUMNS", "60")
    app.action("price")(fail)
    line = run("price")[0]
    assert re.search(rf"  \.\.\..*test_console.py:{LINE + 1}$", line)
    assert len(line) <= 60


@pytest.mark.parametrize("fail", [lambda: os.stat("/nowhere/at/all"), lambda: json.loads("{")])
def test_an_error_in_a_library_has_the_place_of_the_author_s_call(app, run, fail):
    app.action("price")(fail)
    assert "test_console.py" in run("price")[0]


def test_an_error_response_has_the_place_of_its_handler(app, run):
    app.action("price")(lambda: ProviderResponse("error", "sold out"))
    line, reason = run("price")
    assert (f"test_console.py:{LINE}" in line, "test_console.py:" in line) == (False, True)
    assert reason == "          sold out"


def test_a_handler_without_code_is_named(app, run):
    app.action("price")(operator.truediv)
    assert run("price", {"a": 1, "b": 0})[0].endswith("ms  truediv")


def test_an_error_s_own_name_is_not_repeated(app, run):
    def price(key: str = ""):
        raise KeyError(*filter(None, [key]))

    app.action(price)
    assert run("price")[1] == "          KeyError"
    assert run("price", {"key": "k"})[1] == "          KeyError: 'k'"


def test_one_problem_is_the_reason(app, run):
    app.action("price")(lambda item: None)
    line, reason = run("price")
    assert line.endswith(" ms")
    assert reason == "          item: required field is missing"


def test_each_of_some_problems_has_a_line(app, run):
    app.action("price")(lambda item, color: None)
    assert run("price")[1:] == [
        "          2 problems:",
        "            item: required field is missing",
        "            color: required field is missing",
    ]


def test_problems_of_what_an_action_returned_are_told_from_those_of_a_payload(app, run):
    app.action("price")(lambda: {"a": math.nan, "b": math.nan})
    assert run("price")[1:] == [
        "          The action returned what JSON can't carry: 2 problems:",
        "            a: nan is not a JSON number",
        "            b: nan is not a JSON number",
    ]


def test_a_message_of_the_author_s_own_stands_above_its_problems(app, run):
    def book():
        raise InvalidPayloadError([Problem("last", "is before first")], message="No such stay")

    app.action(book)
    assert run("book")[1:] == ["          No such stay:", "            last: is before first"]


def test_many_problems_are_counted(app, run):
    def price():
        raise InvalidPayloadError([Problem(f"lines[{n}]", "wrong") for n in range(30)])

    app.action(price)
    lines = run("price")
    assert lines[1:3] == ["          30 problems:", "            lines[0]: wrong"]
    assert lines[11:] == ["            lines[9]: wrong", "            and 20 more"]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("prize", "Action not found; did you mean 'price'?"),
        ("x", "Action not found; there is 'price', 'stock'"),
    ],
)
def test_an_action_that_does_not_exist_has_a_suggestion(app, run, action, reason):
    app.action("price")(lambda: None)
    app.action("stock")(lambda: None)
    assert run(action)[1:] == [f"          {reason}"]


def test_a_provider_without_actions_says_so(run):
    assert run("x")[1:] == ["          Action not found; there is none"]


def test_a_limit_and_a_warning_have_a_reason(app, run):
    app.rate_limit("1/hour")(app.action("price")(lambda: ProviderResponse("warning", data=[1])))
    assert run("price")[1:] == ["          Action completed with warnings"]
    (reason,) = run("price")[1:]
    assert re.fullmatch(r"          Rate limit exceeded: 1/hour, wait 360\d s", reason)


def test_with_tasks_only_the_place_of_a_failure_is_shown(app, run):
    app.action("price")(fail)
    app.action("stock")(lambda: None)
    options = DevOptions("tasks")
    assert run("stock", options=options) == []
    assert run("price", {"x": 1}, options=options)[0].startswith("task t1 of action price failed")
    assert run("nope", options=options) == []


def test_a_field_that_nothing_takes_is_named_below_the_task_s_line(app, run):
    app.action("price")(lambda item, currency="EUR": None)
    lines = run("price", {"item": "tea", "curency": "USD", "far": 1})
    assert lines[1:] == [
        "          ignored field curency; did you mean 'currency'?",
        "          ignored field far",
    ]


def test_a_misspelt_required_field_is_named_below_its_problem(app, run):
    app.action("price")(lambda item: None)
    assert run("price", {"itme": "tea"})[1:] == [
        "          item: required field is missing",
        "          ignored field itme; did you mean 'item'?",
    ]


def test_many_ignored_fields_are_counted(app, run):
    app.action("price")(lambda: None)
    lines = run("price", {f"field_{number:02}": 1 for number in range(12)})
    assert lines[1] == "          ignored field field_00"
    assert lines[11:] == ["          and 2 more ignored fields"]


def test_an_ignored_field_has_no_secret(app, run):
    app.action("price")(lambda: None)
    lines = run("price", {"sample-key-1": 1}, account={"api_key": "sample-key-1"})
    assert lines[1:] == ['          ignored field ["[redacted]"]']


def test_with_tasks_an_ignored_field_is_shown_with_its_task(app, run):
    app.action("price")(lambda item="tea": None)
    assert run("price", {"itme": "tea"}, options=DevOptions("tasks")) == [
        "task t1 of action price: ignored field itme; did you mean 'item'?"
    ]


def test_a_traceback_has_no_secret(app, run):
    def price(account: dict):
        raise ValueError(f"the key is {account['api_key']}")

    app.action(price)
    options = DevOptions("start", traceback=True)
    text = "\n".join(run("price", account={"api_key": "sample-key-1"}, options=options))
    assert "Traceback (most recent call last):" in text
    assert "sample-key-1" not in text


# The log.


def shown(capsys, name="shop", level=logging.INFO, text="one", **options):
    capsys.readouterr()
    logging.getLogger(name).log(level, text, **options)
    return [line[10:] for line in capsys.readouterr().err.splitlines()]


def test_an_author_s_lines_are_shown(show, capsys):
    show()
    assert shown(capsys) == ["shop: one"]
    assert shown(capsys, level=logging.ERROR) == ["ERROR shop: one"]
    assert shown(capsys, level=logging.DEBUG) == []
    assert shown(capsys, "arbprov.price") == ["price: one"]
    assert shown(capsys, "arbprov") == ["one"]


def test_a_long_line_is_folded(show, capsys):
    show()
    lines = shown(capsys, text="word " * 30)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 70


def test_a_traceback_in_the_log_keeps_its_indents(show, capsys):
    show()
    try:
        fail()
    except ValueError:
        lines = shown(capsys, level=logging.ERROR, exc_info=True)
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[2].startswith('  File "')


def test_colors_are_used_if_they_are_forced(show, capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    show()
    levels = {logging.INFO: "\033[2m", logging.WARNING: "\033[33m", logging.ERROR: "\033[31m"}
    for level, color in levels.items():
        capsys.readouterr()
        logging.getLogger("arbprov").log(level, "one")
        assert capsys.readouterr().err.startswith(color)


def test_with_tasks_arbprov_s_own_lines_begin_with_warnings(show, capsys):
    show(DevOptions("tasks"))
    assert shown(capsys, "arbprov") == []
    assert shown(capsys, "arbprov", logging.WARNING) == ["WARNING one"]
    assert shown(capsys) == ["shop: one"]


def test_an_author_s_own_log_stays_as_it_is(app, run):
    own = io.StringIO()
    logging.getLogger().setLevel(logging.DEBUG)
    app.action("price")(fail)
    assert len(run("price", handlers=[logging.StreamHandler(own)])) == 4
    logging.getLogger("shop").debug("one")
    # The console shows the task, so the log does not.
    assert own.getvalue() == "one\n"


def test_an_author_s_level_is_kept(show, capsys):
    logging.getLogger().setLevel(logging.ERROR)
    show()
    assert shown(capsys, level=logging.WARNING) == []


@pytest.mark.parametrize("mode", ["start", "restart"])
def test_a_provider_without_actions_is_told_how_to_have_one(show, capsys, mode):
    show(DevOptions(mode))
    assert capsys.readouterr().err.splitlines() == [
        "Provider shop has no actions; decorate a function with @app.action."
    ]


def test_a_restart_names_the_actions(app, show, capsys):
    app.action("price")(lambda: None)
    show(DevOptions("restart"))
    assert capsys.readouterr().err == "Provider shop has 1 action: price\n"
