"""The commands, as one types them: what they print, where, and what they end with."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.waiting import TIMEOUT, wait_for_line

from arbprov.cli import main
from arbprov.cli.dev import _Provider
from arbprov.cli.limits import _values
from arbprov.cli.options import summary
from arbprov.cli.reloading import FileWatch
from arbprov.outbox.spool import Spool
from arbprov.outbox.sqlite import read_spool
from arbprov.task import Status, Task, TaskResult
from arbprov.wire.messages import encode_result

PROVIDER = '''
import os
import sys
import time
from arbprov import ProviderApp, ProviderResponse

app = ProviderApp("typed", execution_timeout=20)

@app.action
@app.rate_limit("1/hour", key=("account.id", "payload.n"))
def square(n: int) -> dict:
    """Square a number."""
    return {"square": n * n}

@app.action(timeout=0.01)
def slow() -> dict:
    time.sleep(0.05)
    return {}

@app.action
def so_so() -> ProviderResponse:
    return ProviderResponse("warning", message="Only half of it")

@app.action
def fail() -> dict:
    return 1 / 0

@app.action
def linger() -> dict:
    print("lingering", file=sys.stderr, flush=True)
    while not os.path.exists("interrupted"):
        time.sleep(0.01)
    return {}

@app.action
def ask() -> dict:
    print("asking", file=sys.stderr, flush=True)
    return {"answer": sys.stdin.readline()}

if __name__ == "__main__":
    app.run()
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a provider in it, to be in."""
    (tmp_path / "typed.py").write_text(PROVIDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("typed", "other"):
        sys.modules.pop(name, None)


@pytest.fixture
def arbprov(folder):
    """Return what runs a command here."""
    return lambda *arguments, **options: CliRunner().invoke(main, arguments, **options)


@pytest.fixture
def start(folder):
    """Return what starts a command in a process of its own."""
    started = []

    def start(*arguments, **environ):
        process = subprocess.Popen(
            [sys.executable, "-m", "arbprov", *arguments],
            env=os.environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            # A second signal, so that whatever it still does or waits for is given up.
            process.terminate()
            process.terminate()


# What is typed


@pytest.mark.parametrize("command", [("invoke", "typed"), ("call",)])
def test_a_text_that_is_no_unicode_is_wrong_usage(arbprov, command):
    result = arbprov(*command, "square", r'{"n": "\ud800"}')
    assert result.exit_code == 2
    assert "n: a string with a lone surrogate is not Unicode text" in result.stderr


def test_a_file_may_begin_with_the_mark_of_utf_8(arbprov, folder):
    (folder / "payload.json").write_text('{"n": 3}', encoding="utf-8-sig")
    result = arbprov("invoke", "typed", "square", "@payload.json", "--account", '{"id": "a"}')
    assert json.loads(result.stdout) == {"square": 9}


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_call_waits_for_a_time_above_0(arbprov, seconds):
    result = arbprov("call", "square", "--timeout", seconds)
    assert result.exit_code == 2
    assert "is no number above 0" in result.stderr


def test_a_blank_token_is_wrong_usage(arbprov):
    result = arbprov("hub", "--token", " ")
    assert result.exit_code == 2
    assert "a blank text is no token" in result.stderr


# invoke


def test_invoke_prints_what_the_handler_returned(arbprov):
    result = arbprov("invoke", "typed", "square", '{"n": 3}', "--account", '{"id": "a"}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})


def test_invoke_prints_the_whole_envelope_as_json(arbprov):
    result = arbprov("invoke", "typed", "so_so", "--json")
    envelope = json.loads(result.stdout)
    assert (envelope["status"], envelope["data"]["provider"]) == ("warning", "typed")


def test_a_warning_is_told_on_stderr_and_is_no_failure(arbprov):
    result = arbprov("invoke", "typed", "so_so")
    assert (result.exit_code, result.stderr) == (0, "warning: Only half of it\n")


def test_an_error_is_a_failure(arbprov):
    result = arbprov("invoke", "typed", "square", '{"n": "3"}')
    assert (result.exit_code, result.stderr) == (
        1,
        "error: n: expected an integer, got a string\n",
    )


def test_invoke_shows_where_a_handler_has_failed(start):
    process = start("invoke", "typed", "fail")
    output, errors = process.communicate(timeout=20)
    assert json.loads(output)["type"] == "ZeroDivisionError"
    assert "in fail\n      return 1 / 0" in errors
    assert "dispatcher.py" not in errors


def test_invoke_keeps_to_the_timeout(arbprov):
    result = arbprov("invoke", "typed", "slow")
    assert "ran longer than its timeout of 0.01 s" in result.stderr


def test_invoke_shows_the_time_of_now(arbprov):
    envelope = json.loads(arbprov("invoke", "typed", "so_so", "--json").stdout)
    assert envelope["data"]["now_utc"] > "2026-11"


def test_a_payload_may_come_from_a_file(arbprov, folder):
    (folder / "payload.json").write_text('{"n": 4}')
    (folder / "account.json").write_text('{"id": "a"}')
    result = arbprov("invoke", "typed", "square", "@payload.json", "--account", "@account.json")
    assert json.loads(result.stdout) == {"square": 16}


def test_a_payload_may_come_from_stdin(arbprov):
    arguments = ("invoke", "typed", "square", "-", "--account", '{"id": "a"}')
    assert json.loads(arbprov(*arguments, input='{"n": 5}').stdout) == {"square": 25}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("{nope", "not JSON: Expecting property name enclosed in double quotes (character 1)"),
        ("[1]", "expected a JSON object, got an array"),
        ("@nowhere.json", "nowhere.json can't be read: No such file or directory"),
    ],
)
def test_a_payload_that_can_not_be_read_is_wrong_usage(arbprov, payload, message):
    result = arbprov("invoke", "typed", "square", payload)
    assert result.exit_code == 2
    assert message in result.stderr


# Which app


@pytest.mark.parametrize("target", ["typed", "typed:app", "typed.py", "./typed.py:app"])
def test_an_app_is_found(arbprov, target):
    assert arbprov("actions", target).exit_code == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "there is no module 'nowhere' here"),
        ("nowhere.py", "there is no file nowhere.py"),
        ("typed:nothing", "typed.nothing is no ProviderApp; there is 'app'"),
        ("other", "which app of other is meant? There is 'one' and 'two'; say it as other:NAME"),
        ("json", "which app of json is meant? There is none"),
        ("", "'' is no name of a module"),
        (".", "'.' is no name of a module, and no path of a .py file"),
        ("./typed", "'./typed' is no name of a module"),
        (":app", "'' is no name of a module"),
    ],
)
def test_an_app_that_is_not_found_is_wrong_usage(arbprov, folder, target, message):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\none, two = ProviderApp(), ProviderApp()\n"
    )
    result = arbprov("actions", target)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("name", "other"), [("queue", "queue.py"), ("sys", "one of Python itself")]
)
def test_a_file_whose_name_another_module_has_is_not_mixed_up_with_it(arbprov, folder, name, other):
    (folder / f"{name}.py").write_text(PROVIDER)
    result = arbprov("actions", f"{name}.py")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert f"{name}.py can't be imported, since another module is named {name!r}: " in message
    assert f"{other}; rename the file" in message


@pytest.mark.parametrize("command", ["actions", "run", "limits"])
def test_a_module_that_runs_its_app_when_it_is_imported_is_told_so(arbprov, folder, command):
    (folder / "other.py").write_text(PROVIDER.partition("if __name__")[0] + "app.run()\n")
    result = arbprov(command, "other", env={"PROVIDER_AUTH_TOKEN": "token"})
    assert result.exit_code == 78
    assert "the module other calls app.run() when it is imported; put that under" in result.stderr


def test_the_only_app_needs_no_name(arbprov, folder):
    (folder / "other.py").write_text("from arbprov import ProviderApp\none = ProviderApp()\n")
    assert arbprov("actions", "other").exit_code == 0


CLASS_BASED = """
from arbprov.compat import Provider

class Echo(Provider):
    def __init__(self):
        super().__init__(name="class-based")
        self.actions.register("echo", "Echo", {"text": str})(lambda text: {"text": text})
"""
DERIVED = CLASS_BASED + "class Other(Echo):\n    pass\n"
TWICE = DERIVED + "class Another(Echo):\n    pass\n"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (CLASS_BASED, "other"),
        (DERIVED, "other"),
        (TWICE, "other:Other"),
        (TWICE, "other:Echo"),
        (TWICE + "provider = Other()\n", "other"),
        (TWICE + "provider = Other()\n", "other:provider"),
        (TWICE + "provider = Other()\napp = provider.app\n", "other"),
    ],
)
def test_a_class_based_provider_is_found(arbprov, folder, source, target):
    (folder / "other.py").write_text(source)
    result = arbprov("invoke", target, "echo", '{"text": "hi"}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"text": "hi"})


def test_one_of_two_class_based_providers_has_to_be_named(arbprov, folder):
    (folder / "other.py").write_text(TWICE)
    result = arbprov("actions", "other")
    assert result.exit_code == 2
    assert "There is 'Another' and 'Other'" in " ".join(result.stderr.split())


@pytest.mark.parametrize("target", ["other", "other:Echo"])
def test_a_class_that_needs_arguments_is_wrong_usage(arbprov, folder, target):
    (folder / "other.py").write_text(CLASS_BASED.replace("(self)", "(self, zone)"))
    result = arbprov("actions", target)
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "other.Echo can't be made here, missing a required argument: 'zone'" in message
    assert "as in provider = Echo(...)" in message


def test_a_type_error_of_a_class_is_its_own(arbprov, folder):
    (folder / "other.py").write_text(CLASS_BASED.replace('"class-based"', "1 + ''"))
    result = arbprov("actions", "other")
    assert result.exit_code == 1
    assert "TypeError: unsupported operand" in result.stderr


def test_a_module_that_misses_another_says_which(arbprov, folder):
    (folder / "other.py").write_text("import not_installed\n")
    result = arbprov("actions", "other")
    assert result.exit_code == 1
    assert "No module named 'not_installed'" in result.stderr


def test_a_provider_that_misuses_arbprov_is_bad_configuration(arbprov, folder):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\napp = ProviderApp()\napp.rate_limit('1/month')(print)\n"
    )
    assert arbprov("actions", "other").exit_code == 78


def test_a_module_that_is_wrong_shows_its_own_lines_only(start, folder):
    (folder / "other.py").write_text("def broken():\n    return 1 / 0\nbroken()\n")
    _, errors = start("actions", "other").communicate(timeout=20)
    files = [line for line in errors.splitlines() if line.startswith("  File")]
    assert len(files) == 2
    assert "ZeroDivisionError" in errors


# actions


def test_actions_lists_parameters_limits_and_descriptions(arbprov):
    assert arbprov("actions", "typed").stdout == (
        "ask() -> dict\n"
        "fail() -> dict\n"
        "linger() -> dict\n"
        "slow() -> dict\n"
        "so_so() -> arbprov.task.ProviderResponse\n"
        "square(n: int) -> dict\n"
        "    Square a number.\n"
        "    at most 1/hour per account.id and payload.n\n"
    )


def test_actions_lists_types_that_are_written_as_texts(arbprov, folder):
    (folder / "other.py").write_text(
        "from __future__ import annotations\nfrom datetime import date\n"
        "from arbprov import ProviderApp\napp = ProviderApp()\n"
        "@app.action\ndef ask(when: date): ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask(when: datetime.date)\n"


def test_actions_lists_a_type_that_nobody_can_read_as_it_is_written(arbprov, folder):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\napp = ProviderApp()\n"
        "@app.action\ndef ask(n: int) -> 'Nowhere': ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask(n: int) -> 'Nowhere'\n"


@pytest.mark.parametrize("annotation", ["TaskContext", "'TaskContext'"])
def test_actions_lists_what_tasks_give_only(arbprov, folder, annotation):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp, TaskContext\napp = ProviderApp()\n"
        f"@app.action\ndef ask(n: int, ctx: {annotation}): ...\n"
    )
    assert arbprov("actions", "other").stdout == "ask(n: int)\n"


def test_actions_lists_nothing_of_arbprov_s_own(arbprov, folder):
    (folder / "other.py").write_text(CLASS_BASED.replace("lambda text:", "lambda text, **others:"))
    assert arbprov("actions", "other").stdout == "echo(*, payload, account, text)\n    Echo\n"


def test_actions_lists_for_machines(arbprov):
    square = json.loads(arbprov("actions", "typed", "--json").stdout)[-1]
    assert square == {
        "name": "square",
        "parameters": "(n: int) -> dict",
        "description": "Square a number.",
        "timeout": 20.0,
        "limits": ["1/hour per account.id and payload.n"],
    }


# run


def test_run_without_a_token_is_bad_configuration(arbprov, monkeypatch):
    monkeypatch.delenv("PROVIDER_AUTH_TOKEN", raising=False)
    result = arbprov("run", "typed")
    assert result.exit_code == 78
    assert result.stderr.startswith("Error: the hub's token is missing: set PROVIDER_AUTH_TOKEN")


def test_run_ends_when_the_hub_is_never_reached(start):
    environ = {"PROVIDER_AUTH_TOKEN": "t", "ARBPROV_START_TIMEOUT": "0.2"}
    process = start("run", "typed", "--hub-url", "127.0.0.1:1", **environ)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 69
    assert "Error: not reached within 0.2 s" in errors


def test_run_ends_when_the_token_is_refused(start, hub):
    process = start("run", "typed", HUB_GRPC_URL=hub.address, PROVIDER_AUTH_TOKEN="wrong-one")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 77
    assert "refuses the token of provider 'typed'" in errors
    assert "wrong-one" not in errors


def test_a_startup_hook_that_runs_out_of_time_is_told_with_its_traceback(start, folder, hub):
    hook = "\n@app.on_startup\ndef connect() -> None:\n    raise TimeoutError\n\nif"
    (folder / "typed.py").write_text(PROVIDER.replace("\nif", hook))
    process = start("run", "typed", HUB_GRPC_URL=hub.address, PROVIDER_AUTH_TOKEN=hub.token)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert ", in connect" in errors


@pytest.fixture
def token_file(folder, hub):
    path = folder / "token"
    path.write_text(hub.token + "\n")
    return str(path)


@pytest.fixture
def running(start, hub, token_file):
    """A provider at work, in a process of its own."""
    process = start("run", "typed", "--hub-url", hub.address, "--auth-token-file", token_file)
    wait_for_line(process, "connected to the hub")
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_run_finish_its_task_and_exit_with_0(running, hub, number):
    ticket = hub.put("ask")
    wait_for_line(running, "asking")
    running.send_signal(number)
    wait_for_line(running, "draining")
    running.stdin.write("yes\n")
    running.stdin.close()
    assert running.wait(TIMEOUT) == 0
    assert ticket.result().data == {"answer": "yes\n"}


def test_a_second_signal_ends_run_at_once(running, hub):
    hub.put("ask")
    wait_for_line(running, "asking")
    running.terminate()
    wait_for_line(running, "draining")
    running.terminate()
    assert running.wait(TIMEOUT) == 1


def test_a_stop_that_takes_too_long_ends_run_with_1(start, hub, token_file):
    process = start(
        *("run", "typed", "--hub-url", hub.address, "--auth-token-file", token_file),
        ARBPROV_DRAIN_TIMEOUT="1",
    )
    hub.put("ask")
    wait_for_line(process, "asking")
    process.terminate()
    wait_for_line(process, "Error: stopped after 1 s with 1 tasks unfinished")
    assert process.wait(TIMEOUT) == 1


def test_quiet_logs_warnings_only(start, hub, token_file):
    process = start("run", "typed", "-q", "--hub-url", hub.address, "--auth-token-file", token_file)
    hub.call("so_so")
    process.terminate()
    assert process.communicate(timeout=20)[1] == ""


def test_a_module_runs_by_itself_too(folder, hub):
    process = subprocess.Popen(
        [sys.executable, "typed.py"],
        env=os.environ | {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token},
    )
    try:
        assert hub.call("so_so").status == "warning"
    finally:
        process.terminate()
        assert process.wait(TIMEOUT) == 0


# hub and call


def test_hub_and_call_work_together(start, arbprov):
    hub = start("hub", "--address", "127.0.0.1:0", "--token", "shared", "--json")
    told = json.loads(hub.stdout.readline())
    environ = {"HUB_GRPC_URL": told["address"], "PROVIDER_AUTH_TOKEN": told["token"]}
    start("run", "typed", **environ)
    result = arbprov("call", "square", '{"n": 3}', "--account", '{"id": "a"}', env=environ)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})
    hub.send_signal(signal.SIGINT)
    assert hub.wait(TIMEOUT) == 0


def test_a_hub_says_where_it_listens(start):
    hub = start("hub", "--address", "127.0.0.1:0")
    wait_for_line(hub, "The hub listens on 127.0.0.1:")
    hub.terminate()
    assert hub.wait(TIMEOUT) == 0


def test_a_hub_beyond_this_machine_is_bad_configuration(arbprov):
    assert arbprov("hub", "--address", "0.0.0.0:50051").exit_code == 78


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--token", "wrong"), 77, "refuses the token"),
        (("--timeout", "0.05"), 1, "no result of action 'square' within 0.05 s"),
        (("--hub-url", "127.0.0.1:1"), 69, "UNAVAILABLE"),
    ],
)
def test_a_call_that_fails_says_why(arbprov, hub, arguments, code, message):
    environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
    result = arbprov("call", "square", *arguments, env=environ)
    assert result.exit_code == code
    assert message in result.stderr


# dev


def test_dev_runs_the_tasks_of_a_file(start, folder):
    lines = [{"action": "so_so"}, {"action": "nope"}, {"action": "square", "payload": {"n": 1}}]
    (folder / "tasks.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert sorted(line[6:].split()[:3] for line in output.splitlines()) == [
        ["-1", "so_so", "warning"],
        ["-2", "nope", "error"],
        ["-3", "square", "error"],
    ]


def test_dev_has_one_worker_whatever_the_environment_says(start, folder):
    # With two, it would be refused for its limit in memory.
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_WORKERS="2")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_dev_prints_envelopes_for_machines(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    output, _ = start("dev", "typed", "--tasks", "tasks.jsonl", "--json").communicate(timeout=30)
    assert json.loads(output)["message"] == "Only half of it"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nope", "line 2: not JSON"),
        ("{}", 'line 2: a task needs its action, as in {"action": "greet", "payload": {}}'),
        ('{"action": "a", "data": {}}', "line 2: a task has no 'data'; it may have account, ac"),
        (r'{"action": "\ud800"}', "line 2: action: a string with a lone surrogate"),
    ],
)
def test_a_task_that_can_not_be_read_is_wrong_usage(arbprov, folder, line, message):
    (folder / "tasks.jsonl").write_text(f'{{"action": "so_so"}}\n{line}\n')
    result = arbprov("dev", "typed", "--tasks", "tasks.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr


def test_dev_leaves_the_spool_alone(start, folder, spool):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_SPOOL=str(spool))
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert [entry.state for entry in read_spool(spool)] == ["started", "pending", "dead"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_dev_prints_what_tasks_end_with_that_an_interruption_finds_at_work(start, folder, number):
    (folder / "tasks.jsonl").write_text('{"action": "linger"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    wait_for_line(process, "lingering")
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    Path("interrupted").touch()
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output.split()[1:]) == (0, ["linger", "success", "{}"]), errors


def test_dev_says_how_many_tasks_an_interruption_leaves_without_a_result(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "slow"}\n' * 100)
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_CONCURRENCY="1")
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    others, errors = process.communicate(timeout=30)
    left = 100 - len((first + others).splitlines())
    assert (process.returncode, left > 0) == (1, True)
    assert f"Error: interrupted, and {left} tasks have no result" in errors


def test_a_second_signal_to_dev_waits_for_no_task(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "linger"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    wait_for_line(process, "lingering")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    assert process.wait(TIMEOUT) == 1


def test_dev_ends_when_the_provider_does_before_its_tasks(start, folder):
    (folder / "typed.py").write_text("from arbprov import ProviderApp\n")
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the provider has ended, and 1 tasks have no result" in errors


def test_dev_starts_the_provider_again_when_its_file_changes(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")
    (folder / "typed.py").write_text(PROVIDER + "\nprint('changed', file=sys.stderr)\n")
    wait_for_line(process, "typed.py has changed, starting again")
    wait_for_line(process, "changed")
    wait_for_line(process, "connected to the hub")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0


def mend_once_it_waits(process, folder):
    """Have dev's provider be as it should again, see it work, and end dev."""
    wait_for_line(process, "The provider has ended; waiting for a change.")
    (folder / "typed.py").write_text(PROVIDER)
    wait_for_line(process, "connected to the hub")
    process.terminate()
    assert process.wait(TIMEOUT) == 0


def test_dev_waits_for_a_provider_that_can_not_start_to_be_mended(start, folder):
    (folder / "typed.py").write_text("nope")
    mend_once_it_waits(start("dev", "typed", "--address", "127.0.0.1:0"), folder)


def test_dev_waits_when_a_save_leaves_no_app_for_now(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")
    (folder / "typed.py").write_text("")
    mend_once_it_waits(process, folder)


def test_dev_ends_when_no_app_is_there_from_the_start(start, folder):
    process = start("dev", "nowhere", "--address", "127.0.0.1:0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "there is no module 'nowhere' here" in errors


def test_dev_without_reload_ends_with_the_provider(start, folder):
    (folder / "typed.py").write_text("nope")
    process = start("dev", "typed", "--address", "127.0.0.1:0", "--no-reload")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Error: the provider has ended" in errors


def test_a_second_signal_to_dev_ends_its_provider_too(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "The hub listens on 127.0.0.1:")
    address = None
    while address is None:
        line = process.stderr.readline()
        address = line.rpartition(" ")[2].strip() if "works for the hub" in line else None
    caller = start("call", "ask", "--hub-url", address, "--timeout", "20")
    wait_for_line(process, "asking")
    process.terminate()
    wait_for_line(process, "draining")
    process.terminate()
    # Its provider writes to the same stderr, so the end of that is the end of both.
    assert "Traceback" not in process.stderr.read()
    assert process.wait(TIMEOUT) == 1
    assert caller.wait(TIMEOUT) == 69


def test_dev_ends_when_there_is_no_such_module(start):
    process = start("dev", "wether", "--address", "127.0.0.1:0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "there is no module 'wether' here" in errors


def test_dev_has_the_provider_work_for_its_hub_whatever_the_app_says(start, folder):
    text = PROVIDER.replace('"typed",', '"typed", hub_url="192.0.2.1:1", auth_token="theirs",')
    (folder / "typed.py").write_text(text)
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")


# Changes of files


def test_a_file_that_is_written_has_changed(tmp_path):
    (tmp_path / "a.py").write_text("1")
    watch = FileWatch(tmp_path)
    os.utime(tmp_path / "a.py", (1, 1))
    assert watch.changed() == tmp_path / "a.py"


def test_a_change_is_told_once(tmp_path):
    watch = FileWatch(tmp_path)
    (tmp_path / "a.py").write_text("1")
    assert [watch.changed(), watch.changed()] == [tmp_path / "a.py", None]


def test_a_file_that_is_removed_has_changed(tmp_path):
    (tmp_path / "a.py").write_text("1")
    watch = FileWatch(tmp_path)
    (tmp_path / "a.py").unlink()
    assert watch.changed() == tmp_path / "a.py"


def test_a_file_that_is_gone_by_now_is_not_watched(tmp_path):
    watch = FileWatch(tmp_path)
    (tmp_path / "a.py").symlink_to(tmp_path / "nowhere")
    assert watch.changed() is None


@pytest.mark.parametrize("name", ["a.txt", ".venv/a.py", "__pycache__/a.py", "node_modules/a.py"])
def test_other_files_are_not_watched(tmp_path, name):
    watch = FileWatch(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1")
    assert watch.changed() is None


# All of them


@pytest.mark.parametrize("command", ["run", "dev", "hub", "call", "invoke", "actions"])
def test_every_command_has_help(arbprov, command):
    result = arbprov(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_help_tells_the_exit_codes(arbprov):
    assert "69 hub never reached, 77 token refused" in " ".join(arbprov("-h").stdout.split())


def test_the_version_is_told(arbprov):
    assert arbprov("--version").stdout == "arbprov 0.1.0\n"


def test_a_reader_that_has_enough_is_no_traceback(folder):
    # More than a pipe holds, so that it is still writing when nobody reads any more.
    names = [f"one_of_the_actions_whose_names_fill_the_pipe_{n}" for n in range(2000)]
    many = "\n".join(f"@app.action\ndef {name}(): ..." for name in names)
    Path("other.py").write_text(f"from arbprov import ProviderApp\napp = ProviderApp()\n{many}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "arbprov", "actions", "other"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(TIMEOUT) == 1
    process.stderr.close()


def test_most_commands_load_no_grpc(folder):
    code = (
        "import sys; from arbprov.cli import main;"
        "main(['actions', 'typed'], standalone_mode=False); assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# Texts


@pytest.mark.parametrize(
    ("status", "message", "data", "line"),
    [
        ("success", "fine", {"city": "Zürich"}, '{"city": "Zürich"}'),
        ("warning", "half", {"rows": 1}, "half"),
        ("error", "a: b", {"error": "a: b"}, "a: b"),
        ("limit", "Over", {"wait_time": 59.97, "limit": "2/m"}, "Over: 2/m, wait 60 s"),
        ("limit", "Over", {"wait_time": 30.0, "limit": None}, "Over: wait 30 s"),
        (
            "limit",
            "Over",
            {"wait_time": 538912.25, "limit": "1/week"},
            "Over: 1/week, wait 538912 s",
        ),
        ("limit", "Over", [], "Over"),
    ],
)
def test_one_line_tells_how_a_task_ended(status, message, data, line):
    assert summary(status, message, data) == line


def test_a_provider_that_does_not_end_is_killed(tmp_path):
    ready = tmp_path / "ready"
    code = (
        "import signal, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "pathlib.Path(sys.argv[1]).mkdir(); signal.pause()"
    )
    with _Provider([sys.executable, "-c", code, str(ready)], 0.1) as provider:
        while not ready.exists():
            assert not provider.has_ended
    assert provider.has_ended


# outbox


@pytest.fixture
def spool(folder):
    """A spool with a task in each state."""
    result = encode_result(
        TaskResult(
            Task("task-3", "square", account=b'{"key": "hunter22"}'),
            Status.SUCCESS,
            "fine",
            {},
            body='{"status": "success", "message": "fine", "data": {"response": {"n": 9}}}',
        ),
        "typed",
    )

    async def fill():
        spool = Spool(folder / "spool")
        for number in "123":
            await spool.begin(Task(f"task-{number}", "square", b"{}", b'{"key": "hunter22"}'))
        await spool.finish("task-2", b"x" * 1000)
        await spool.finish("task-3", result)
        spool.mark_refused("task-3", result, "PERMISSION_DENIED, not\nyours")
        await spool.close()

    asyncio.run(fill())
    return folder / "spool"


def test_outbox_lists_what_a_spool_holds(arbprov, spool):
    result = arbprov("outbox", str(spool))
    rows = [line.split(maxsplit=4) for line in result.stdout.splitlines()]
    assert rows[0] == ["state", "id", "action", "bytes", "at                         reason"]
    assert [row[:3] for row in rows[1:]] == [
        ["started", "task-1", "square"],
        ["pending", "task-2", "square"],
        ["dead", "task-3", "square"],
    ]
    assert result.stdout.endswith("PERMISSION_DENIED, not\\nyours\n")
    assert result.stderr == "1 started, 1 pending, 1 dead\n"


def test_outbox_finds_the_spool_of_the_environment(arbprov, spool):
    result = arbprov("outbox", "--json", env={"ARBPROV_SPOOL": str(spool)})
    assert [row["state"] for row in json.loads(result.stdout)] == ["started", "pending", "dead"]


def test_outbox_shows_a_refused_result_to_machines(arbprov, spool):
    row = json.loads(arbprov("outbox", str(spool), "--json").stdout)[2]
    assert row.pop("at").endswith("+00:00")
    assert row.pop("bytes") > 50
    assert row == {
        "state": "dead",
        "id": "task-3",
        "action": "square",
        "reason": "PERMISSION_DENIED, not\nyours",
        "result": {"status": "success", "message": "fine", "data": {"response": {"n": 9}}},
    }


def test_outbox_shows_nothing_of_an_account(arbprov, spool):
    for options in ([], ["--json"]):
        assert "hunter22" not in arbprov("outbox", str(spool), *options).output


def test_outbox_drops_dead_results_and_nothing_else(arbprov, spool):
    dropped = arbprov("outbox", str(spool), *(f"--drop=task-{n}" for n in "123"))
    assert dropped.stderr == "1 dropped\n"
    assert arbprov("outbox", str(spool)).stderr == "1 started, 1 pending, 0 dead\n"


def test_outbox_lists_and_drops_what_is_in_the_spools_of_workers_too(arbprov, spool):
    for name in ("spool.1", "spool.10", "spool.old"):
        shutil.copyfile(spool, spool.with_name(name))
    assert arbprov("outbox", str(spool)).stderr == "3 started, 3 pending, 3 dead\n"
    spool.unlink()
    assert arbprov("outbox", str(spool), "--drop=task-3").stderr == "2 dropped\n"


def test_outbox_of_an_empty_spool_prints_no_table(arbprov, folder):
    asyncio.run(Spool(folder / "spool").close())
    result = arbprov("outbox", "spool")
    assert (result.stdout, result.stderr) == ("", "0 started, 0 pending, 0 dead\n")


def test_outbox_without_a_spool_is_wrong_usage(arbprov):
    result = arbprov("outbox", env={"ARBPROV_SPOOL": None})
    assert result.exit_code == 2
    assert "which spool? Give its PATH, or set ARBPROV_SPOOL" in result.stderr


def test_outbox_of_a_spool_that_is_not_there_is_a_bad_configuration(arbprov):
    result = arbprov("outbox", "nowhere")
    assert (result.exit_code, result.stderr[:25]) == (78, "Error: there is no spool ")


# limits

LIMITED = """
from arbprov import Blueprint, ProviderApp, RateLimitMonitor

class Closed(RateLimitMonitor):
    def check_rate_limits(self):
        return {"rate_limited": True, "wait_time": 90}

app = ProviderApp("limited", rate_limit="50/second")

@app.action
@app.rate_limit("1000/hour", key="account.api_key")
@app.rate_limit("5/second", key=("account.id", "payload.region"), shadow=True)
def campaigns() -> dict:
    return {}

@app.action(rate_limit_monitor=Closed())
@app.rate_limit(lambda call: "5/second", name="vendor")
def other() -> dict:
    return {}

free = ProviderApp("free")
"""


@pytest.fixture
def limits(arbprov, folder):
    """Return what shows the limits of a provider."""
    (folder / "other.py").write_text(LIMITED)
    return lambda *options, target="other:app": arbprov("limits", target, *options)


def test_limits_lists_what_is_left_of_each(limits):
    result = limits()
    assert result.stdout.splitlines() == [
        "ACTION     LIMIT              SCOPE             KEY                            LEFT  WAIT",
        "campaigns  50/second          app               -                              50",
        "campaigns  5/second (shadow)  action:campaigns  account.id and payload.region  -",
        "campaigns  1000/hour          action:campaigns  account.api_key                -",
        "other      50/second          app               -                              50",
        "other      other.<lambda>     name:vendor       -                              -",
        "other      Closed             action:other      -                              -     90 s",
    ]


def test_limits_says_which_keys_it_needs(limits):
    assert limits("--action", "campaigns").stderr == (
        "for what is left by 'account.api_key' and 'account.id and payload.region', say whose, "
        "with --key\n"
    )


def test_limits_shows_the_headroom_of_a_key(limits):
    result = limits("--json", "--key", "account.id=1", "--key", "payload.region=eu")
    left = {one["limit"]: one["remaining"] for one in json.loads(result.stdout)}
    assert (left["5/second"], left["1000/hour"]) == (5, None)


def test_limits_reads_a_secret_key_from_a_file(limits, folder):
    (folder / "key.txt").write_text("sample-key\n")
    result = limits("--json", "--key", "account.api_key=@key.txt")
    left = {one["limit"]: one["remaining"] for one in json.loads(result.stdout)}
    assert left["1000/hour"] == 1000


def test_limits_as_json_says_all_there_is_to_one(limits):
    assert json.loads(limits("--json", "--action", "other").stdout)[-1] == {
        "action": "other",
        "limit": "Closed",
        "scope": "action:other",
        "key": "",
        "shadow": False,
        "remaining": None,
        "wait_time": 90.0,
    }


def test_limits_of_one_action_are_its_own(limits):
    lines = limits("--action", "other").stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ACTION", "other"}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("42", 42),
        ('"42"', "42"),
        ("4.5", 4.5),
        ("true", True),
        ("eu", "eu"),
        ("a=b", "a=b"),
        ("null", "null"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_a_key_is_read_as_json_if_it_is_a_number_or_a_text(typed, value):
    assert _values(None, None, (f"account.id={typed}",)) == {"account.id": value}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--action", "play"], "there is no action 'play'; there is 'campaigns' and 'other'"),
        (["--key", "account.id"], "'account.id' is no PATH=VALUE, such as account.id=42"),
        (["--key", "account.id=@no"], "no can't be read: No such file or directory"),
        (
            ["--action", "campaigns", "--key", "account.name=x"],
            "no limit is counted by 'account.name', but by 'account.api_key', 'account.id' and",
        ),
        (
            ["--action", "other", "--key", "account.id=x"],
            "no limit is counted by 'account.id', but by nothing",
        ),
    ],
    ids=str,
)
def test_limits_says_what_was_typed_wrong(limits, options, message):
    result = limits(*options)
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True)


def test_limits_of_no_actions_are_none(limits):
    assert limits("--json", target="other:free").stdout == "[]\n"


def test_there_is_no_action_where_there_is_none(limits):
    assert (
        "there is no action 'x'; there is none"
        in limits("--action", "x", target="other:free").stderr
    )
