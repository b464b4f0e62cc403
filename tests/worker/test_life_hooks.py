"""Startup and shutdown hooks do not hold up a stop."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from support.processes import Process
from support.running import Running, tasks
from support.waiting import wait_until

from arbprov import ProviderApp, ProviderError
from arbprov.localhub import LocalHub
from arbprov.worker.life_hooks import LifeHooks

user = contextvars.ContextVar("user", default="nobody")


@pytest.fixture
def app():
    return ProviderApp("test")


async def wait_for_database():
    await asyncio.sleep(600)


def failure(running, *, until):
    with pytest.raises(ProviderError) as caught:
        running.until(until)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["on_startup", "on_shutdown"])
def test_a_hook_that_hangs_ends_the_stop_within_drain_timeout(app, kind):
    getattr(app, kind)(wait_for_database)
    running = Running(app)
    failure(running, until=10)
    assert running.ended_at == pytest.approx(10 + 25, abs=0.5)


@pytest.mark.parametrize("kind", ["on_startup", "on_shutdown"])
def test_a_hook_that_hangs_is_named(app, kind):
    getattr(app, kind)(wait_for_database)
    message = failure(Running(app), until=10)
    assert message.startswith(f"the {kind} hook wait_for_database ({__file__}:")


def test_a_startup_hook_may_take_as_long_as_it_needs_before_a_stop(app):
    app.on_startup(wait_for_database)
    assert Running(app).until(700).polled_at[0] >= 600


def test_a_startup_hook_has_drain_timeout_to_end_after_a_stop(app):
    app.on_startup(wait_for_database)
    assert Running(app).until(590).ended_at >= 600


def test_shutdown_hooks_run_after_a_startup_hook_that_hung(app):
    ended = []
    app.on_startup(wait_for_database)
    app.on_shutdown(lambda: ended.append(True))
    failure(Running(app), until=10)
    assert ended == [True]


def test_a_shutdown_hook_that_hangs_after_a_failed_start_ends_within_drain_timeout(app):
    @app.on_startup
    def fail():
        raise ValueError("no database")

    app.on_shutdown(wait_for_database)
    running = Running(app)
    failure(running, until=600)
    assert running.ended_at == pytest.approx(25, abs=0.5)


def test_a_task_sees_the_context_variables_of_a_startup_hook(app):
    @app.on_startup
    async def log_in():
        user.set("ada")

    app.action("work")(who)
    running = Running(app, polls=tasks(1)).until(10)
    assert running.results[0][1].data == "ada"


async def who():
    return user.get()


def test_a_hook_that_raises_its_own_cancellation_is_not_called_late(app):
    @app.on_startup
    async def cancel():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        Running(app).until(10)


def test_a_stop_in_the_last_startup_hook_leaves_no_timer_for_the_shutdown_hooks():
    async def main():
        stopping = asyncio.get_running_loop().create_future()
        hooks = LifeHooks(stopping, 1.0)
        await hooks.run_startup([lambda: stopping.set_result(None)])
        await asyncio.sleep(0)
        return hooks._timer

    assert asyncio.run(main()) is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["on_startup", "on_shutdown"])
def test_a_plain_hook_that_blocks_the_loop_does_not_outlive_a_stop(tmp_path, kind):
    # It waits in parts: Python misses a signal that arrives just as an endless wait begins.
    (tmp_path / "provider.py").write_text(
        "import threading\n"
        "from arbprov import ProviderApp\n"
        "app = ProviderApp('test', drain_timeout=0.5)\n"
        f"@app.{kind}\n"
        "def block():\n"
        "    print('blocking', flush=True)\n"
        "    while not threading.Event().wait(0.1): pass\n"
    )
    with LocalHub(hold=0.05) as hub:
        arguments = ["-m", "arbprov", "run", "provider.py"]
        environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
        process = Process(arguments, tmp_path, **environ)
        if kind == "on_startup":
            assert process.popen.stdout.readline() == "blocking\n"
        else:
            wait_until(lambda: process.has_logged("connected to the hub"))
        process.popen.terminate()
        assert process.wait() == 1
    assert "the event loop is blocked, so the stop can't end" in process.log
    assert "threading.Event().wait(0.1)" in process.log
