"""`arbprov invoke`: results, exit codes, payloads and accounts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.waiting import TIMEOUT

from arbprov.dispatcher import Dispatcher
from arbprov.executors.inline import InlineRunner


def test_the_response_is_printed(arbprov):
    result = arbprov("invoke", "typed", "square", '{"n": 3}', "--account", '{"id": "a"}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})


def test_the_whole_envelope_is_printed_as_json(arbprov):
    result = arbprov("invoke", "typed", "so_so", "--json")
    envelope = json.loads(result.stdout)
    assert (envelope["status"], envelope["data"]["provider"]) == ("warning", "typed")


PRINTING = """
from arbprov import ProviderApp

app = ProviderApp("printing")
print("imported")

@app.action
def work():
    print("working")
    return {"rows": 1}
"""


def test_what_the_author_s_code_prints_goes_to_stderr(arbprov, folder):
    (folder / "other.py").write_text(PRINTING)
    result = arbprov("invoke", "other", "work")
    assert (json.loads(result.stdout), result.stderr) == ({"rows": 1}, "imported\nworking\n")


def test_a_warning_is_printed_to_stderr_with_exit_code_0(arbprov):
    result = arbprov("invoke", "typed", "so_so")
    assert (result.exit_code, result.stderr) == (0, "warning: Only half of it\n")


def test_an_error_is_exit_code_1(arbprov):
    result = arbprov("invoke", "typed", "square", '{"n": "3"}')
    assert (result.exit_code, result.stderr) == (
        1,
        "error: n: expected an integer, got a string\n",
    )


def test_a_handler_s_traceback_is_printed_to_stderr(start):
    process = start("invoke", "typed", "fail")
    output, errors = process.communicate(timeout=TIMEOUT)
    assert json.loads(output)["type"] == "ZeroDivisionError"
    assert "in fail\n      return 1 / 0" in errors
    assert "dispatcher.py" not in errors


FAILING = """
import contextlib
from arbprov import ProviderApp

app = ProviderApp("failing")

@app.lifespan
@contextlib.asynccontextmanager
async def connect():
    yield
    raise ValueError("no goodbye")

@app.on_startup
async def load():
    raise KeyError("no table")

@app.on_shutdown
def close():
    app.table.close()

app.action("work")(lambda: None)
"""


def test_the_tracebacks_of_hooks_and_lifespans_begin_in_them(arbprov, folder):
    (folder / "other.py").write_text(FAILING)
    result = arbprov("invoke", "other", "work")
    frames = [line.split('"')[1:] for line in result.stderr.splitlines() if "  File " in line]
    path = str(folder / "other.py")
    assert frames == [
        [path, ", line 15, in load"],
        [path, ", line 19, in close"],
        [path, ", line 11, in connect"],
    ]
    assert result.exit_code == 1


def test_hooks_and_lifespans_that_fail_are_named(arbprov, folder, caplog):
    path = folder / "other.py"
    path.write_text(FAILING)
    arbprov("invoke", "other", "work")
    assert caplog.messages == [
        f"the on_startup hook load ({path}:13) has failed",
        f"the on_shutdown hook close ({path}:17) has failed",
        f"the lifespan connect ({path}:7) has failed",
    ]


def test_a_lifespan_that_can_not_be_entered_is_named(arbprov, folder, caplog):
    (folder / "other.py").write_text(FAILING.replace("    yield\n", "    1 / 0\n    yield\n"))
    result = arbprov("invoke", "other", "work")
    assert caplog.messages[0].startswith("the lifespan connect (")
    assert "contextlib.py" not in result.stderr


@pytest.mark.parametrize(
    "method", [(InlineRunner, "run"), (Dispatcher, "finish")], ids=["run", "finish"]
)
def test_an_error_of_arbprov_itself_has_its_whole_traceback(arbprov, monkeypatch, method):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(*method, fail)
    result = arbprov("invoke", "typed", "so_so")
    assert str(result.exception) == "a bug"
    assert result.stderr == ""


def test_a_call_that_takes_longer_than_its_timeout_is_an_error(arbprov):
    result = arbprov("invoke", "typed", "slow")
    assert "ran longer than its timeout of 0.01 s" in result.stderr


def test_the_envelope_has_the_current_time(arbprov):
    envelope = json.loads(arbprov("invoke", "typed", "so_so", "--json").stdout)
    assert envelope["data"]["now_utc"] > "2026-11"


def test_the_payload_and_the_account_can_come_from_files(arbprov, folder):
    (folder / "payload.json").write_text('{"n": 4}')
    (folder / "account.json").write_text('{"id": "a"}')
    result = arbprov("invoke", "typed", "square", "@payload.json", "--account", "@account.json")
    assert json.loads(result.stdout) == {"square": 16}


def test_the_payload_can_come_from_stdin(arbprov):
    arguments = ("invoke", "typed", "square", "-", "--account", '{"id": "a"}')
    assert json.loads(arbprov(*arguments, input='{"n": 5}').stdout) == {"square": 25}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("{nope", "not JSON: Expecting property name enclosed in double quotes (character 1)"),
        ("[1]", "expected a JSON object, got an array"),
        ("payload.json", """write it like '{"city": "Paris"}' or as @FILE"""),
        ("@nowhere.json", "can't read nowhere.json: No such file or directory"),
    ],
)
def test_a_payload_that_can_not_be_read_is_wrong_usage(arbprov, payload, message):
    result = arbprov("invoke", "typed", "square", payload)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("command", [("invoke", "typed"), ("call",)])
def test_text_that_is_not_unicode_is_wrong_usage(arbprov, command):
    result = arbprov(*command, "square", r'{"n": "\ud800"}')
    assert result.exit_code == 2
    assert "n: a string with a lone surrogate is not Unicode text" in result.stderr


def test_a_file_can_begin_with_a_byte_order_mark(arbprov, folder):
    (folder / "payload.json").write_text('{"n": 3}', encoding="utf-8-sig")
    result = arbprov("invoke", "typed", "square", "@payload.json", "--account", '{"id": "a"}')
    assert json.loads(result.stdout) == {"square": 9}


TWO_PROBLEMS = """
from arbprov import ProviderApp, ProviderResponse
app = ProviderApp("two")

@app.action
def order(article: str, quantity: int) -> dict:
    return {"article": article}

@app.action
def refuse() -> ProviderResponse:
    return ProviderResponse("error", "sold out", {"problems": "none", "since": "May"})
"""


def test_each_problem_is_printed_once(arbprov, folder):
    (folder / "other.py").write_text(TWO_PROBLEMS)
    result = arbprov("invoke", "other", "order", '{"quantity": "2"}')
    assert (result.stdout, result.stderr.splitlines()) == (
        "",
        [
            "error: 2 problems",
            "  article: required field is missing",
            "  quantity: expected an integer, got a string",
        ],
    )


OTHER_PROBLEMS = """
from arbprov import InvalidPayloadError, ProviderApp
from arbprov.errors import Problem
app = ProviderApp("others")

@app.action
def measure() -> dict:
    return {"a": float("nan"), "b": float("inf")}

@app.action
def book() -> None:
    raise InvalidPayloadError([Problem("last", "is before first")], message="No such stay")
"""


def test_problems_of_a_result_are_told_from_those_of_a_payload(arbprov, folder):
    (folder / "other.py").write_text(OTHER_PROBLEMS)
    result = arbprov("invoke", "other", "measure")
    assert (result.stdout, result.stderr.splitlines()) == (
        "",
        [
            "error: The action returned what JSON can't carry: 2 problems",
            "  a: nan is not a JSON number",
            "  b: inf is not a JSON number",
        ],
    )


def test_a_message_of_the_author_s_own_does_not_hide_the_problem(arbprov, folder):
    (folder / "other.py").write_text(OTHER_PROBLEMS)
    result = arbprov("invoke", "other", "book")
    assert (result.stdout, result.stderr.splitlines()) == (
        "",
        ["error: No such stay", "  last: is before first"],
    )


def test_an_ignored_field_is_named(arbprov, folder):
    (folder / "other.py").write_text(TWO_PROBLEMS)
    result = arbprov("invoke", "other", "order", '{"article": "tea", "quantity": 1, "qantity": 2}')
    assert json.loads(result.stdout) == {"article": "tea"}
    assert result.stderr == "ignored field qantity; did you mean 'quantity'?\n"


def test_an_action_that_does_not_exist_has_a_suggestion(arbprov, folder):
    (folder / "other.py").write_text(TWO_PROBLEMS)
    result = arbprov("invoke", "other", "odrer")
    assert json.loads(result.stdout) == {"available_actions": ["order", "refuse"]}
    assert result.stderr == "error: Action not found; did you mean 'order'?\n"


def test_the_data_of_an_author_s_own_error_is_printed(arbprov, folder):
    (folder / "other.py").write_text(TWO_PROBLEMS)
    result = arbprov("invoke", "other", "refuse")
    assert json.loads(result.stdout) == {"problems": "none", "since": "May"}
    assert result.stderr == "error: sold out\n"


def run_odd(*arguments, **environ):
    """Run a command in a process of its own, and return its exit code and its bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "arbprov", *arguments], env=os.environ | environ, capture_output=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_result_that_the_output_s_encoding_lacks_stays_json(folder, encoding, options):
    (folder / "other.py").write_text(TWO_PROBLEMS)
    payload = '{"article": "\\u2600 \\u00e9 \\ud83d\\ude00", "quantity": 1}'
    code, output, errors = run_odd(
        "invoke", "other", "order", payload, *options, PYTHONIOENCODING=encoding
    )
    result = json.loads(output.decode(encoding))
    assert (code, errors) == (0, b"")
    assert (result["data"]["response"] if options else result) == {
        "article": "\u2600 \xe9 \U0001f600"
    }


def test_a_message_that_the_output_s_encoding_lacks_is_written_with_escapes(folder):
    (folder / "other.py").write_text(TWO_PROBLEMS.replace("sold out", "sold out \u2600"))
    code, _, errors = run_odd("invoke", "other", "refuse", PYTHONIOENCODING="ascii:strict")
    assert (code, errors) == (1, b"error: sold out \\u2600\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (b"invoke", b"typed", b"so_so", b'{"city": "\xff"}'),
        (b"invoke", b"typed", b"so_\xff"),
        (b"invoke", b"typed", b"so_so", b"--account", b'{"id": "\xff"}'),
        (b"invoke", b"typ\xff", b"so_so"),
        (b"invoke", b"typed", b"so_so", b"@nowhere\xff"),
        (b"call", b"so_so", b"--provider", b"\xff"),
        (b"limits", b"typed", b"--key", b"account.id=\xff"),
        (b"dev", b"\xff.py"),
    ],
)
def test_an_argument_that_is_not_text_is_wrong_usage(folder, arguments):
    code, output, errors = run_odd(*arguments)
    assert (code, output) == (2, b"")
    assert b"Usage: arbprov " + arguments[0] in errors
    assert b"is not text in this system's encoding" in errors


def test_a_payload_s_file_can_have_a_name_that_is_not_text(folder):
    (folder / os.fsdecode(b"\xff.json")).write_text("{}")
    assert run_odd("invoke", "typed", "so_so", b"@\xff.json")[0] == 0
