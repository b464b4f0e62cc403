"""All commands: help, exit codes, imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.waiting import TIMEOUT

from arbprov.cli import main


@pytest.mark.parametrize("command", main.list_commands(None))
def test_every_command_has_help(arbprov, command):
    result = arbprov(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_help_lists_the_exit_codes(arbprov):
    assert "69 hub never reached, 77 token refused" in " ".join(arbprov("-h").stdout.split())


def test_no_summary_of_a_command_is_cut(arbprov):
    assert "..." not in arbprov("--help").stdout.partition("Commands:")[2]


@pytest.mark.parametrize("command", ["tasks", "tokens"])
def test_the_help_of_a_group_says_how_to_install_its_extra(arbprov, command):
    text = arbprov(command, "--help").stdout
    assert "need the extra [hub]: pip install 'arbprov[hub]'" in " ".join(text.split())
    assert "\\" not in text


def test_a_misspelt_command_has_a_suggestion(arbprov):
    result = arbprov("devv", "weather.py")
    assert result.exit_code == 2
    assert "Error: No such command 'devv'; did you mean 'dev'?\n" in result.stderr


def test_completion_ignores_a_misspelt_command():
    words = {"COMP_WORDS": "arbprov devv ", "COMP_CWORD": "2", "_ARBPROV_COMPLETE": "bash_complete"}
    process = subprocess.run(
        [sys.executable, "-c", "from arbprov.cli import main; main(prog_name='arbprov')"],
        env={**os.environ, **words},
        capture_output=True,
        check=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert process.stderr == ""


def test_the_version_is_printed(arbprov):
    assert arbprov("--version").stdout == "arbprov 0.1.0\n"


def test_a_closed_pipe_is_not_a_traceback(folder):
    # More than a pipe holds, so that the command still writes when the reader closes it.
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


def test_a_command_without_a_hub_does_not_import_grpc(folder):
    code = (
        "import sys; from arbprov.cli import main;"
        "main(['actions', 'typed'], standalone_mode=False); assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


def test_as_pid_1_a_command_forks_before_it_imports_the_provider(arbprov, monkeypatch):
    forked = []
    monkeypatch.setattr("arbprov.cli.os.getpid", lambda: 1)
    monkeypatch.setattr(
        "arbprov.worker.reaping.fork_as_pid_1", lambda: forked.append("typed" in sys.modules)
    )
    assert arbprov("actions", "typed").exit_code == 0
    assert forked == [False]


def test_a_command_that_does_not_exist_is_not_imported():
    assert main.get_command(click.Context(main), "nothing") is None
