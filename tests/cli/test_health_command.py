"""`arbprov health`: exit codes, addresses, and a quick start."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest
from support.waiting import TIMEOUT

from arbprov.instrumentation.health import WorkerHealth
from arbprov.instrumentation.pages import make_pages
from arbprov.instrumentation.server import MonitoringServer


@pytest.fixture
def provider():
    """The address of a provider that has started, lives, and drains."""
    with MonitoringServer("127.0.0.1:0") as server:
        worker = WorkerHealth("", has_started=True, unready="it is draining", silent_for=0.0)
        server.start(make_pages(lambda: [worker], None))
        yield server.address


@pytest.mark.parametrize(
    ("check", "code", "stdout", "stderr"),
    [
        ([], 0, "ok\n", ""),
        (["livez"], 0, "ok\n", ""),
        (["startupz"], 0, "ok\n", ""),
        (["readyz"], 1, "", "it is draining\n"),
    ],
)
def test_the_exit_code_is_the_answer_and_the_reason_is_printed(
    arbprov, provider, check, code, stdout, stderr
):
    result = arbprov("health", *check, "--url", provider)
    assert (result.exit_code, result.stdout, result.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/"])
def test_an_address_may_be_a_url(arbprov, provider, form):
    assert arbprov("health", "--url", form.format(provider)).exit_code == 0


def test_the_address_is_that_of_the_settings(arbprov, provider, monkeypatch):
    monkeypatch.setenv("ARBPROV_MONITORING", provider)
    assert arbprov("health").stdout == "ok\n"


def test_a_provider_that_listens_everywhere_is_asked_on_this_machine(arbprov, provider):
    port = provider.rpartition(":")[2]
    assert arbprov("health", "--url", f"0.0.0.0:{port}").exit_code == 0


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("0.0.0.0:9100", ("127.0.0.1", 9100)),
        ("[::]:9100", ("::1", 9100)),
        ("[::1]:9100", ("::1", 9100)),
        ("weather:9100", ("weather", 9100)),
    ],
)
def test_the_address_that_is_asked(arbprov, monkeypatch, address, asked):
    asking = []

    def connect(target, timeout):
        asking.append(target)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    assert arbprov("health", "--url", address).exit_code == 1
    assert asking == [asked]


def test_without_an_answer_the_exit_code_is_1_and_the_address_is_named(arbprov):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    result = arbprov("health", "--url", address)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"no answer from {address}: ")


@pytest.mark.parametrize("answer", [b"", b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.1 what\r\n"])
def test_an_answer_of_another_program_is_not_a_sign_of_health(arbprov, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply():
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(answer)

        replying = threading.Thread(target=reply)
        replying.start()
        result = arbprov("health", "--url", f"127.0.0.1:{listener.getsockname()[1]}")
        replying.join(TIMEOUT)
    assert result.exit_code == 1
    assert "no answer from 127.0.0.1:" in result.stderr


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":9100", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_wrong_address_is_not_a_traceback(arbprov, address):
    result = arbprov("health", "--url", address)
    assert result.exit_code in {1, 2}
    assert result.stderr


def test_without_an_address_the_usage_names_the_variable(arbprov, monkeypatch):
    monkeypatch.delenv("ARBPROV_MONITORING", raising=False)
    result = arbprov("health")
    assert (result.exit_code, "ARBPROV_MONITORING" in result.stderr) == (2, True)


def test_the_command_imports_nothing_that_is_slow(provider):
    code = (
        "import sys; from arbprov.cli import main;"
        "main(['health'], standalone_mode=False);"
        "slow = {'grpc', 'asyncio', 'attrs', 'attr', 'logging', 'http.client', 'json', 'email'};"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=TIMEOUT,
        env={"ARBPROV_MONITORING": provider, "PYTHONPATH": ":".join(sys.path)},
    )
