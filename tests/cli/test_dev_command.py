"""`arbprov dev`: tasks from a file, reloading, interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import PROVIDER
from support.waiting import TIMEOUT, wait_for_line

from arbprov.cli.dev import _Provider
from arbprov.outbox.sqlite import read_spool


def test_the_tasks_of_a_file_are_run(start, folder):
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


def test_there_is_one_worker_whatever_the_environment_says(start, folder):
    # Two workers would refuse the limit in memory.
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_WORKERS="2")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_envelopes_are_printed_as_json(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    output, _ = start("dev", "typed", "--tasks", "tasks.jsonl", "--json").communicate(timeout=30)
    assert json.loads(output)["message"] == "Only half of it"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nope", "line 2: not JSON"),
        ("{}", 'line 2: a task needs its action, as in {"action": "greet", "payload": {}}'),
        (
            '{"action": "a", "data": {}}',
            "line 2: a task has no field 'data'; its fields are account, ac",
        ),
        (r'{"action": "\ud800"}', "line 2: action: a string with a lone surrogate"),
    ],
)
def test_a_line_that_is_not_a_task_is_wrong_usage(arbprov, folder, line, message):
    (folder / "tasks.jsonl").write_text(f'{{"action": "so_so"}}\n{line}\n')
    result = arbprov("dev", "typed", "--tasks", "tasks.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_spool_is_not_used(start, folder, spool):
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_SPOOL=str(spool))
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert [entry.state for entry in read_spool(spool)] == ["started", "pending", "dead"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_lets_running_tasks_finish_and_prints_their_results(start, folder, number):
    (folder / "tasks.jsonl").write_text('{"action": "linger"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    wait_for_line(process, "lingering")
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    Path("interrupted").touch()
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output.split()[1:]) == (0, ["linger", "success", "{}"]), errors


def test_an_interruption_prints_how_many_tasks_have_no_result(start, folder):
    (folder / "tasks.jsonl").write_text('{"action": "slow"}\n' * 100)
    process = start("dev", "typed", "--tasks", "tasks.jsonl", ARBPROV_CONCURRENCY="1")
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    others, errors = process.communicate(timeout=30)
    left = 100 - len((first + others).splitlines())
    assert (process.returncode, left > 0) == (1, True)
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
    (folder / "typed.py").write_text("from arbprov import ProviderApp\n")
    (folder / "tasks.jsonl").write_text('{"action": "so_so"}')
    process = start("dev", "typed", "--tasks", "tasks.jsonl")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the provider has ended, and 1 tasks have no result" in errors


def test_the_provider_is_restarted_when_its_file_changes(start, folder):
    process = start("dev", "typed", "--address", "127.0.0.1:0")
    wait_for_line(process, "connected to the hub")
    (folder / "typed.py").write_text(PROVIDER + "\nprint('changed', file=sys.stderr)\n")
    wait_for_line(process, "typed.py has changed, restarting")
    wait_for_line(process, "changed")
    wait_for_line(process, "connected to the hub")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0


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


def test_dev_ends_if_there_is_no_such_app_at_the_start(start, folder):
    process = start("dev", "nowhere", "--address", "127.0.0.1:0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "there is no module 'nowhere' in this folder" in errors


def test_dev_without_reload_ends_with_the_provider(start, folder):
    (folder / "typed.py").write_text("nope")
    process = start("dev", "typed", "--address", "127.0.0.1:0", "--no-reload")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Error: the provider has ended" in errors


def test_a_second_signal_ends_the_provider_too(start, folder):
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
    # The provider writes to the same stderr, which is closed when both have ended.
    assert "Traceback" not in process.stderr.read()
    assert process.wait(TIMEOUT) == 1
    assert caller.wait(TIMEOUT) == 69


def test_dev_ends_if_there_is_no_such_module(start):
    process = start("dev", "wether", "--address", "127.0.0.1:0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
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
