"""Fixtures for tests over real gRPC, and for tests with each JSON library."""

from __future__ import annotations

import gc
import logging
import queue
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import TIMEOUT

from arbprov.limits import Limiter
from arbprov.localhub import LocalHub, LocalHubClient, Ticket
from arbprov.payload import json
from arbprov.testing import FaultyHub


@pytest.fixture(autouse=True)
def long_handlers(monkeypatch):
    """Let a handler run for a minute: a busy machine may need more than the default of a second."""
    monkeypatch.setenv("TASK_EXECUTION_TIMEOUT", f"{TIMEOUT:g}")


@pytest.fixture(autouse=True, scope="session")
def patient_hubs():
    """Let hubs wait for a minute, unless a test says otherwise, instead of 10 seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for method in (Ticket.result, FaultyHub.wait_until):
            patch.setattr(method, "__defaults__", (TIMEOUT,))
        for method in (LocalHub.call, LocalHubClient.call):
            patch.setattr(method, "__kwdefaults__", method.__kwdefaults__ | {"timeout": TIMEOUT})
        yield


@pytest.fixture(autouse=True)
def collect_in_order():
    """Collect the connections that a test left behind before their sockets, within that test.

    A collection of all generations begins with the youngest, and a socket is often younger.
    """
    yield
    gc.collect(0)
    gc.collect(1)


@pytest.fixture(
    scope="module",
    params=[json.StandardBackend, pytest.param(json.OrjsonBackend, marks=pytest.mark.fast)],
)
def each_json(request):
    """Run a module's tests with each library that reads and writes JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "_backend", request.param())
        yield


@pytest.fixture
def hub():
    with LocalHub(hold=0.05) as hub:
        yield hub


@pytest.fixture
def serve(hub):
    """Return a function that runs an app for the hub, in a thread, until the test is over."""
    with ThreadPoolExecutor(8) as pool:
        running = []

        def start(app):
            future = pool.submit(app.run, hub_url=hub.address, auth_token=hub.token)
            running.append((app, future))
            return future

        yield start
        for app, _ in running:
            app.stop()
        for _, future in running:
            future.result(TIMEOUT)


@pytest.fixture
def log_line():
    """Return a function that waits for a log line of arbprov with a word, and returns the line."""
    lines = queue.SimpleQueue()

    class Handler(logging.Handler):
        def emit(self, record):
            lines.put(record.getMessage())

    def wait_for(word):
        while word not in (line := lines.get(timeout=TIMEOUT)):
            pass
        return line

    handler = Handler()
    logging.getLogger("arbprov").addHandler(handler)
    yield wait_for
    logging.getLogger("arbprov").removeHandler(handler)


@pytest.fixture
def made_again(monkeypatch):
    """The decisions whose charges were made again, since they had aged."""
    made, acquire_again = [], Limiter.acquire_again

    def spy(self, limits, decision):
        acquire_again(self, limits, decision)
        made.append(decision)

    monkeypatch.setattr(Limiter, "acquire_again", spy)
    return made
