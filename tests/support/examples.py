"""The examples: run as their docstrings say, or as modules of the test."""

from __future__ import annotations

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

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name, **environ):
    """Return an example as a fresh module, so that no test sees what another one has counted.

    Args:
        name: The module's name.
        environ: What it finds in the environment.
    """
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, environ):
        spec.loader.exec_module(module)
    return module


@contextmanager
def working(module):
    """Have an example work for a bundled hub, over gRPC, and yield the hub when it does."""
    ready = threading.Event()
    module.app.on_connect(ready.set)
    with LocalHub(hold=0.05) as hub, serving(module.app, hub) as running:
        running.add_done_callback(lambda _: ready.set())
        assert ready.wait(30)
        if not running.done():
            yield hub


def dev(name, **environ):
    """Run an example with its tasks, hub included; return the envelopes, as they came.

    Args:
        name: The module's name.
        environ: What it finds in the environment.
    """
    environ = os.environ | environ
    command = [sys.executable, "-m", "arbprov", "dev", f"{name}.py", "--tasks", f"{name}.jsonl"]
    command += ["--json"]
    done = subprocess.run(
        command, cwd=EXAMPLES, env=environ, stdout=subprocess.PIPE, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
