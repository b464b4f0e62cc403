"""The examples: run as their docstrings say, or as modules of the test."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from arbprov.localhub import LocalHub
from arbprov.testing import serving

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    """Return an example as a fresh module, so that no test sees what another one has counted."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def working(module):
    """Have an example work for a bundled hub, over gRPC, and yield the hub."""
    with LocalHub(hold=0.05) as hub, serving(module.app, hub):
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
            _, log = process.communicate(timeout=30)
            assert process.returncode == 0, log
        finally:
            process.kill()


def statuses_of_tasks(name, hub):
    """Put the tasks that lie beside an example into a hub; return how they ended, in order."""
    lines = (EXAMPLES / f"{name}.jsonl").read_text().splitlines()
    tickets = [hub.put(**json.loads(line)) for line in lines]
    return [ticket.result().status for ticket in tickets]


def dev(name):
    """Run an example with its tasks, hub included; return the envelopes, by task."""
    command = [sys.executable, "-m", "arbprov", "dev", f"{name}.py", "--tasks", f"{name}.jsonl"]
    done = subprocess.run(
        [*command, "--json"], cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
