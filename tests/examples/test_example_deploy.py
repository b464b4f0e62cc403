"""The files of examples/deploy: their commands and variables, outside of any container."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from support.processes import Process
from support.redis_servers import RedisServer
from support.waiting import TIMEOUT, wait_until

from arbprov.config import Config
from arbprov.localhub import LocalHub

FOLDER = Path(__file__).parents[2] / "examples/deploy"
FILES = ["Dockerfile", "compose.yaml", "kubernetes.yaml", "provider.service"]
VARIABLE = re.compile(r"\b(?:ARBPROV_[A-Z_]+|PROVIDER_[A-Z_]+|HUB_GRPC_[A-Z_]+)\b")


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def image_text():
    return (FOLDER / "Dockerfile").read_text()


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process beside the provider; it is killed if a test fails."""
    shutil.copy(FOLDER / "provider.py", tmp_path)
    started = []

    def start(arguments, **environ):
        started.append(Process(arguments, tmp_path, **environ))
        return started[-1]

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.kill()


@pytest.fixture
def redis_server():
    server = RedisServer()
    yield server
    server.close()


@pytest.mark.parametrize("name", FILES)
def test_each_variable_is_a_setting(name):
    known = {field.metadata["variable"] for field in attrs.fields(Config)}
    known |= {f"{field.metadata['variable']}_FILE" for field in attrs.fields(Config)}
    used = set(VARIABLE.findall((FOLDER / name).read_text()))
    # The comments name the settings that say how long a stop and a start take.
    assert used
    assert used <= known


@pytest.mark.parametrize("name", FILES[1:])
def test_a_stop_has_more_time_than_the_provider_needs(name):
    text = (FOLDER / name).read_text()
    (seconds,) = re.findall(
        r"(?:stop_grace_period: |terminationGracePeriodSeconds: |TimeoutStopSec=)(\d+)", text
    )
    assert int(seconds) > Config().drain_timeout + 2


def test_the_commands_of_the_image_run_a_provider_with_the_environment_of_compose(
    start, redis_server, tmp_path
):
    check, run = map(json.loads, re.findall(r"CMD (\[.*\])$", image_text(), re.MULTILINE))
    (tmp_path / "hub-token").write_text("sample-token\n")
    address = free_address()
    environ = {
        "PROVIDER_NAME": "orders",
        "PROVIDER_AUTH_TOKEN_FILE": str(tmp_path / "hub-token"),
        "ARBPROV_RATE_LIMIT_STORE": redis_server.url,
        "ARBPROV_SPOOL": str(tmp_path / "results.db"),
        "ARBPROV_MONITORING": address,
    }
    with LocalHub(token="sample-token", hold=0.05) as hub:
        assert run[0] == check[0] == "arbprov"
        provider = start(["-m", *run], HUB_GRPC_URL=hub.address, **environ)
        ticket = hub.put("lookup", {"id": 7}, account={"id": "sample"}, provider="orders")
        assert ticket.result().data == {"id": 7, "by": "orders"}
        probe = [sys.executable, "-m", *check]
        healthy = subprocess.run(
            probe, env={"ARBPROV_MONITORING": address}, capture_output=True, text=True, check=False
        )
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert provider.stop() < Config().drain_timeout
        assert provider.popen.returncode == 0


def test_supervisord_runs_and_stops_a_provider(start, tmp_path):
    page = (FOLDER.parents[1] / "docs/how-to/deploy-a-provider.md").read_text()
    (program,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    with LocalHub(token="sample-token", hold=0.05) as hub:
        program = program.replace(
            "/opt/provider/bin/arbprov", f"{sys.executable} -m arbprov"
        ).replace("directory=/opt/provider", f"directory={tmp_path}")
        (tmp_path / "supervisord.conf").write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={tmp_path}/supervisord.log\n"
            f"pidfile={tmp_path}/pid\n{program}stdout_logfile={tmp_path}/out\n"
            f"stderr_logfile={tmp_path}/err\n"
            f'environment=HUB_GRPC_URL="{hub.address}",PROVIDER_AUTH_TOKEN="sample-token"\n'
        )
        arguments = ["-W", "ignore", "-m", "supervisor.supervisord", "-c", "supervisord.conf"]
        supervisord = start(arguments)
        ticket = hub.put("lookup", {"id": 7}, account={"id": "sample"})
        assert ticket.result().data["id"] == 7
        supervisord.send(signal.SIGTERM)
        supervisord.wait(TIMEOUT)
    log = (tmp_path / "supervisord.log").read_text()
    assert wait_until(lambda: "has stopped" in (tmp_path / "err").read_text())
    assert "exit status 0" in log
    assert "SIGKILL" not in log


# What checks such files.


def passes(*command):
    """Run a program, and tell whether it is content; print what it says otherwise."""
    run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    print(run.stdout, run.stderr)
    # systemd-analyze only warns of a key that it does not know.
    return run.returncode == 0 and not run.stderr


@pytest.mark.deploy
def test_hadolint_finds_nothing():
    assert passes("hadolint", "--failure-threshold", "style", "Dockerfile")


@pytest.mark.deploy
def test_kubernetes_accepts_the_manifests():
    assert passes("kubernetes-validate", "--strict", "kubernetes.yaml")


@pytest.mark.deploy
def test_systemd_accepts_the_unit(tmp_path):
    # It looks for the program too.
    unit = (FOLDER / "provider.service").read_text()
    changed = unit.replace("/opt/provider/bin/arbprov", sys.executable)
    assert changed != unit
    (tmp_path / "provider.service").write_text(changed)
    assert passes("systemd-analyze", "verify", "--man=no", str(tmp_path / "provider.service"))
