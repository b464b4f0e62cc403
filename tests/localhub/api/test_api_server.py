"""`ApiServer`, over the network."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from support.api_hubs import ADMIN
from support.waiting import TIMEOUT, wait_until

from arbprov.errors import ConfigurationError
from arbprov.localhub.api import extra
from arbprov.localhub.api.server import ApiServer, _quiet_logs

HEADERS = {"Authorization": f"Bearer {ADMIN}"}


@pytest.fixture
def url(api):
    with api.serving() as url:
        yield url


def get(url, path, **options):
    return httpx.get(url + path, timeout=TIMEOUT, trust_env=False, **options)


def test_a_task_goes_in_and_comes_back(url):
    answer = httpx.post(
        f"{url}/api/v1/tasks", headers=HEADERS, json={"action": "a"}, trust_env=False
    )
    assert answer.status_code == 201
    assert get(url, f"/api/v1/tasks/{answer.json()['id']}", headers=HEADERS).json()["action"] == "a"


def test_a_path_with_a_slash_in_a_part_is_found(api, url):
    api.submit(id="a/b")
    assert get(url, "/api/v1/tasks/a%2Fb", headers=HEADERS).json()["id"] == "a/b"


def test_small_packets_are_sent_at_once(api):
    listener = ApiServer(api.queue, api.tokens, "127.0.0.1:0")._listen()
    with listener, socket.create_connection(listener.getsockname(), TIMEOUT):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            # Else, asyncio leaves Nagle's algorithm on, and each answer takes 40 ms.
            assert accepted.proto == socket.IPPROTO_TCP


def test_a_large_body_is_refused_while_it_is_sent(url):
    def chunks():
        for _ in range(80):
            yield b" " * 2**20

    headers = {**HEADERS, "Content-Type": "application/json"}
    try:
        answer = httpx.post(
            f"{url}/api/v1/tasks",
            headers=headers,
            content=chunks(),
            timeout=TIMEOUT,
            trust_env=False,
        )
    except httpx.WriteError:
        return  # refused before all was sent
    assert answer.status_code == 413


def test_a_request_that_is_not_http_is_answered(url):
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as connection:
        connection.sendall(b"\x00\x01\x02\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_open_streams_do_not_hold_a_stop(api):
    lines = []
    is_open = threading.Event()

    def read(url):
        with httpx.stream(
            "GET", f"{url}/api/v1/events", headers=HEADERS, timeout=TIMEOUT, trust_env=False
        ) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                is_open.set()

    with api.serving() as url:
        reader = threading.Thread(target=read, args=[url])
        reader.start()
        assert is_open.wait(TIMEOUT)
        began = time.monotonic()
    # The grace of a stop is 5 seconds.
    assert time.monotonic() - began < 4
    reader.join(TIMEOUT)
    assert lines == [": open", ""]


def test_a_wait_does_not_hold_a_stop(api):
    task_id = api.submit()
    answers = []

    def wait(url):
        answers.append(get(url, f"/api/v1/tasks/{task_id}/wait?timeout=60", headers=HEADERS))

    with api.serving() as url:
        waiter = threading.Thread(target=wait, args=[url])
        waiter.start()
        wait_until(lambda: api.queue._waits)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    waiter.join(TIMEOUT)
    assert answers[0].status_code == 503


def test_the_programs_signals_stay_as_they_are(tmp_path):
    code = """
import asyncio, signal
from arbprov.localhub.api.server import ApiServer
from arbprov.localhub.queue import QueueSettings, TaskQueue
from arbprov.localhub.stores.factory import make_store
from arbprov.localhub.tokens import Tokens

def own(*_): pass
async def main():
    queue = TaskQueue(make_store("memory"), QueueSettings())
    await queue.start()
    server = ApiServer(queue, Tokens(queue.store, lambda: "t"), "127.0.0.1:0")
    host, _, port = (await server.start()).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n")
    # An answer shows that uvicorn has started, and would have taken the signals.
    assert b"200" in await reader.readline()
    writer.close()
    assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGINT) is own
    await server.stop()
    await queue.answer_held_calls()
    await queue.stop()
signal.signal(signal.SIGTERM, own)
signal.signal(signal.SIGINT, own)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_server_that_was_not_started_can_be_stopped(api):
    api.run(ApiServer(api.queue, api.tokens, "127.0.0.1:0").stop())


# Addresses.


def test_an_address_that_is_taken_is_an_error(api, url):
    address = url.removeprefix("http://")
    with pytest.raises(ConfigurationError) as caught:
        api.run(ApiServer(api.queue, api.tokens, address).start())
    assert str(caught.value) == (
        f"the hub's HTTP API can't listen on {address}: Address already in use; choose another "
        f"address, such as 127.0.0.1:0 for any free port"
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.1:x", ":50080", "127.0.0.1:65536", "localhost:\u0661"]
)
def test_an_address_that_is_not_valid_is_an_error(api, address):
    with pytest.raises(ConfigurationError, match="write HOST:PORT, such as"):
        ApiServer(api.queue, api.tokens, address)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "hub.example:80"])
def test_only_loopback_can_be_listened_on_unless_names_are_allowed(api, address):
    with pytest.raises(ConfigurationError, match="is for this machine only"):
        ApiServer(api.queue, api.tokens, address)
    ApiServer(api.queue, api.tokens, address, allowed_hosts=["hub.example"])


@pytest.mark.parametrize(
    "name", ["", "hub.example:443", "https://hub.example", "hub.example/", "a@hub", "::1", "a b"]
)
def test_a_name_that_no_request_can_have_is_an_error(api, name):
    with pytest.raises(ConfigurationError, match="is not the name of a host; write a name such as"):
        ApiServer(api.queue, api.tokens, "127.0.0.1:0", allowed_hosts=["hub.example", name])


@pytest.mark.parametrize("address", ["localhost:0", "127.0.0.2:0", "[::1]:0"])
def test_an_address_of_this_machine_is_reached_by_its_name(api, address):
    with api.serving(address) as url:
        assert url.startswith(f"http://{address.removesuffix('0')}")
        assert get(url, "/healthz").status_code == 200


def test_a_server_for_others_is_reached_by_their_name_for_it_only(api):
    with api.serving("0.0.0.0:0", allowed_hosts=["hub.example"]) as url:
        local = url.replace("0.0.0.0", "127.0.0.1")
        assert get(local, "/healthz", headers={"Host": "hub.example"}).status_code == 200
        assert get(local, "/healthz", headers={"Host": "0.0.0.0"}).status_code == 403


# What is missing, and what is logged.


def test_a_missing_package_is_an_error_that_says_how_to_get_it(api, monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        ApiServer(api.queue, api.tokens, "127.0.0.1:0")
    assert str(caught.value) == (
        "the hub's HTTP API needs jinja2, starlette and uvicorn: pip install 'arbprov[hub]'"
    )


def test_uvicorn_logs_nothing_of_its_own(api, caplog):
    caplog.set_level(logging.DEBUG)
    with api.serving() as url:
        get(url, "/healthz")
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), TIMEOUT) as connection:
            connection.sendall(b"\x00\r\n\r\n")
            connection.recv(100)
    assert [r for r in caplog.records if r.name.startswith("uvicorn")] == []


def test_other_servers_of_the_process_log_as_before(api, caplog):
    caplog.set_level(logging.INFO)
    with api.serving():
        logging.getLogger("uvicorn.error").info("another server")
    assert "another server" in caplog.text


def test_an_error_of_uvicorn_is_in_arbprovs_log(caplog):
    with _quiet_logs():
        logging.getLogger("uvicorn.error").error("it broke")
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("arbprov", "the hub's HTTP API: it broke")
    ]
    assert all(not logging.getLogger(name).filters for name in ("uvicorn.error", "uvicorn.access"))
