"""The memory of a provider's and a hub's process: for what is too large, and after many tasks."""

from __future__ import annotations

import http.client
import json
import sys

import grpc
import pytest
from support.memory import MEBIBYTE, forget_peak, peak, resident
from support.processes import Process
from support.waiting import TIMEOUT

from arbprov.localhub import LocalHub

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PROVIDER = """
from arbprov import ProviderApp

app = ProviderApp("memory")

@app.action
def plain(number: int) -> dict:
    return {"number": number}

@app.action
async def asynchronous(number: int) -> dict:
    return {"number": number}

app.run()
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the provider in its own process."""
    started = []

    def start(hub, **environ):
        environ |= {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
        started.append(Process(["-c", PROVIDER], tmp_path, **environ))
        return started[-1]

    yield start
    for provider in started:
        provider.kill()


LARGE = 100 * 1000 * 1000
# Older versions check the size of a message after receiving all of it: grpc/grpc, issue 43012.
GRPC_LOOKS_FIRST = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 84)


@pytest.mark.slow
def test_a_task_of_100_mb_is_refused_and_held_at_most_once(start):
    with LocalHub(hold=0.05) as hub:
        provider = start(hub)
        pid = provider.popen.pid
        for number in range(200):
            hub.call("plain", {"number": number}, timeout=TIMEOUT)
        idle = resident(pid)
        forget_peak(pid)
        lost = hub.put("plain", b'{"filler": "%s"}' % (b"x" * LARGE))
        answer = hub.call("plain", {"number": 1}, timeout=TIMEOUT)
        highest = peak(pid)
    print(f"idle {idle:.1f} MiB, peak {highest:.1f} MiB, {highest - idle:.1f} MiB above")
    assert answer.data == {"number": 1}
    assert not [one for one in hub.submissions if one.id == lost.id]
    assert provider.has_logged("larger than max")
    assert (highest - idle) * MEBIBYTE < (LARGE if GRPC_LOOKS_FIRST else 1.1 * LARGE)


def soak(hub, first, last):
    """Have the tasks of a range of numbers done."""
    tickets = []
    for number in range(first, last):
        tickets.append(hub.put(("plain", "asynchronous")[number % 2], {"number": number}))
        if len(tickets) >= 1000:
            tickets = [one for one in tickets if not one.done]
            if tickets:
                tickets.pop(0).result(TIMEOUT)
    for ticket in tickets:
        ticket.result(TIMEOUT)


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.parametrize("environ", [{}, {"ARBPROV_SPOOL": "spool"}], ids=["memory", "spool"])
def test_two_hundred_thousand_tasks_leave_no_memory_behind(start, environ):
    with LocalHub(hold=0.05) as hub:
        pid = start(hub, **environ).popen.pid
        soak(hub, 0, 20_000)
        before = resident(pid)
        for tenth in range(1, 10):
            soak(hub, tenth * 20_000, (tenth + 1) * 20_000)
            print(f"{(tenth + 1) * 20_000} tasks: {resident(pid) - before:+.1f} MiB")
        after = resident(pid)
    print(f"after 20,000 tasks {before:.1f} MiB, after 200,000 {after:.1f} MiB")
    assert after - before < 5 * 1000 * 1000 / MEBIBYTE


# The bundled hub.


@pytest.fixture
def hub_process(tmp_path):
    """Yield a hub's process, and its addresses."""
    options = ["--address", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", "memory", "--json"]
    hub = Process(["-m", "arbprov", "hub", *options], tmp_path, ARBPROV_HUB_TOKEN="sample-token")
    yield hub, json.loads(hub.popen.stdout.readline())
    hub.kill()


def grown(hub, send):
    """Return by how many MiB a hub's process has grown at most while something was sent."""
    forget_peak(hub.popen.pid)
    before = resident(hub.popen.pid)
    send()
    return peak(hub.popen.pid) - before


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GetTask", "SubmitTaskResult"])
def test_a_hub_refuses_a_message_of_150_mb(hub_process, method):
    hub, addresses = hub_process

    def send():
        options = [("grpc.max_send_message_length", -1)]
        with (
            grpc.insecure_channel(addresses["address"], options=options) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            channel.unary_unary(f"/Hub/{method}")(b"x" * 150_000_000, timeout=TIMEOUT)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    # A gRPC that looks at the size after the last byte holds the message once.
    assert grown(hub, send) < (20 if GRPC_LOOKS_FIRST else 200)


@pytest.mark.slow
@pytest.mark.parametrize(("token", "status"), [("wrong", 401), ("sample-token", 413)])
def test_a_hub_refuses_a_body_of_150_mb_before_it_reads_it(hub_process, token, status):
    hub, addresses = hub_process

    def send():
        connection = http.client.HTTPConnection(addresses["http"].removeprefix("http://"))
        connection.putrequest("POST", "/api/v1/tasks")
        connection.putheader("Authorization", f"Bearer {token}")
        connection.putheader("Content-Length", "150000000")
        connection.endheaders()
        assert connection.getresponse().status == status
        connection.close()

    assert grown(hub, send) < 10
