"""The answers to probes, over real HTTP, while a provider starts, works, drains and hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.waiting import TIMEOUT

from arbprov import ProviderApp
from arbprov.instrumentation.health import WorkerHealth, livez, readyz, startupz
from arbprov.localhub import LocalHub
from arbprov.testing import FaultyHub, faults

PROBES = ("/livez", "/readyz", "/startupz")


@pytest.fixture
def app():
    return ProviderApp("watched", drain_timeout=10)


# A provider's life.


def test_a_provider_that_the_hub_answers_is_alive_ready_and_started(app, watch):
    pages = watch(app)
    pages.until("/readyz", 200)
    assert [pages.ask(path) for path in PROBES] == [(200, "ok")] * 3


def test_a_provider_whose_startup_hook_runs_is_alive_only(app, watch):
    go_on = threading.Event()

    @app.on_startup
    async def prepare():
        await asyncio.to_thread(go_on.wait, TIMEOUT)

    pages = watch(app)
    reason = (503, "the startup hooks have not ended")
    assert [pages.ask(path) for path in PROBES] == [(200, "ok"), reason, reason]
    go_on.set()
    assert pages.until("/startupz", 200) == "ok"


def test_a_provider_whose_hub_holds_the_first_poll_is_ready(app, watch):
    app.config = app.config.override(drain_timeout=1.0)
    with LocalHub(hold=TIMEOUT) as hub:
        pages = watch(app, hub)
        assert pages.until("/readyz", 200) == "ok"
        assert hub.submissions == []
        app.stop()


def test_a_provider_that_drains_is_alive_and_not_ready(app, hub, watch):
    started, go_on = threading.Event(), threading.Event()

    @app.action
    def work():
        started.set()
        go_on.wait(TIMEOUT)

    pages = watch(app)
    hub.put("work")
    assert started.wait(TIMEOUT)
    assert pages.until("/readyz", 200) == "ok"
    app.stop()
    assert pages.until("/readyz", 503) == "it is draining"
    assert pages.ask("/livez") == (200, "ok")
    go_on.set()


def test_a_provider_is_not_ready_but_alive_while_its_hub_is_away(app, watch):
    with LocalHub(hold=0.05) as hub:
        pages = watch(app, hub)
        pages.until("/readyz", 200)
    assert pages.until("/readyz", 503) == "the hub does not answer"
    assert pages.ask("/livez") == (200, "ok")
    with LocalHub(hub.address, token=hub.token, hold=0.05):
        assert pages.until("/readyz", 200) == "ok"


def test_a_provider_whose_hub_refuses_each_poll_is_not_ready(app, watch):
    with FaultyHub(hold=0.05) as hub:
        hub.play(faults.unavailable(1_000_000))
        pages = watch(app, hub)
        hub.wait_until(lambda hub: len(hub.polls) >= 3)
        pages.until("/startupz", 200)
        assert pages.until("/readyz", 503) == "the hub does not answer"
        app.stop()


def test_a_provider_whose_event_loop_hangs_is_not_alive(app, hub, watch, monkeypatch):
    monkeypatch.setattr("arbprov.instrumentation.health.SILENCE", 0.2)
    go_on = threading.Event()

    @app.action
    async def hang():
        go_on.wait(TIMEOUT)

    pages = watch(app)
    pages.until("/readyz", 200)
    hub.put("hang")
    reason = "the event loop has not turned for "
    assert pages.until("/livez", 503).startswith(reason)
    assert pages.ask("/readyz")[1].startswith(reason)
    go_on.set()
    assert pages.until("/livez", 200) == "ok"


def test_a_provider_without_a_slot_that_can_run_a_task_is_not_ready(hub, watch):
    app, go_on = ProviderApp("stuck", execution_timeout=0.05, concurrency=1), threading.Event()

    @app.action
    def work():
        go_on.wait(TIMEOUT)

    pages = watch(app)
    pages.until("/readyz", 200)
    hub.put("work")
    assert pages.until("/readyz", 503).startswith("no slot is left of 1: handlers have outlived")
    go_on.set()


# The decisions.


def worker(name="", has_started=True, unready="", silent_for=0.0):
    return WorkerHealth(name, has_started, unready, silent_for)


@pytest.mark.parametrize(("silent_for", "status"), [(0.0, 200), (5.0, 200), (5.1, 503)])
def test_a_worker_may_be_silent_for_five_seconds(silent_for, status):
    assert livez([worker(silent_for=silent_for)])[0] == status


def test_a_single_hung_worker_of_several_is_named():
    workers = [worker("worker 1 (pid 7)"), worker("worker 2 (pid 8)", silent_for=6.0)]
    assert livez(workers) == (503, "worker 2 (pid 8): the event loop has not turned for 6 s")


def test_several_workers_are_ready_while_one_is():
    assert readyz([worker(unready="it is draining"), worker(), worker(silent_for=9)]) == (200, "ok")


def test_each_worker_that_is_not_ready_is_named_with_its_reason():
    workers = [worker("worker 1", unready="it is draining"), worker("worker 2", silent_for=6)]
    assert readyz(workers) == (
        503,
        "worker 1: it is draining; worker 2: the event loop has not turned for 6 s",
    )


def test_two_workers_that_look_the_same_are_both_counted():
    assert readyz([worker(unready="it is draining"), worker(unready="")])[0] == 200


def test_without_any_worker_none_is_ready_or_started_and_none_hangs():
    assert [decide([])[0] for decide in (livez, readyz, startupz)] == [200, 503, 503]


def test_several_workers_have_started_once_one_has():
    assert startupz([worker(has_started=False), worker()]) == (200, "ok")
