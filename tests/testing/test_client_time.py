"""The test client's time: sleeps take none, timeouts hold, and one clock drives both."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from support.stopwatch import Stopwatch

from arbprov import ProviderApp, RateLimited
from arbprov.testing import SkippingLoop, VirtualClock

TIMEOUT = {"error": "The action ran longer than its timeout of 2 s", "timeout": 2.0}


@pytest.fixture
def app():
    app = ProviderApp("test", execution_timeout=2)

    @app.action
    async def sleep(seconds: float):
        await asyncio.sleep(seconds)
        return "slept"

    return app


@pytest.fixture
def client(app):
    return app.test_client()


async def sleep_for_a_minute():
    await asyncio.sleep(60)


async def clean_up_for_a_second():
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(1)


def test_a_sleep_advances_the_clock_by_as_much(app):
    app.action("long", timeout=10_000)(lambda: asyncio.sleep(3600))
    client = app.test_client()
    stopwatch = Stopwatch()
    assert client.call("long").status == "success"
    assert client.clock.monotonic() == 3600
    assert stopwatch.seconds < 60


def test_a_handler_that_sleeps_too_long_is_a_timeout(client):
    assert client.call("sleep", {"seconds": 5}).data == TIMEOUT
    assert client.clock.monotonic() == 2


@pytest.mark.parametrize(("seconds", "status"), [(1.9, "success"), (2, "error")])
def test_a_timeout_is_exact(client, seconds, status):
    assert client.call("sleep", {"seconds": seconds}).status == status


def test_a_timeout_cancels_the_handler(app):
    app.action("clean_up")(clean_up_for_a_second)
    client = app.test_client()
    assert client.call("clean_up").data == TIMEOUT
    assert client.clock.monotonic() == 3


def test_the_result_tells_the_time_of_the_deadline(app):
    app.action("clean_up")(clean_up_for_a_second)
    result = app.test_client().call("clean_up")
    assert result.envelope["data"]["now_utc"] == "2026-01-01T00:00:02+00:00"


@pytest.mark.parametrize("shared", [True, False])
def test_a_handler_that_ignores_its_cancellation_is_logged(app, caplog, shared):
    @app.action
    async def stubborn():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
                return

    client = app.test_client()
    with client if shared else contextlib.nullcontext():
        assert client.call("stubborn").data == TIMEOUT
    assert "'stubborn' (task 'test-1') was cancelled at its timeout of 2 s" in caplog.text


def test_a_timeout_is_a_result_even_if_errors_shall_come_through(client):
    client.raise_errors = True
    assert client.call("sleep", {"seconds": 5}).data == TIMEOUT


def test_hooks_see_a_timeout_and_may_sleep(app):
    @app.errorhandler(Exception)
    async def answer(error):
        await asyncio.sleep(0.5)
        return type(error).__name__

    client = app.test_client()
    assert client.call("sleep", {"seconds": 5}).data == "TaskTimeoutError"
    assert client.clock.monotonic() == 2.5


def test_hooks_that_see_a_timeout_get_a_second(app):
    @app.errorhandler(Exception)
    async def answer(error):
        await asyncio.sleep(5)

    assert app.test_client().call("sleep", {"seconds": 5}).data == TIMEOUT


def test_a_hook_s_time_counts(app):
    @app.before_task
    async def prepare(ctx):
        await asyncio.sleep(1.5)

    client = app.test_client()
    assert client.call("sleep", {"seconds": 1}).data == TIMEOUT


@pytest.mark.parametrize("seconds", [1.5, 5])
def test_the_time_of_an_async_hook_counts_for_a_plain_handler(app, seconds):
    app.action("plain")(lambda: "done")

    @app.before_task
    async def prepare(ctx):
        await asyncio.sleep(seconds)

    result = app.test_client().call("plain")
    assert result.data == ("done" if seconds < 2 else TIMEOUT)


def test_after_a_timeout_an_async_teardown_hook_still_runs(app):
    seen = []
    app.action("plain")(lambda: asyncio.sleep(5))

    @app.teardown_task
    async def tear_down(error):
        await asyncio.sleep(1)
        seen.append(type(error).__name__)

    assert app.test_client().call("plain").data == TIMEOUT
    assert seen == ["TaskTimeoutError"]


def test_a_handler_that_is_asked_to_wait_while_it_is_cancelled_starts_the_cooldown(app):
    @app.action
    @app.rate_limit("100/second", key="account.id")
    async def ask():
        try:
            await asyncio.sleep(5)
        finally:
            raise RateLimited(60)

    client = app.test_client()
    assert client.call("ask", account={"id": 1}).data == TIMEOUT
    assert client.call("ask", account={"id": 1}).wait_time == 60


def test_a_handler_that_never_rests_is_a_timeout(hurried):
    @hurried.action
    async def spin():
        while True:
            await asyncio.sleep(0)

    assert hurried.test_client().call("spin").data["timeout"] == 0.1


# One clock.


def test_sleeping_frees_a_limit(app):
    app.action("limited")(app.rate_limit("1/second")(lambda: "done"))
    client = app.test_client()
    client.call("limited")
    client.call("sleep", {"seconds": 1.5})
    assert client.call("limited").data == "done"


def test_advancing_the_clock_wakes_a_background_task(app):
    ticks = []

    async def tick():
        while True:
            await asyncio.sleep(60)
            ticks.append(client.clock.monotonic())

    @app.on_startup
    async def start():
        app.ticking = asyncio.ensure_future(tick())

    with app.test_client() as client:
        client.clock.advance(125)
        assert ticks == [60, 120]
    assert app.ticking.cancelled()


def test_startup_and_shutdown_hooks_sleep_in_no_time(app):
    app.on_startup(lambda: asyncio.sleep(3600))
    app.on_shutdown(lambda: asyncio.sleep(3600))
    with app.test_client() as client:
        assert client.clock.monotonic() == 3600
    assert client.clock.monotonic() == 7200


# Real time.


def slow(seconds):
    time.sleep(seconds)
    return "done"


@pytest.fixture
def hurried():
    return ProviderApp("test", execution_timeout=0.1)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_that_really_takes_too_long_is_a_timeout_when_it_returns(hurried, is_async):
    async def block():
        return slow(0.15)

    hurried.action("slow")(block if is_async else lambda: slow(0.15))
    client = hurried.test_client()
    assert client.call("slow").data["timeout"] == 0.1
    assert client.clock.monotonic() == 0


def test_no_hook_sees_the_result_of_a_plain_handler_that_has_taken_too_long(hurried):
    seen = []
    hurried.action("slow")(lambda: slow(0.15))
    hurried.after_task(lambda result: seen.append(result.status.value) or result)
    hurried.test_client().call("slow")
    assert seen == ["error"]


def test_work_on_a_thread_takes_its_real_time(app):
    app.action("work", timeout=60)(lambda: asyncio.to_thread(slow, 0.15))
    client = app.test_client()
    assert client.call("work").data == "done"
    assert 0.1 < client.clock.monotonic() < 60


def test_work_on_a_thread_that_takes_too_long_is_a_timeout(hurried):
    @hurried.action
    async def work():
        return await asyncio.to_thread(slow, 0.4)

    assert hurried.test_client().call("work").data["timeout"] == 0.1


def test_no_thread_is_left(app):
    before = {*threading.enumerate()}
    app.action("work")(lambda: asyncio.to_thread(slow, 0))
    app.test_client().call("work")
    assert {*threading.enumerate()} <= before


def test_a_task_that_a_handler_leaves_behind_is_cancelled(app):
    left = []

    @app.action
    async def leave():
        left.append(asyncio.ensure_future(asyncio.sleep(60)))

    client = app.test_client()
    client.call("leave")
    assert left[0].cancelled()
    assert client.clock.monotonic() == 0


# In a loop of the test's own.


def test_an_awaited_call_really_times_out(hurried):
    ended = []

    @hurried.action
    async def sleep():
        try:
            await sleep_for_a_minute()
        finally:
            ended.append(1)

    client = hurried.test_client()
    assert asyncio.run(client.acall("sleep")).data["timeout"] == 0.1
    assert ended == [1]


def test_an_awaited_call_that_ignores_its_cancellation_is_logged(app, caplog):
    @app.action
    async def stubborn():
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    client = app.test_client()
    assert run_skipping(client, client.acall("stubborn")).data == TIMEOUT
    assert "still runs 10 s later" in caplog.text


def test_an_awaited_call_may_be_cancelled(app):
    ended = []

    @app.action
    async def sleep_long():
        try:
            await sleep_for_a_minute()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main():
        call = asyncio.ensure_future(app.test_client().acall("sleep_long"))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert ended == ["cancelled"]


def run_skipping(client, work):
    with contextlib.closing(SkippingLoop(client.clock)) as loop:
        result = loop.run_until_complete(work)
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest))
        return result


def test_in_a_skipping_loop_an_awaited_call_takes_no_time(client):
    assert run_skipping(client, client.acall("sleep", {"seconds": 1.5})).data == "slept"
    assert client.clock.monotonic() == 1.5


# A machine's clock: `app.invoke`.


def test_an_invoked_handler_is_cancelled_at_its_timeout(hurried):
    hurried.action("sleep")(sleep_for_a_minute)
    assert hurried.invoke("sleep").data["timeout"] == 0.1


# Errors.


def test_a_failing_async_handler_has_one_traceback(app, caplog):
    @app.action
    async def fail():
        raise LookupError("nowhere")

    app.test_client().call("fail")
    assert caplog.text.count("Traceback") == 1


def test_a_handler_that_stops_the_loop_is_named(app):
    @app.action
    async def stop():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(1)

    client = app.test_client()
    client.raise_errors = True
    with pytest.raises(RuntimeError, match="action 'stop' has stopped the event loop"):
        client.call("stop")


@pytest.mark.parametrize("is_async", [True, False])
def test_an_exit_comes_through(app, is_async):
    async def end():
        raise SystemExit(3)

    app.action("end")(end if is_async else lambda: end())
    client = app.test_client()
    client.raise_errors = True
    with pytest.raises(SystemExit):
        client.call("end")


def test_an_interrupt_ends_the_call(app):
    @app.action
    async def interrupt():
        asyncio.get_running_loop().call_soon(raise_interrupt)
        await asyncio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        app.test_client().call("interrupt")


def raise_interrupt():
    raise KeyboardInterrupt


def test_a_clock_may_be_shared(app):
    clock = VirtualClock()
    one, two = app.test_client(clock=clock), app.test_client(clock=clock)
    with one, two:
        one.call("sleep", {"seconds": 1})
        two.call("sleep", {"seconds": 1})
    assert clock.monotonic() == 2


def test_a_plain_handler_s_coroutine_is_closed_if_a_loop_runs_here(app):
    app.action("later")(lambda: asyncio.sleep(1))

    async def main():
        return app.test_client().call("later")

    with pytest.raises(RuntimeError, match=r"use `await client\.acall\(\.\.\.\)`"):
        asyncio.run(main())
