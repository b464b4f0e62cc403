"""`arbprov call`: one task, and the tasks of a file, through a hub."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from support.waiting import TIMEOUT, wait_for_line, wait_until

from arbprov import HubConnectionError, ProviderApp, ProviderError, ProviderResponse
from arbprov.cli import remote_tasks
from arbprov.cli.remote_tasks import RemoteTasks
from arbprov.localhub import LocalHubClient
from arbprov.localhub.tasks import TaskFilter


@pytest.fixture
def environ(hub):
    return {"HUB_GRPC_URL": hub.address, "ARBPROV_HUB_TOKEN": hub.token}


@pytest.fixture
def call(arbprov, environ):
    """Return a function that runs `arbprov call` for the hub."""
    return lambda *arguments, **options: arbprov("call", *arguments, env=environ, **options)


@pytest.fixture
def provider(serve):
    """A provider that works for the hub."""
    app = ProviderApp("typed")

    @app.action
    def square(n: int) -> dict:
        return {"square": n * n}

    @app.action
    def so_so() -> ProviderResponse:
        return ProviderResponse("warning", message="Only half of it")

    serve(app)


LONG = ("--timeout", str(TIMEOUT))


@pytest.mark.usefixtures("provider")
def test_a_result_is_printed(call):
    result = call("square", '{"n": 3}', "--account", '{"id": "a"}', *LONG)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"square": 9})


@pytest.mark.usefixtures("provider")
def test_an_envelope_is_printed_as_json(call):
    result = call("square", '{"n": 3}', "--json", *LONG)
    assert json.loads(result.stdout)["data"]["response"] == {"square": 9}


@pytest.mark.usefixtures("provider")
def test_an_action_that_does_not_exist_has_a_suggestion(call):
    result = call("squere", *LONG)
    assert (result.exit_code, result.stderr) == (
        1,
        "error: Action not found; did you mean 'square'?\n",
    )


@pytest.mark.usefixtures("provider")
def test_a_second_call_with_the_same_key_gets_the_first_result(call, hub):
    first = call("square", '{"n": 3}', "--idempotency-key", "k", *LONG)
    second = call("square", '{"n": 4}', "--idempotency-key", "k", *LONG)
    assert json.loads(first.stdout) == json.loads(second.stdout) == {"square": 9}
    assert len(hub.submissions) == 1


def test_a_call_that_does_not_wait_prints_the_id(call, hub, serve):
    task_id = call("square", '{"n": 3}', "--no-wait").stdout.strip()
    assert json.loads(call("square", "--no-wait", "--json").stdout)["id"] != task_id
    app = ProviderApp("typed")
    app.action("square")(lambda n=1: n)
    serve(app)
    wait_until(lambda: task_id in {submission.id for submission in hub.submissions})


def test_priority_and_provider_are_those_of_the_task(call, hub, serve):
    ran = []
    for priority in ("1", "5", "3"):
        call("note", json.dumps({"n": priority}), "--priority", priority, "--no-wait")
    call("note", '{"n": "other"}', "--provider", "other", "--priority", "9", "--no-wait")
    app = ProviderApp("typed", concurrency=1)

    @app.action
    def note(n: str) -> None:
        ran.append(n)

    serve(app)
    wait_until(lambda: len(ran) == 3)
    assert ran == ["5", "3", "1"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--token", "wrong"),
            77,
            "the token is wrong; the token is from --token",
        ),
        (("--hub-url", "127.0.0.1:1"), 69, "UNAVAILABLE"),
        (("--hub-url", "127.0.0.1:1"), 69, "does `arbprov dev` or `arbprov hub` run at this addr"),
        (("--idempotency-key", "k" * 201), 1, "the task's idempotency_key must have at most 200"),
    ],
)
def test_a_call_that_fails_says_why(call, arguments, code, message):
    result = call("square", *arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_call_that_gives_up_says_what_stays_and_why_it_waits(call):
    task_id = call("square", "--no-wait", "--idempotency-key", "k").stdout.strip()
    result = call("square", "--timeout", "0.05", "--idempotency-key", "k")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: no result within 0.05 s",
        f"Task {task_id} stays at the hub.",
        "So far, no provider has taken it; does a provider with action 'square' run?",
        f"To cancel it: arbprov tasks cancel {task_id}",
    ]


def test_a_call_whose_task_runs_says_who_runs_it(start, call, environ, hub):
    provider = start("run", "typed", **environ, PROVIDER_AUTH_TOKEN=hub.token)
    call("linger", "--no-wait", "--idempotency-key", "k")
    wait_for_line(provider, "lingering")
    result = call("linger", "--timeout", "0.05", "--idempotency-key", "k")
    assert "\nSo far, provider 'typed' runs it.\n" in result.stderr
    Path("interrupted").touch()


def test_an_interrupted_call_says_that_its_task_stays(start, environ, hub):
    caller = start("call", "square", "--timeout", str(TIMEOUT), **environ)
    wait_until(lambda: has_tasks(hub))
    caller.send_signal(signal.SIGINT)
    _, errors = caller.communicate(timeout=TIMEOUT)
    assert caller.returncode == 1
    assert errors.startswith("Error: interrupted\nTask ")
    assert " stays at the hub.\nSo far, no provider has taken it" in errors


def has_tasks(hub):
    """Tell whether a task was submitted to a hub."""
    return hub._run(lambda: hub._store.count(TaskFilter()))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_timeout_that_is_not_above_0_is_wrong_usage(arbprov, seconds):
    result = arbprov("call", "square", "--timeout", seconds)
    assert result.exit_code == 2
    assert "must be greater than 0" in result.stderr


# The tasks of a file.


@pytest.fixture
def write(folder):
    """Return a function that writes tasks into a file."""
    return lambda *tasks: Path("tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))


FILE = ("--file", "tasks.jsonl")


@pytest.mark.usefixtures("provider")
def test_the_results_of_a_file_are_printed_as_lines_with_a_summary(call, write):
    write({"action": "square", "payload": {"n": 3}, "id": "t1"}, {"action": "so_so", "id": "t2"})
    result = call(*FILE)
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == [
        't1          square            success   {"square": 9}',
        "t2          so_so             warning   Only half of it",
    ]
    assert re.fullmatch(r"2 tasks in .* s: 1 success, 1 warning\n", result.stderr)


@pytest.mark.usefixtures("provider")
def test_the_exit_code_is_1_if_a_task_of_a_file_has_failed(call, write):
    write({"action": "square", "payload": {"n": 3}}, {"action": "square", "payload": {}})
    assert call(*FILE).exit_code == 1


@pytest.mark.usefixtures("provider")
def test_the_envelopes_of_a_file_are_printed_as_json(call, write):
    write({"action": "so_so"}, {"action": "so_so"})
    result = call(*FILE, "--json")
    envelopes = [json.loads(line) for line in result.stdout.splitlines()]
    assert [envelope["message"] for envelope in envelopes] == ["Only half of it"] * 2


@pytest.mark.usefixtures("provider")
def test_tasks_may_come_from_stdin(call):
    result = call("--file", "-", input='{"action": "so_so", "id": "t1"}')
    assert result.stdout.split()[:3] == ["t1", "so_so", "warning"]


@pytest.mark.usefixtures("provider")
def test_tasks_with_the_same_key_have_a_line_each(call, write):
    task = {"action": "square", "payload": {"n": 3}, "idempotency_key": "k"}
    write(task, task)
    first, second = call(*FILE).stdout.splitlines()
    assert first == second


@pytest.mark.usefixtures("provider")
def test_many_tasks_are_submitted_in_batches(call, write, monkeypatch):
    monkeypatch.setattr(remote_tasks, "_MAX_SUBMITTED", 10)
    monkeypatch.setattr(remote_tasks, "_MAX_ASKED", 3)
    write(*({"action": "square", "payload": {"n": n}} for n in range(30)))
    result = call(*FILE, "--json")
    found = [json.loads(line)["data"]["response"] for line in result.stdout.splitlines()]
    assert sorted(data["square"] for data in found) == [n * n for n in range(30)]


def test_a_file_without_tasks_says_so(call, write):
    write()
    result = call(*FILE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "the file has no tasks\n")


def test_large_tasks_are_submitted_in_batches_too(call, write, monkeypatch, hub):
    sizes, submit = [], LocalHubClient.submit
    monkeypatch.setattr(remote_tasks, "_MAX_BYTES", 1_000)
    monkeypatch.setattr(
        LocalHubClient,
        "submit",
        lambda self, tasks: sizes.append(len(tasks)) or submit(self, tasks),
    )
    write(*[{"action": "square", "payload": {"n": "n" * 600}}] * 5)
    assert len(call(*FILE, "--no-wait").stdout.splitlines()) == 5
    assert sizes == [2, 2, 1]


@pytest.mark.usefixtures("provider")
def test_a_result_is_printed_although_many_tasks_before_it_wait(call, write, monkeypatch):
    monkeypatch.setattr(remote_tasks, "_MAX_ASKED", 2)
    waiting = [{"action": "square", "provider": "absent"}] * 5
    write(*waiting, {"action": "so_so", "id": "t1"})
    result = call(*FILE, "--timeout", "2")
    assert result.stdout.split()[:3] == ["t1", "so_so", "warning"]
    assert result.exit_code == 1
    assert (
        "not all results within 2 s\n5 tasks have no result and stay at the hub.\n" in result.stderr
    )
    assert "6 tasks in" in result.stderr
    assert "1 warning, 5 without a result" in result.stderr


def test_an_interruption_says_how_many_tasks_are_left(start, environ, write, hub):
    write(*[{"action": "square"}] * 3)
    caller = start("call", *FILE, **environ)
    wait_until(lambda: has_tasks(hub) == 3)
    caller.send_signal(signal.SIGINT)
    _, errors = caller.communicate(timeout=TIMEOUT)
    assert caller.returncode == 1
    assert "interrupted\n3 tasks have no result and stay at the hub.\n" in errors
    assert "To see what is there: arbprov tasks list\n" in errors


def test_an_interruption_between_batches_says_what_was_not_submitted(hub):
    signals = iter([False, True])
    with LocalHubClient(hub.address, hub.token) as client:
        tasks = [{"action": "square"}] * (remote_tasks._MAX_SUBMITTED + 3)
        remote = RemoteTasks(client, tasks, timeout=None, is_interrupted=lambda: next(signals))
        with pytest.raises(ProviderError) as caught:
            list(remote.submit())
    assert str(caught.value).splitlines() == [
        "interrupted",
        "2000 tasks have no result and stay at the hub.",
        "To see what is there: arbprov tasks list",
        "3 of 2003 tasks were not submitted.",
    ]


def test_a_hub_that_ends_meanwhile_leaves_the_tasks(hub, write):
    with LocalHubClient(hub.address, hub.token) as client:
        tasks = [{"action": "square", "id": "t1"}]
        remote = RemoteTasks(client, tasks, timeout=None, is_interrupted=lambda: False)
        for _ in remote.submit():
            hub.stop()
        with pytest.raises(
            HubConnectionError,
            match=r"\nTask t1 stays at the hub\.\nTo cancel it: arbprov tasks cancel t1$",
        ):
            next(remote.run())


def test_a_task_that_the_hub_refuses_is_named_by_its_line(call, write):
    write({"action": "a"}, {"action": "a", "priority": 5_000})
    result = call(*FILE)
    assert result.exit_code == 2
    assert "tasks.jsonl, line 2: the task's priority must be from -1000 to 1000" in result.stderr


@pytest.mark.parametrize("name", ["payload", "account"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [("x", "a string"), ([], "an array"), (0, "an integer"), (False, "a boolean")],
)
def test_a_payload_and_an_account_are_objects(call, write, name, value, kind):
    write({"action": "square", name: value})
    result = call(*FILE)
    assert result.exit_code == 2
    assert f"tasks.jsonl, line 1: {name}: expected an object, got {kind}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give an ACTION, or a file of tasks by --file, and not both"),
        (("square", *FILE), "give an ACTION, or a file of tasks by --file, and not both"),
        ((*FILE, "--priority", "5"), "--priority is for a single task; write it into the lines"),
        ((*FILE, "--account", "{}"), "--account is for a single task; write it into the lines of"),
    ],
)
def test_arguments_that_exclude_each_other_are_wrong_usage(call, write, arguments, message):
    write({"action": "square"})
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


# On a terminal.


@pytest.mark.usefixtures("provider")
def test_a_long_batch_has_a_progress_bar_on_a_terminal(environ, write):
    write(*[{"action": "so_so"}] * 250)
    shown = run_in_terminal("call", *FILE, **environ)
    assert re.search(r"Results  \[#+-*\]  +\d+/250", shown)
    lines = [line.rpartition("\033[K")[2] for line in shown.split("\r\n")]
    assert sum("Only half of it" in line for line in lines) == 250
    assert not any("Results" in line for line in lines if "Only half of it" in line)
    assert "250 tasks in" in lines[-2]


@pytest.mark.usefixtures("provider")
def test_a_short_batch_has_no_progress_bar(environ, write):
    write({"action": "so_so"})
    assert "Results" not in run_in_terminal("call", *FILE, **environ)


def run_in_terminal(*arguments, **environ):
    """Run a command in a terminal of 80 columns; return what it has shown."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = os.environ | {"TERM": "xterm", "NO_COLOR": "1"} | environ
    environ.pop("COLUMNS", None)
    command = [sys.executable, "-m", "arbprov", *arguments]
    process = subprocess.Popen(command, env=environ, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    with open(master, "rb", 0) as terminal, contextlib.suppress(OSError):
        while part := terminal.read(4096):
            shown += part
    assert process.wait(TIMEOUT) == 0, shown
    return shown.decode()
