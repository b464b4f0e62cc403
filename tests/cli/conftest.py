"""A folder with a provider, and functions that run commands there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support.commands import PROVIDER

from arbprov.cli import main
from arbprov.cli.state_folder import find_state_folder
from arbprov.outbox.spool import Spool
from arbprov.task import Status, Task, TaskResult
from arbprov.wire.messages import encode_result


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory, monkeypatch):
    """A folder of its own for what `arbprov hub` keeps between runs."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    for name in ("TOKEN", "TOKEN_FILE", "STORE", "HTTP"):
        monkeypatch.delenv(f"ARBPROV_HUB_{name}", raising=False)
    return find_state_folder()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a provider in typed.py, which is the current folder."""
    (tmp_path / "typed.py").write_text(PROVIDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("typed", "other"):
        sys.modules.pop(name, None)


@pytest.fixture
def arbprov(folder):
    """Return a function that runs a command in this process."""
    return lambda *arguments, **options: CliRunner().invoke(main, arguments, **options)


@pytest.fixture
def start(folder):
    """Return a function that starts a command in a process of its own."""
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
            # The second signal ends it at once.
            process.terminate()
            process.terminate()


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
        await spool.finish(("task-2", 0), b"x" * 1000)
        await spool.finish(("task-3", 0), result)
        spool.mark_refused(("task-3", 0), result, "PERMISSION_DENIED, not\nyours")
        await spool.close()

    asyncio.run(fill())
    return folder / "spool"
