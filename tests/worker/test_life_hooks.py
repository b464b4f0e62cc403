"""Startup and shutdown hooks do not hold up a stop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys

import anyio
import pytest
from support.hubs import Held
from support.processes import Process
from support.running import Running, tasks
from support.waiting import TIMEOUT, wait_until

from arbprov import ProviderApp, ProviderError, TaskContext
from arbprov.hooks import Hooks
from arbprov.localhub import LocalHub
from arbprov.testing import serving
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
        await hooks.run_startup(Hooks([lambda: stopping.set_result(None)]))
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


# The lifespan.


def lifespan_of(start=0.0, end=0.0):
    @contextlib.asynccontextmanager
    async def live():
        await asyncio.sleep(start)
        yield
        await asyncio.sleep(end)

    return live


@pytest.mark.parametrize("step", ["start", "end"])
def test_a_lifespan_that_hangs_ends_the_stop_within_drain_timeout(app, step):
    app.lifespan(lifespan_of(**{step: 600.0}))
    running = Running(app)
    message = failure(running, until=10)
    assert message.startswith("the lifespan lifespan_of.<locals>.live (")
    assert running.ended_at == pytest.approx(10 + 25, abs=0.5)


def test_a_lifespan_may_take_as_long_as_it_needs_before_a_stop(app):
    app.lifespan(lifespan_of(start=600))
    assert Running(app).until(700).polled_at[0] >= 600


def test_a_lifespan_and_the_startup_hooks_have_drain_timeout_together(app):
    app.lifespan(lifespan_of(start=20))
    app.on_startup(wait_for_database)
    running = Running(app)
    message = failure(running, until=10)
    assert message.startswith("the on_startup hook wait_for_database")
    assert running.ended_at == pytest.approx(10 + 25, abs=0.5)


def test_a_lifespan_is_left_after_a_shutdown_hook_that_hung(app):
    ended = []

    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        yield
        await asyncio.sleep(0.2)
        ended.append(True)

    app.on_shutdown(wait_for_database)
    failure(Running(app), until=10)
    assert ended == [True]


def test_a_worker_leaves_the_lifespan_in_the_task_that_has_entered_it(app):
    seen = []

    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        seen.append(asyncio.current_task())
        yield
        seen.append(asyncio.current_task())

    Running(app).until(10)
    assert seen[0] is seen[1]


def failing_lifespan(error):
    """A lifespan that cancels its task from 5 s on, again and again, as a task group does."""

    @contextlib.asynccontextmanager
    async def live():
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel():
            nonlocal timer
            task.cancel()
            timer = loop.call_later(0.5, cancel)

        timer = loop.call_later(5, cancel)
        try:
            yield
        finally:
            timer.cancel()
        if error is not None:
            raise error

    return live


async def work_for_three_seconds():
    await asyncio.sleep(3)


def test_a_task_group_of_the_lifespan_that_fails_ends_the_provider_after_its_tasks(app):
    app.lifespan(failing_lifespan(LookupError("in the background")))
    app.action("work", timeout=10)(work_for_three_seconds)
    running = Running(app, polls=[Held(3, *tasks(1))])
    with pytest.raises(LookupError, match="in the background"):
        running.until(600)
    assert running.statuses == ["success"]
    assert 5 < running.ended_at < 10


def test_a_lifespan_that_cancels_the_provider_without_an_error_is_named(app):
    app.lifespan(failing_lifespan(None))
    message = failure(Running(app), until=600)
    assert message.startswith("the lifespan failing_lifespan.<locals>.live (")


def test_a_worker_without_an_async_lifespan_is_cancelled_at_once(app):
    @app.lifespan
    @contextlib.contextmanager
    def live():
        asyncio.get_running_loop().call_later(5, asyncio.current_task().cancel)
        yield

    running = Running(app)
    with pytest.raises(asyncio.CancelledError):
        running.until(600)
    assert running.ended_at == pytest.approx(5, abs=0.5)


async def fail_after(event):
    await event.wait()
    raise LookupError("in the background")


@contextlib.asynccontextmanager
async def with_asyncio():
    async with asyncio.TaskGroup() as group:
        begun = asyncio.Event()
        group.create_task(fail_after(begun))
        yield begun


@contextlib.asynccontextmanager
async def with_anyio():
    async with anyio.create_task_group() as group:
        begun = asyncio.Event()
        group.start_soon(fail_after, begun)
        yield begun


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no task groups")
@pytest.mark.parametrize("live", [with_asyncio, with_anyio])
def test_a_real_task_group_that_fails_ends_the_provider_after_its_tasks(app, hub, live):
    app.lifespan(live)

    @app.action(timeout=TIMEOUT)
    async def work(ctx: TaskContext):
        ctx.state.set()
        await asyncio.sleep(0.1)
        return "done"

    with contextlib.suppress(Exception), serving(app, hub) as running:
        ticket = hub.put("work")
        error = running.exception(TIMEOUT)
    assert str(error.exceptions[0]) == "in the background"
    assert ticket.result().data == "done"
