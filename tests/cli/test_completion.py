"""Completion in a shell, by the lines of the reference."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import TIMEOUT

PAGE = Path(__file__).parents[2] / "docs/reference/command-line.md"
LINES = {
    shell: line.replace("\\|", "|")
    for shell, line in re.findall(
        r"^\| (bash|zsh|fish).*? \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE
    )
}


@pytest.fixture
def environ(tmp_path):
    """An environment in which `arbprov` is this one."""
    script = tmp_path / "arbprov"
    script.write_text(f"#!{sys.executable}\nfrom arbprov.cli import main\nmain()\n")
    script.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def run(command, environ):
    return subprocess.check_output(command, env=environ, text=True, timeout=TIMEOUT)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_of_a_shell_asks_for_that_shell_s_script(shell, environ):
    variable = re.search(r"(\w+)=(\w+) arbprov", LINES[shell])
    assert variable[2] == f"{shell}_source"
    script = run(["arbprov"], environ | {variable[1]: variable[2]})
    assert f"_ARBPROV_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("arbprov ta", "tasks"),
        ("arbprov tasks c", "cancel"),
        ("arbprov tasks list --st", "--state"),
        ("arbprov tasks list --state fa", "failed"),
        ("arbprov call --idem", "--idempotency-key"),
    ],
)
@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_commands_options_and_choices(typed, completed, environ):
    words = typed.split()
    script = (
        f"{LINES['bash']}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1};"
        ' $(complete -p arbprov | sed "s/.* -F \\([^ ]*\\).*/\\1/") arbprov; echo "${COMPREPLY[@]}"'
    )
    assert run(["bash", "--norc", "-c", script], environ).split() == [completed]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_its_line(environ):
    script = f"autoload -Uz compinit && compinit -u; {LINES['zsh']}; print $_comps[arbprov]"
    assert run(["zsh", "-f", "-c", script], environ).strip() == "_arbprov_completion"


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_commands(environ):
    script = f"{LINES['fish']}; complete -C 'arbprov ta'"
    assert run(["fish", "-N", "-c", script], environ).split()[0] == "tasks"
