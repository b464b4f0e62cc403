"""`arbprov run` with one worker: signals and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.commands import PROVIDER
from support.waiting import TIMEOUT, wait_for_line


def test_a_missing_token_is_bad_configuration(arbprov, monkeypatch):
    monkeypatch.delenv("PROVIDER_AUTH_TOKEN", raising=False)
    result = arbprov("run", "typed")
    assert result.exit_code == 78
    assert result.stderr.startswith("Error: the hub's token is missing: set PROVIDER_AUTH_TOKEN")


def test_a_hub_that_is_never_reached_is_exit_code_69(start):
    environ = {"PROVIDER_AUTH_TOKEN": "t", "ARBPROV_START_TIMEOUT": "0.2"}
    process = start("run", "typed", "--hub-url", "127.0.0.1:1", **environ)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 69
    assert "Error: the hub was not reached within 0.2 s" in errors


def test_a_refused_token_is_exit_code_77(start, hub):
    process = start("run", "typed", HUB_GRPC_URL=hub.address, PROVIDER_AUTH_TOKEN="wrong-one")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 77
    assert "refuses the token of provider 'typed'" in errors
    assert "wrong-one" not in errors


def test_a_timeout_error_of_a_startup_hook_has_its_traceback(start, folder, hub):
    hook = "\n@app.on_startup\ndef connect() -> None:\n    raise TimeoutError\n\nif"
    (folder / "typed.py").write_text(PROVIDER.replace("\nif", hook))
    process = start("run", "typed", HUB_GRPC_URL=hub.address, PROVIDER_AUTH_TOKEN=hub.token)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    path = folder / "typed.py"
    line = path.read_text().splitlines().index("    raise TimeoutError") + 1
    assert errors.endswith(
        "Traceback (most recent call last):\n"
        f'  File "{path}", line {line}, in connect\n'
        "    raise TimeoutError\n"
        "TimeoutError\n"
    )
    assert f"the on_startup hook connect ({path}:{line - 2}) has failed" in errors


@pytest.fixture
def token_file(folder, hub):
    path = folder / "token"
    path.write_text(hub.token + "\n")
    return str(path)


@pytest.fixture
def running(start, hub, token_file):
    """A provider that is connected to the hub, in a process of its own."""
    process = start("run", "typed", "--hub-url", hub.address, "--auth-token-file", token_file)
    wait_for_line(process, "connected to the hub")
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_task_finish_and_exits_with_0(running, hub, number):
    ticket = hub.put("ask")
    wait_for_line(running, "asking")
    running.send_signal(number)
    wait_for_line(running, "draining")
    running.stdin.write("yes\n")
    running.stdin.close()
    assert running.wait(TIMEOUT) == 0
    assert ticket.result(TIMEOUT).data == {"answer": "yes\n"}


def test_a_second_signal_exits_at_once(running, hub):
    hub.put("ask")
    wait_for_line(running, "asking")
    running.terminate()
    wait_for_line(running, "draining")
    running.terminate()
    assert running.wait(TIMEOUT) == 1


def test_a_stop_that_takes_too_long_exits_with_1(start, hub, token_file):
    process = start(
        *("run", "typed", "--hub-url", hub.address, "--auth-token-file", token_file),
        ARBPROV_DRAIN_TIMEOUT="1",
    )
    hub.put("ask")
    wait_for_line(process, "asking")
    process.terminate()
    wait_for_line(process, "Error: stopped after 1 s with 1 task unfinished")
    assert process.wait(TIMEOUT) == 1


def test_quiet_logs_only_warnings(start, hub, token_file):
    process = start("run", "typed", "-q", "--hub-url", hub.address, "--auth-token-file", token_file)
    hub.call("so_so", timeout=TIMEOUT)
    process.terminate()
    assert process.communicate(timeout=TIMEOUT)[1] == ""


def test_a_module_can_run_its_app_without_the_command(folder, hub):
    process = subprocess.Popen(
        [sys.executable, "typed.py"],
        env=os.environ | {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token},
    )
    try:
        assert hub.call("so_so", timeout=TIMEOUT).status == "warning"
    finally:
        process.terminate()
        assert process.wait(TIMEOUT) == 0
