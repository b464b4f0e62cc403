"""Stops of real processes in each state; each test prints how long its stop took."""

from __future__ import annotations

import signal
import socket

import pytest
from support.processes import Process
from support.servers import refusing_address
from support.waiting import TIMEOUT, wait_until

from arbprov.outbox.sqlite import read_spool
from arbprov.testing import FaultyHub

pytestmark = pytest.mark.slow

PROVIDER = """
import os
import signal
import sys
import threading
from arbprov import ProviderApp, ProviderError

if "ASYNCIO_LOOP" in os.environ:
    sys.modules["uvloop"] = None

app = ProviderApp("stopping", execution_timeout=60)

def begun(name):
    with open("begun", "a") as file:
        file.write(name + "\\n")

@app.action
def quick() -> dict:
    return {"done": True}

@app.action
def patient() -> dict:
    begun("patient")
    while not os.path.exists("go"):
        threading.Event().wait(0.005)
    return {"done": True}

@app.action
def hang() -> dict:
    begun("hang")
    threading.Event().wait()

@app.action(timeout=0.1)
def hang_too_long() -> dict:
    threading.Event().wait()

@app.action
def stop_soon() -> dict:
    threading.Timer(2.0, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
    return {"done": True}

@app.action
@app.rate_limit("1/hour", max_wait=7200)
def scarce() -> dict:
    return {"done": True}

try:
    app.run()
except ProviderError as error:
    sys.exit(str(error))
"""
# Seconds for the interpreter to end.
SLACK = 1.0
# Seconds for a stop that waits for nothing.
AT_ONCE = 0.5 + SLACK
DRAIN = 3.0


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the provider in its own process."""
    started = []

    def start(url, **environ):
        environ = {"ARBPROV_DRAIN_TIMEOUT": str(DRAIN), "PROVIDER_AUTH_TOKEN": "token"} | environ
        started.append(Process(["-c", PROVIDER], tmp_path, HUB_GRPC_URL=url, **environ))
        return started[-1]

    yield start
    for provider in started:
        provider.kill()


@pytest.fixture
def begun(tmp_path):
    """Return a function that waits until a handler has begun."""
    path = tmp_path / "begun"
    return lambda name: wait_until(lambda: path.exists() and name in path.read_text())


def stop(provider, within, code=0):
    """Stop a provider, check its exit code and its time, and print both."""
    took = provider.stop()
    print(f"exit {provider.popen.returncode} after {took:.2f} s; the test allows {within:g} s")
    assert provider.popen.returncode == code, provider.log
    assert took < within
    return took


def hub_of(**options):
    return FaultyHub(token="token", **options)


def test_a_stop_gives_up_a_poll_that_the_hub_holds(start):
    with hub_of(hold=60.0) as hub:
        provider = start(hub.url)
        hub.wait_until(lambda hub: hub.polls)
        # Half of the time is kept for a task that the poll may still bring.
        stop(provider, within=DRAIN / 2 + SLACK)


def test_a_task_that_a_held_poll_brings_during_the_stop_is_done(start):
    with hub_of(hold=60.0) as hub:
        provider = start(hub.url, ARBPROV_DRAIN_TIMEOUT="20")
        hub.wait_until(lambda hub: hub.polls)
        provider.send(signal.SIGTERM)
        wait_until(lambda: provider.has_logged("draining"))
        ticket = hub.put("quick")
        assert provider.wait() == 0
        assert ticket.result(0).data == {"done": True}


def test_a_signal_to_another_thread_wakes_a_waiting_provider(start):
    """Such a signal interrupts no wait, like one that comes just before the event loop waits."""
    with hub_of(hold=60.0) as hub:
        # Not uvloop, which always wakes for a signal.
        provider = start(hub.url, ASYNCIO_LOOP="yes")
        hub.put("stop_soon")
        wait_until(lambda: provider.has_logged("draining"), timeout=TIMEOUT)
        assert provider.wait() == 0


def test_a_stop_does_not_wait_for_a_backoff(start):
    with hub_of() as hub:
        provider = start(hub.url)
        hub.wait_until(lambda hub: hub.polls)
    wait_until(lambda: provider.has_logged("lost the hub"))
    stop(provider, within=AT_ONCE)


def test_a_task_that_waits_for_a_limit_is_refused_at_a_stop(start):
    with hub_of() as hub:
        provider = start(hub.url)
        first, second = hub.put("scarce"), hub.put("scarce")
        hub.wait_until(lambda hub: len(hub.handed_out) == 2)
        first.result()
        stop(provider, within=AT_ONCE)
        results = sorted(ticket.result(0).status for ticket in (first, second))
    assert results == ["limit", "success"]


def test_a_hung_handler_is_given_up_and_the_hub_is_told(start, begun):
    with hub_of() as hub:
        provider = start(hub.url)
        hung = hub.put("hang")
        begun("hang")
        stop(provider, within=DRAIN + SLACK, code=1)
        assert hung.result(0).message == "interrupted, outcome unknown"


def test_a_stop_does_not_wait_for_a_handler_beyond_its_deadline(start):
    with hub_of() as hub:
        provider = start(hub.url)
        assert "timeout" in hub.call("hang_too_long").data
        stop(provider, within=AT_ONCE)


def test_a_stop_waits_for_a_handler_that_is_at_work(start, begun, tmp_path):
    with hub_of() as hub:
        provider = start(hub.url, ARBPROV_DRAIN_TIMEOUT="20")
        ticket = hub.put("patient")
        begun("patient")
        provider.send(signal.SIGTERM)
        wait_until(lambda: provider.has_logged("draining"))
        (tmp_path / "go").touch()
        assert provider.wait() == 0
        assert ticket.result(0).data == {"done": True}


def test_a_stop_among_many_tasks_loses_none(start):
    with hub_of() as hub:
        provider = start(hub.url)
        for _ in range(2000):
            hub.put("quick")
        wait_until(lambda: len(hub.submissions) >= 300)
        stop(provider, within=DRAIN)
        assert 300 <= len(hub.submissions) < 2000
        hub.assert_nothing_lost()


def address_of(listening):
    return f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_stop_does_not_wait_for_a_hub_that_was_never_there(start):
    with refusing_address() as address:
        provider = start(address)
        wait_until(lambda: provider.has_logged("starts for the hub"))
        stop(provider, within=AT_ONCE)


def test_a_stop_does_not_wait_for_a_hub_that_never_answers(start):
    # It accepts connections, and never sends a byte.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = start(address_of(silent))
        with silent.accept()[0] as connection:
            assert connection.recv(1)
            stop(provider, within=SLACK)


def left_without_a_hub(start, begun, tmp_path, **environ):
    """Return a provider with a result for a hub that is gone."""
    with hub_of() as hub:
        provider = start(hub.url, **environ)
        hub.put("patient", id="the-task")
        begun("patient")
    (tmp_path / "go").touch()
    wait_until(lambda: provider.has_logged("'the-task' of action 'patient': success"))
    # Until it has noticed, it would give the hub two seconds for the result.
    wait_until(lambda: provider.has_logged("lost the hub"))
    return provider


def test_a_stop_without_its_hub_names_the_lost_results(start, begun, tmp_path):
    provider = left_without_a_hub(start, begun, tmp_path)
    stop(provider, within=DRAIN + SLACK, code=1)
    assert provider.has_logged("results that the hub never took: ['the-task']")


def test_a_stop_without_its_hub_keeps_the_results_in_the_spool(start, begun, tmp_path):
    provider = left_without_a_hub(start, begun, tmp_path, ARBPROV_SPOOL="spool")
    stop(provider, within=SLACK)
    assert [(one.id, one.state) for one in read_spool(tmp_path / "spool")] == [
        ("the-task", "pending")
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(start, begun, number):
    with hub_of() as hub:
        provider = start(hub.url, ARBPROV_DRAIN_TIMEOUT="60")
        hub.put("hang")
        begun("hang")
        provider.send(number)
        wait_until(lambda: provider.has_logged("draining"))
        took = provider.stop(number)
    print(f"exit {provider.popen.returncode} after {took:.3f} s")
    assert provider.popen.returncode == 1
    assert took < 0.5
