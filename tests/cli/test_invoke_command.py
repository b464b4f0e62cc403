"""`arbprov invoke`: results, exit codes, payloads and accounts."""

from __future__ import annotations

import json

import pytest


def test_the_response_is_printed(arbprov):
    result = arbprov("invoke", "typed", "square", '{"n": 3}', "--account", '{"id": "a"}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})


def test_the_whole_envelope_is_printed_as_json(arbprov):
    result = arbprov("invoke", "typed", "so_so", "--json")
    envelope = json.loads(result.stdout)
    assert (envelope["status"], envelope["data"]["provider"]) == ("warning", "typed")


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
    output, errors = process.communicate(timeout=20)
    assert json.loads(output)["type"] == "ZeroDivisionError"
    assert "in fail\n      return 1 / 0" in errors
    assert "dispatcher.py" not in errors


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
