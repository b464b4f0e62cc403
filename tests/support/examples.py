"""The examples: run as their docstrings say, or as modules of the test."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

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
def at_work(name, **environ):
    """Have an example work for a hub while some variables are set; yield the module and the hub."""
    with pytest.MonkeyPatch.context() as patch, LocalHub(hold=0.05) as hub:
        for variable, value in environ.items():
            patch.setenv(variable, value)
        module = load(name)
        ready = threading.Event()
        module.app.on_connect(ready.set)
        with serving(module.app, hub) as running:
            running.add_done_callback(lambda _: ready.set())
            ready.wait(30)
            yield module, hub


def dev(name):
    """Run an example with its tasks, hub included; return the envelopes, by task."""
    command = [sys.executable, "-m", "arbprov", "dev", f"{name}.py", "--tasks", f"{name}.jsonl"]
    done = subprocess.run(
        [*command, "--json"], cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
