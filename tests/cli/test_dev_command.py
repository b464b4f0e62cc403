"""`arbprov dev`: tasks from a file, reloading, interruptions."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import PROVIDER
from support.waiting import TIMEOUT, wait_for_line

from arbprov.cli import main
from arbprov.cli.dev import _Provider
from arbprov.cli.dev_hub import running_dev_hub
from arbprov.outbox.sqlite import read_spool


def test_the_tasks_of_a_file_are_run(start, folder):
    lines = [{"action": "so_so"}, {"action": "squere"}, {"action": "square", "payload": {"n": 1}}]
    (folder / "tasks.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    output, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert sorted(line[6:].split()[:3] for line in output.splitlines()) == [
        ["-1", "so_so", "warning"],
        ["-2", "squere", "error"],
        ["-3", "square", "error"],
    ]
    assert "Action not found; did you mean 'square'?" in output


def test_there_is_one_worker_whatever_the_environment_says(start, folder):
    # Two workers would refuse the limit in memory.
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_WORKERS="2")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors


def test_envelopes_are_printed_as_json(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", "--json")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert json.loads(output)["message"] == "Only half of it"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nope", "line 2: not JSON"),
        ("nope", 'write each task on a line, as in {"action": "greet", "payload": {}}'),
        ("{}", "line 2: a task needs its action"),
        ('{"action": "a", "id": 5}', "line 2: id: expected a text that no other task has"),
        ('{"action": "a", "id": ""}', "line 2: id: expected a text that no other task has"),
        ('{"action": "a", "id": "1"}', "line 2: id: expected a text that no other task has"),
        (
            '{"action": "a", "data": {}}',
            "line 2: a task has no field 'data'; its fields are account, ac",
        ),
        (r'{"action": "\ud800"}', "line 2: action: a string with a lone surrogate"),
    ],
)
def test_a_line_that_is_not_a_task_is_wrong_usage(arbprov, folder, line, message):
    (folder / "tasks.jsonl").write_text(f'{{"action": "so_so", "id": "1"}}\n{line}\n')
    result = arbprov("dev", "typed", "--tasks", "tasks.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_of_tasks_may_begin_with_a_byte_order_mark(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}', "utf-8-sig")
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert output.split()[1:3] == ["so_so", "warning"]


def test_a_file_without_tasks_says_so(start, folder):
    (folder / "tasks.jsonl").write_text("\n")
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert "the file has no tasks\n" in errors


def test_the_spool_is_not_used(start, folder, spool):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_SPOOL=str(spool))
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert [entry.state for entry in read_spool(spool)] == ["started", "pending", "dead"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interruption_lets_running_tasks_finish_and_prints_their_results(start, folder, number):
    (folder / "tasks.jsonl").write_text('{"action": "linger"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    wait_for_line(process, "lingering")
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    Path("interrupted").touch()
    output, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, output.split()[1:]) == (0, ["linger", "success", "{}"]), errors


def test_an_interruption_prints_how_many_tasks_have_no_result(start, folder):
    # They take 100 s: a busy machine must not finish them before the signal arrives.
    count = 2_000
    (folder / "tasks.jsonl").write_text('{"action": "slow"}\n' * count)
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_CONCURRENCY="1")
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    # `communicate` would not see what `readline` has read beyond the line.
    others, errors = process.stdout.read(), process.stderr.read()
    left = count - len((first + others).splitlines())
    assert (process.wait(TIMEOUT), left > 0) == (1, True)
    assert f"Error: interrupted, and {left} tasks have no result" in errors


def test_a_second_signal_does_not_wait_for_tasks(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "linger"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    wait_for_line(process, "lingering")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    assert process.wait(TIMEOUT) == 1


def test_dev_ends_with_a_provider_that_ends_before_its_tasks(start, folder):
    (folder / "typed.py").write_text("raise OSError\n")
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, errors
    assert "the provider has ended, and 1 task has no result" in errors


@pytest.mark.parametrize("options", [("--address", "127.0.0.1:0"), ("--tasks", "tasks.jsonl")])
def test_a_module_without_an_app_is_wrong_usage_of_dev(start, folder, options):
    (folder / "typed.py").write_text("from arbprov import ProviderApp\n")
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", *options)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2, errors
    assert "Usage: arbprov dev [OPTIONS] MODULE[:APP]" in errors
    assert "typed has no ProviderApp" in errors


def test_the_provider_is_restarted_when_its_file_changes(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")
    (folder / "typed.py").write_text(PROVIDER + "\nprint('changed', file=sys.stderr)\n")
    wait_for_line(process, "typed.py has changed, restarting")
    wait_for_line(process, "changed")
    wait_for_line(process, "connected to the hub")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0


def test_a_restart_and_an_interruption_do_not_speak_of_signals(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")
    (folder / "typed.py").write_text(PROVIDER + "\n")
    restarting = wait_for_line(process, "connected to the hub")
    process.send_signal(signal.SIGINT)
    _, ending = process.communicate(timeout=TIMEOUT)
    assert "has stopped" in restarting
    assert "has stopped" in ending
    assert "SIG" not in restarting + ending
    assert "Ctrl-C" not in restarting


def test_an_interruption_says_how_not_to_wait_for_a_file_s_tasks(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "linger"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    wait_for_line(process, "lingering")
    process.send_signal(signal.SIGINT)
    wait_for_line(process, "Ctrl-C again ends it now")
    Path("interrupted").touch()
    _, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, "Ctrl-C" in errors) == (0, False)


def fix_provider(process, folder):
    """Wait until `dev` waits for a change, fix the provider, wait until it runs, and end `dev`."""
    wait_for_line(process, "The provider has ended; waiting for a change.")
    (folder / "typed.py").write_text(PROVIDER)
    wait_for_line(process, "connected to the hub")
    process.terminate()
    assert process.wait(TIMEOUT) == 0


def test_dev_waits_for_a_fix_of_a_provider_that_can_not_start(start, folder):
    (folder / "typed.py").write_text("nope")
    fix_provider(start("dev", "typed", "--address", "127.0.0.1:0"), folder)


def test_dev_waits_for_a_fix_after_a_change_that_removes_the_app(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")
    (folder / "typed.py").write_text("")
    fix_provider(process, folder)


@pytest.mark.parametrize("options", ["--no-reload", "--tasks=tasks.jsonl"])
def test_dev_names_the_signal_that_killed_the_provider(start, folder, options):
    (folder / "typed.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--address", "127.0.0.1:0", options)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "Error: the provider was killed by SIGSEGV" in errors


def test_dev_ends_if_there_is_no_such_app_at_the_start(start, folder):
    process = start("dev", "nowhere", "--address", "127.0.0.1:0")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2, errors
    assert "there is no module 'nowhere' in this folder" in errors


def test_dev_without_reload_ends_with_the_provider(start, folder):
    (folder / "typed.py").write_text("nope")
    process = start("dev", "typed", "--address", "127.0.0.1:0", "--no-reload")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, errors
    assert "Error: the provider has ended" in errors


def test_a_second_signal_ends_the_provider_too(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "The hub listens on 127.0.0.1:")
    address = None
    while address is None:
        line = process.stderr.readline()
        address = line.rpartition(" ")[2].strip() if "starts for the hub" in line else None
    caller = start("call", "ask", "--hub-url", address, "--timeout", "20")
    wait_for_line(process, "asking")
    process.terminate()
    wait_for_line(process, "The provider finishes its running tasks; Ctrl-C again ends it now.")
    process.terminate()
    # The provider writes to the same stderr, which is closed when both have ended.
    assert "Traceback" not in process.stderr.read()
    assert process.wait(TIMEOUT) == 1
    assert caller.wait(TIMEOUT) == 69


def test_dev_ends_if_there_is_no_such_module(start):
    process = start("dev", "wether", "--address", "127.0.0.1:0")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2, errors
    assert "there is no module 'wether' in this folder" in errors


def test_the_provider_uses_the_bundled_hub_whatever_its_app_says(start, folder):
    text = PROVIDER.replace('"typed",', '"typed", hub_url="192.0.2.1:1", auth_token="theirs",')
    (folder / "typed.py").write_text(text)
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")


def test_a_provider_that_does_not_end_in_time_is_killed(tmp_path):
    ready = tmp_path / "ready"
    code = (
        "import signal, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "pathlib.Path(sys.argv[1]).mkdir(); signal.pause()"
    )
    with _Provider([sys.executable, "-c", code, str(ready)], 0.1) as provider:
        while not ready.exists():
            assert not provider.has_ended
    assert provider.has_ended


WEATHER = """
import logging
from arbprov import ProviderApp, TaskContext
log = logging.getLogger(__name__)
app = ProviderApp("weather")

@app.action
@app.rate_limit("5/second")
def forecast(city: str, days: int = 3) -> dict:
    log.info("asking for %s", city)
    print("printed")
    return {"city": city * days}

@app.action
def broken(ctx: TaskContext) -> dict:
    ctx.logger.warning("soon")
    raise KeyError("k")
"""
DEV = ("dev", "weather.py", "--address", "127.0.0.1:0")


@pytest.fixture
def weather(folder):
    (folder / "weather.py").write_text(WEATHER)
    return folder / "weather.py"


def read_until(process, text):
    """Return the lines of a process's stderr up to the line with `text`."""
    lines = [process.stderr.readline()]
    while text not in lines[-1]:
        assert lines[-1], f"the process has ended without a line with {text!r}"
        lines.append(process.stderr.readline())
    return "".join(lines)


def test_dev_shows_actions_limits_and_a_call_and_each_task_with_its_reason(start, weather):
    process = start(*DEV)
    shown = read_until(process, "connected to the hub")
    assert "Provider weather has 2 actions:\n  broken()\n" in shown
    assert "  forecast(city: str, days: int = 3)  at most 5/second\n" in shown
    (call,) = [line.strip() for line in shown.splitlines() if "arbprov call" in line]
    assert call.startswith('arbprov call forecast \'{"city": "city"}\' --hub-url grpc://127')
    caller = start(*shlex.split(call)[1:])
    assert json.loads(caller.communicate(timeout=TIMEOUT)[0]) == {"city": "citycitycity"}
    assert "  weather: asking for city\n" in read_until(process, "success")
    start("call", "broken", *shlex.split(call)[-2:])
    shown = read_until(process, "KeyError")
    assert "  WARNING broken: soon\n" in shown
    assert re.search(r"\d\d:\d\d:\d\d  broken    error +\d+\.\d ms  weather.py:17\n", shown)
    assert "Traceback" not in shown
    with weather.open("a") as file:
        file.write("\n# changed\n")
    assert "Provider weather has 2 actions: broken, forecast\n" in read_until(process, "2 actions")


def test_a_traceback_can_be_shown(start, weather, folder):
    (folder / "tasks.jsonl").write_text('{"action": "broken"}')
    process = start("dev", "weather.py", "--tasks", "tasks.jsonl", "--traceback")
    output, errors = process.communicate(timeout=TIMEOUT)
    assert output.split()[1:] == ["broken", "error", "KeyError:", "'k'"]
    assert "of action broken failed at weather.py:17\n  Traceback (most recent" in errors
    assert '      raise KeyError("k")\n  KeyError: ' in errors


def test_tasks_end_with_a_summary_and_no_line_is_wider_than_the_terminal(start, weather, folder):
    lines = [
        {"action": "forecast", "payload": {"city": "Paris", "days": 100}},
        {"action": "forecast", "payload": {"city": ["Paris"] * 100, "days": "three"}},
        {"action": "forecast", "payload": {}},
    ]
    (folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    process = start("dev", "weather.py", "--tasks", "tasks.jsonl", COLUMNS="80")
    output, errors = process.communicate(timeout=TIMEOUT)
    assert len(output.splitlines()) == 3, output
    assert max(map(len, [*output.splitlines(), *errors.splitlines()])) <= 80
    assert "printed" in errors
    assert "            days: expected an integer, got a string\n" in errors
    assert re.search(r"^3 tasks in .* s: 1 success, 2 error$", errors, re.MULTILINE)


def test_the_whole_results_are_printed_as_json(start, weather, folder):
    task = {"action": "forecast", "payload": {"city": "Paris", "days": 100}}
    (folder / "tasks.jsonl").write_text(json.dumps(task))
    process = start("dev", "weather.py", "--tasks", "tasks.jsonl", "--json")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert json.loads(output)["data"]["response"] == {"city": "Paris" * 100}


@pytest.mark.parametrize(
    ("environ", "is_colored"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_a_pipe_has_colors_only_if_they_are_forced(start, weather, folder, environ, is_colored):
    (folder / "tasks.jsonl").write_text('{"action": "broken"}')
    process = start("dev", "weather.py", "--tasks", "tasks.jsonl", **environ)
    output, errors = process.communicate(timeout=TIMEOUT)
    assert ("\033[31merror\033[0m" in output, "\033[" in errors) == (is_colored, is_colored)


def test_tasks_are_run_with_a_closed_stderr(folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    command = f"{sys.executable} -m arbprov dev typed --tasks tasks.jsonl --json 2>&-"
    output = subprocess.check_output(command, shell=True, timeout=TIMEOUT)
    assert json.loads(output)["message"] == "Only half of it"


def test_a_task_over_a_limit_waits_at_the_hub_of_dev(start, weather):
    weather.write_text(WEATHER.replace("5/second", "1/hour"))
    process = start(*DEV)
    shown = read_until(process, "connected to the hub")
    (call,) = [shlex.split(line)[1:] for line in shown.splitlines() if "arbprov call" in line]
    assert start(*call).wait(TIMEOUT) == 0
    caller = start(*call, "--timeout", "1")
    _, errors = caller.communicate(timeout=TIMEOUT)
    assert "limit 1/hour holds back the tasks of its action and account" in errors


def test_tasks_of_a_file_need_no_token_and_no_state_folder(start, folder, state_folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_HUB_STORE="sqlite:no.sqlite")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert output.split()[1:3] == ["so_so", "warning"]
    assert not state_folder.exists()
    assert not (folder / "no.sqlite").exists()


def test_after_the_tasks_of_a_file_a_line_says_how_to_get_the_page(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert errors.endswith("To see tasks in a browser: arbprov dev typed\n")


def test_dev_may_keep_nothing(start, folder, state_folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0", "--memory")
    wait_for_line(process, "It keeps its tasks in memory, until it ends.")
    wait_for_line(process, "connected to the hub")
    assert [path.name for path in state_folder.iterdir()] == ["hub-token"]


def test_a_task_that_waits_at_the_end_of_dev_runs_after_its_next_start(start, folder):
    with running_dev_hub("typed") as hub:
        hub.put("so_so", id="t1")
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "so_so")


def test_a_stream_that_is_not_a_file_stays_as_it_is(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    main.callback()
