"""Calls in flight in a worker: each keeps its place until its handler has really ended."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from support import isolated
from support.hubs import ScriptedHub
from support.loops import BEGIN, JumpingLoop, run_jumping
from support.redis_servers import RedisServer
from support.waiting import TIMEOUT, wait_until
from support.workers import task, work_off

from arbprov import Concurrency, ProviderApp, TaskContext
from arbprov.clock import SystemClock
from arbprov.executors.turns import Turns
from arbprov.limits import Limiter
from arbprov.localhub import LocalHub
from arbprov.task import Task
from arbprov.worker.worker import Worker, WorkerSettings

# Nothing listens there.
AWAY = "redis://127.0.0.1:1"
SETTINGS = WorkerSettings(
    concurrency=4, drain_timeout=5.0, start_timeout=30.0, max_task_timeout=1.0
)


@pytest.fixture(scope="module")
def server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(params=["memory", "redis"])
def store(request):
    """Where limits are kept: nothing for the memory, or a URL."""
    if request.param == "memory":
        return None
    server = request.getfixturevalue("server")
    with server.client() as client:
        client.flushall()
    return server.url


# On threads and in processes.


def test_a_plain_handler_that_outlives_its_timeout_keeps_its_place(serve, hub, store):
    app, may_end = ProviderApp("test"), threading.Event()

    @app.action(timeout=0.2)
    @app.rate_limit(Concurrency(1), store=store)
    def work(waits: bool = False):
        if waits:
            may_end.wait(TIMEOUT)
        return {}

    serve(app)
    try:
        assert hub.call("work", {"waits": True}).status == "error"
        assert [hub.call("work").status for _ in range(2)] == ["limit"] * 2
    finally:
        may_end.set()
    wait_until(lambda: hub.call("work").status == "success")


def test_a_process_that_is_killed_at_its_deadline_frees_the_place(serve, hub, store):
    app = ProviderApp("isolated", execution_timeout=1)
    app.action(isolation="process")(app.rate_limit(Concurrency(1), store=store)(isolated.sleep))
    serve(app)
    assert hub.call("sleep", {"seconds": TIMEOUT}).status == "error"
    wait_until(lambda: hub.call("sleep", {"seconds": 0}).status == "success")


def test_a_process_that_can_not_be_started_frees_the_place(serve, hub):
    app = ProviderApp("isolated", execution_timeout=TIMEOUT)
    app.action(isolation="process")(app.rate_limit(Concurrency(1))(isolated.leave))
    serve(app)
    for _ in range(3):
        assert hub.call("leave", {"code": 3}).status == "error"


def test_a_waiting_call_is_woken_by_the_end_of_another(serve, hub, store, monkeypatch):
    # Nothing else wakes it in time.
    monkeypatch.setattr("arbprov.limits.algorithms._ASK_AGAIN_AFTER", 3600.0)
    monkeypatch.setattr("arbprov.executors.turns._ASK_AGAIN_AFTER", 3600.0)
    if store is not None:
        monkeypatch.setattr("arbprov.limits.algorithms.Semaphore.parameters", hourly)
    began, waits, may_end = threading.Event(), threading.Event(), threading.Event()
    wait, app = Turns.wait, ProviderApp("test", concurrency=8)

    def note_and_wait(*arguments):
        waits.set()
        return wait(*arguments)

    monkeypatch.setattr(Turns, "wait", note_and_wait)

    @app.action(timeout=TIMEOUT)
    @app.rate_limit(Concurrency(1), store=store, max_wait=TIMEOUT * 2)
    def work(waits: bool = False):
        if waits:
            began.set()
            may_end.wait(TIMEOUT)
        return {}

    serve(app)
    first = hub.put("work", {"waits": True})
    assert began.wait(TIMEOUT)
    second = hub.put("work")
    assert waits.wait(TIMEOUT)
    may_end.set()
    assert [ticket.result().status for ticket in (first, second)] == ["success"] * 2


def hourly(self, wall):
    return self.capacity, 3600.0, 0


# On the loop.


def outliving(seconds):
    """Return an app whose action ``work`` ignores its timeout of a second for some seconds."""
    app = ProviderApp(execution_timeout=1)

    @app.action
    @app.rate_limit(Concurrency(1))
    async def work(stays: bool = False):
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (seconds if stays else 0)
        while (rest := ends_at - loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(rest)
        return {}

    return app


def test_an_async_handler_that_ignores_its_timeout_keeps_its_place():
    stuck = Task("a", "work", b'{"stays": true}')
    results = work_off(outliving(5.0), (0, stuck), task(4.9, "b"), task(5.1, "c"))
    assert [(name, status) for _, name, status in results] == [
        ("a", "error"),
        ("b", "limit"),
        ("c", "success"),
    ]


def test_a_charge_that_is_made_again_takes_no_second_place():
    app = ProviderApp(execution_timeout=1)

    @app.before_task
    async def delay():
        await asyncio.sleep(0.2)

    @app.action
    @app.rate_limit(Concurrency(1))
    @app.rate_limit("100/minute")
    async def work():
        return {}

    results = work_off(app, *[task(number, f"t{number}") for number in range(4)])
    assert [status for _, _, status in results] == ["success"] * 4


def test_a_call_that_is_refused_when_its_charge_is_made_again_holds_no_place():
    app = ProviderApp(execution_timeout=1)

    @app.before_task
    async def exhaust(ctx: TaskContext):
        await asyncio.sleep(0.2)
        if ctx.payload:
            ctx.limits.report("vendor", used=1, reset_in=3)

    @app.action
    @app.rate_limit(Concurrency(1))
    @app.rate_limit("100/3s", name="vendor")
    async def work(full: int = 0):
        return {}

    results = work_off(app, task(0, "a", full=1), task(5, "b"))
    assert [status for _, _, status in results] == ["limit", "success"]


# The end of the worker.


def left_after(app, tasks, stop_at):
    """Run a worker on tasks until it is stopped; return the places that are left."""
    loop = JumpingLoop()

    async def main():
        dispatcher = app._dispatcher(loop)
        worker = Worker(dispatcher, ScriptedHub(polls=tasks), app._life_hooks(), SETTINGS)
        loop.call_at(BEGIN + stop_at, worker.stop)
        with contextlib.suppress(Exception):
            await worker.run()
        return [one.remaining for one in dispatcher.limit_stats().headroom("work")]

    return run_jumping(main(), loop)


def test_a_handler_that_a_stop_cancels_gives_its_place_back():
    app = ProviderApp(execution_timeout=60)

    @app.action
    @app.rate_limit(Concurrency(2))
    async def work():
        await asyncio.sleep(50)

    assert left_after(app, [Task("t", "work")], 1) == [2]


def test_a_call_that_waits_at_a_stop_holds_no_place():
    app = ProviderApp(execution_timeout=2)

    @app.action
    @app.rate_limit(Concurrency(1), max_wait=50)
    async def work():
        await asyncio.sleep(1.5)

    assert left_after(app, [Task("a", "work"), Task("b", "work")], 1) == [1]


def test_a_handler_that_runs_on_at_a_stop_keeps_its_place():
    stuck = Task("a", "work", b'{"stays": true}')
    assert left_after(outliving(50.0), [stuck], 3) == [0]


# Heartbeats.


def blocking_app(kept_up, **options):
    app = ProviderApp("test", execution_timeout=TIMEOUT)

    @app.action
    @app.rate_limit(Concurrency(2), **options)
    async def work():
        kept_up.clear()
        return {"kept_up": kept_up.wait(TIMEOUT / 2)}

    return app


def test_heartbeats_go_on_while_a_handler_blocks_the_loop(serve, hub, monkeypatch):
    kept_up = threading.Event()
    monkeypatch.setattr(Limiter, "upkeep", lambda self: kept_up.set() or 0.001)
    serve(blocking_app(kept_up, store=AWAY))
    assert hub.call("work").data == {"kept_up": True}


def test_a_worker_with_limits_in_memory_has_no_heartbeats(serve, hub, monkeypatch):
    kept_up = threading.Event()
    monkeypatch.setattr(Limiter, "upkeep", lambda self: kept_up.set() or 0.001)
    app = blocking_app(kept_up)

    @app.action
    def free():
        return {}

    serve(app)
    hub.call("free")
    assert not kept_up.is_set()


def test_a_worker_ends_its_heartbeats_when_it_has_ended(monkeypatch):
    with LocalHub(hold=0.05) as hub:
        app = ProviderApp("test")

        @app.action
        @app.rate_limit(Concurrency(2), store=AWAY)
        def work():
            app.stop()

        hub.put("work")
        app.run(hub_url=hub.address, auth_token=hub.token)
    wait_until(lambda: "arbprov-upkeep" not in [one.name for one in threading.enumerate()])


def test_an_error_of_a_heartbeat_ends_the_worker(hub, monkeypatch):
    def upkeep(self):
        raise ValueError("the heartbeat is broken")

    monkeypatch.setattr(Limiter, "upkeep", upkeep)
    app = blocking_app(threading.Event(), store=AWAY)
    with pytest.raises(ValueError, match="the heartbeat is broken"):
        app.run(hub_url=hub.address, auth_token=hub.token)


def test_an_error_of_a_heartbeat_after_the_worker_s_end_is_dropped():
    async def make_worker():
        app = ProviderApp("test")
        return Worker(app._dispatcher(SystemClock()), ScriptedHub(), app._life_hooks(), SETTINGS)

    worker = asyncio.run(make_worker())
    worker._fail_from_thread(ValueError("late"))
    assert worker._failure is None
