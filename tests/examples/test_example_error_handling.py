"""How tasks end in the example on errors, through the wire."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.examples import EXAMPLES, load, statuses_of_tasks, working
from support.waiting import TIMEOUT


@pytest.fixture(scope="module")
def hub():
    with working(load("error_handling")) as hub:
        yield hub


def test_rows_of_numbers_only_are_a_success(hub):
    result = hub.call("process_data", {"data": ["1", "2"]})
    assert result.status == "success"
    assert result.data == {"processed": 2, "total": 3, "problems": []}


def test_rows_with_some_texts_are_a_warning_with_the_sum_of_the_numbers(hub):
    result = hub.call("process_data", {"data": ["1", "two", "3"]})
    assert (result.status, result.message) == ("warning", "Some rows are left out")
    assert (result.data["processed"], result.data["total"]) == (2, 4)
    assert [one["path"] for one in result.data["problems"]] == ["data[1]"]


def test_rows_without_a_number_are_the_handler_s_own_error(hub):
    result = hub.call("process_data", {"data": ["one"]})
    assert (result.status, result.message) == ("error", "No row is a whole number")


def test_strict_rows_are_refused_like_an_invalid_payload(hub):
    result = hub.call("process_data", {"data": ["a", "2", "b"], "options": {"strict": True}})
    assert result.status == "error"
    assert [one["path"] for one in result.data["problems"]] == ["data[0]", "data[2]"]


def test_a_task_error_is_a_result_with_its_text_and_type(hub):
    result = hub.call("square_root", {"number": -4})
    assert result.status == "error"
    assert result.data == {"error": "-4 has no real square root", "type": "NoRealRootError"}


def test_a_task_error_is_not_logged_as_a_bug(hub, caplog):
    hub.call("square_root", {"number": -4})
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_bug_is_an_error_without_its_traceback(hub):
    result = hub.call("ratio", {"part": 1, "whole": 0})
    assert result.status == "error"
    assert result.data == {"error": "float division by zero", "type": "ZeroDivisionError"}


def test_a_bug_is_logged_with_its_traceback(hub, caplog):
    hub.call("ratio", {"part": 1, "whole": 0})
    (logged,) = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert "Traceback" in logged


def test_an_error_handler_answers_for_its_type_of_error(hub):
    result = hub.call("average", {"numbers": []})
    assert (result.status, result.message) == ("warning", "There are no numbers")
    assert result.data == {"average": None}


def test_a_handler_that_takes_too_long_is_an_error(hub):
    result = hub.call("count_slowly", {"to": 3})
    assert (result.status, result.data["timeout"]) == ("error", 0.2)


def test_an_unknown_action_is_an_error_that_lists_the_known_ones(hub):
    result = hub.call("cube_root", {"number": 8})
    assert (result.status, result.message) == ("error", "Action not found")
    assert "square_root" in result.data["available_actions"]


def test_a_refused_token_ends_the_provider_with_one_line(hub):
    environ = os.environ | {"HUB_GRPC_URL": hub.url, "PROVIDER_AUTH_TOKEN": "sample-wrong-token"}
    command = [sys.executable, EXAMPLES / "error_handling.py"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("is PROVIDER_AUTH_TOKEN right?")


def test_the_example_s_tasks_end_in_each_way(hub):
    statuses = statuses_of_tasks("error_handling", hub)
    assert statuses == ["success", "warning", *["error"] * 4, "warning", "error", "error"]
