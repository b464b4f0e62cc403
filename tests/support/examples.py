"""The examples: run as their docstrings say, or as modules of the test."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from arbprov.localhub import LocalHub
from arbprov.testing import serving
from support.waiting import TIMEOUT

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name, **environ):
    """Return an example as a fresh module, so that tests share no counts.

    Args:
        name: The module's name.
        environ: Environment variables during the import.
    """
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, environ):
        spec.loader.exec_module(module)
    return module


def load_part(name, **environ):
    """Return a module of an example that is a package, with all its modules imported afresh."""
    package = name.partition(".")[0]
    for known in [one for one in sys.modules if one.partition(".")[0] == package]:
        del sys.modules[known]
    path = mock.patch.object(sys, "path", [str(EXAMPLES), *sys.path])
    with mock.patch.dict(os.environ, environ), path:
        return importlib.import_module(name)


@contextmanager
def working(module):
    """Have an example work for a bundled hub, over gRPC, and yield the hub when it does."""
    ready = threading.Event()
    module.app.on_connect(ready.set)
    with LocalHub(hold=0.05) as hub, serving(module.app, hub) as running:
        running.add_done_callback(lambda _: ready.set())
        assert ready.wait(TIMEOUT)
        if not running.done():
            yield hub


@contextmanager
def running(name, hub, **environ):
    """Run an example as a script, for a hub, and yield its process; SIGTERM has to end it well."""
    environ |= {"HUB_GRPC_URL": hub.url, "PROVIDER_AUTH_TOKEN": hub.token}
    with subprocess.Popen(
        [sys.executable, EXAMPLES / f"{name}.py"],
        env=os.environ | environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, log
        finally:
            process.kill()


def statuses_of_tasks(name, hub):
    """Put the tasks that lie beside an example into a hub; return how they ended, in order."""
    lines = (EXAMPLES / f"{name}.jsonl").read_text().splitlines()
    tickets = [hub.put(**json.loads(line)) for line in lines]
    return [ticket.result().status for ticket in tickets]


def dev(name):
    """Run an example with its tasks, hub included; return the envelopes, as they came."""
    command = [sys.executable, "-m", "arbprov", "dev", f"{name}.py", "--tasks", f"{name}.jsonl"]
    done = subprocess.run(
        [*command, "--json"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
