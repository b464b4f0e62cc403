"""A charge that is old when its handler is about to begin is given back, and made again."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support.loops import JumpingLoop
from support.workers import task, work_off

from arbprov import Limit, ProviderApp, RateLimitMonitor, TaskContext
from arbprov.clock import SystemClock
from arbprov.executors.executor import Executor
from arbprov.executors.inline import drive
from arbprov.executors.threads import ThreadPool
from arbprov.limits import Decision, Limiter
from arbprov.task import Task
from arbprov.testing import VirtualClock
from arbprov.worker.admission import Admission

TIMEOUT = 60.0


def app_of(kind, limit="1/second", hook=None, **options):
    """Return an app whose action ``work`` has a limit and a hook before it, and runs so long."""
    app = ProviderApp("test", execution_timeout=1)
    if hook is not None:
        app.before_task(hook)
    limited = app.rate_limit(limit, **options)
    if kind == "async":

        @app.action
        @limited
        async def work(seconds: float = 0.0):
            await asyncio.sleep(seconds)
            return "done"

    else:

        @app.action
        @limited
        def work():
            return "done"

    return app


def sleeping(seconds):
    async def sleep():
        await asyncio.sleep(seconds)

    return sleep


def exhausting(reset_in, seconds=0.2):
    """Return a hook that takes some time, in which the API reports that its limit is used up."""

    async def exhaust(ctx):
        await asyncio.sleep(seconds)
        ctx.limits.report("vendor", used=1, reset_in=reset_in)

    return exhaust


def add_monitor(app):
    """Add a limit that may block to ``work``."""

    class Monitor(RateLimitMonitor):
        def check_rate_limits(self):
            return None

    (action,) = app.actions()
    app.rate_limit(Monitor())(action.handler)


both_kinds = pytest.mark.parametrize("kind", ["async", "def"])


# In tests.


@both_kinds
@pytest.mark.parametrize(("hook_takes", "wait"), [(0.05, 0.95), (0.11, 1.0), (0.9, 1.0)])
def test_a_limit_counts_from_the_start_of_the_handler(kind, hook_takes, wait):
    client = app_of(kind, hook=sleeping(hook_takes)).test_client()
    assert client.call("work").status == "success"
    assert client.call("work").wait_time == pytest.approx(wait, abs=0.002)


@both_kinds
def test_a_call_that_is_refused_the_second_time_does_not_run(kind):
    client = app_of(kind, "5/minute", exhausting(60), name="vendor").test_client()
    result = client.call("work")
    assert (result.status, result.wait_time) == ("limit", pytest.approx(60, abs=0.1))


@both_kinds
def test_a_refusal_the_second_time_starts_no_cooldown(kind, monkeypatch):
    started = []
    monkeypatch.setattr(Decision, "start_cooldown", lambda self, *args: started.append(args))
    client = app_of(kind, "5/second", exhausting(1), name="vendor").test_client()
    assert client.call("work").status == "limit"
    assert started == []


@both_kinds
@pytest.mark.parametrize(("max_wait", "status"), [(1.1, "limit"), (1.5, "success")])
def test_max_wait_counts_from_the_first_decision(kind, max_wait, status):
    hook = exhausting(1)
    client = app_of(kind, "5/second", hook, name="vendor", max_wait=max_wait).test_client()
    assert client.call("work").status == status


@pytest.mark.parametrize(("seconds", "status"), [(0.9, "success"), (1.1, "error")])
def test_the_time_of_a_handler_begins_after_the_second_wait(seconds, status):
    app = app_of("async", "5/second", exhausting(1), name="vendor", max_wait=5)
    assert app.test_client().call("work", {"seconds": seconds}).status == status


@pytest.mark.parametrize("reports", [False, True])
def test_the_time_of_a_handler_begins_again_in_a_loop_that_runs_already(reports):
    loop = JumpingLoop()
    hook = exhausting(1) if reports else sleeping(0.2)
    app = app_of("async", "5/second", hook, name="vendor", max_wait=5)

    async def main():
        client = app.test_client(clock=LoopClock(loop))
        return [(await client.acall("work", {"seconds": s})).status for s in (0.9, 1.1)]

    try:
        assert loop.run_until_complete(main()) == ["success", "error"]
    finally:
        loop.close()


class LoopClock(VirtualClock):
    """The clock of a loop that is not the test client's."""

    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def monotonic(self):
        return self._loop.time()

    def advance(self, seconds):
        self._loop.keep(seconds)


@both_kinds
def test_a_charge_that_a_hook_has_given_back_is_not_made_again(kind, made_again):
    async def cached(ctx):
        ctx.limits.refund()
        await asyncio.sleep(0.5)

    client = app_of(kind, "5/hour", cached).test_client()
    assert client.call("work").status == "success"
    assert (client.limits.headroom("work")[0].remaining, made_again) == (5, [])


def test_a_monitor_is_not_asked_again():
    asked = []

    class Monitor(RateLimitMonitor):
        def make_safe_request(self, function):
            asked.append(self)

    client = app_of("def", Monitor(), sleeping(0.5)).test_client()
    assert (client.call("work").status, len(asked)) == ("success", 1)


class SlowClock(VirtualClock):
    """A clock of a machine that needs 0.2 s for everything."""

    def monotonic(self):
        self._elapsed += 0.2
        return super().monotonic()


def test_a_handler_begins_after_three_charges_that_have_aged(made_again):
    result = app_of("def", "9/hour").test_client(clock=SlowClock()).call("work")
    assert (result.status, len(made_again)) == ("success", 3)


def test_a_call_whose_charge_is_fresh_is_decided_once(made_again):
    assert app_of("def").test_client().call("work").status == "success"
    assert made_again == []


# In a worker.


def stopped_for(seconds):
    """Return a cost function that stops the process between the first charge and the handler."""
    stops = [seconds]

    def cost(call):
        if stops:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.keep, stops.pop())
        return 1

    return cost


def test_a_process_that_was_stopped_counts_from_when_it_goes_on():
    app = app_of("async", "1/second", cost=stopped_for(0.95))
    results = work_off(app, task(0, "stopped"), task(1.0, "later"), task(1.96, "last"))
    assert results == [
        (0.95, "stopped", "success"),
        (1, "later", "limit"),
        (1.96, "last", "success"),
    ]


def test_a_call_after_a_stop_has_its_whole_time():
    app = app_of("async", "1/second", cost=stopped_for(0.95))
    results = work_off(app, task(0, "a", seconds=0.9), task(5, "b", seconds=1.1))
    assert results == [(1.85, "a", "success"), (6, "b", "error")]


def test_a_call_that_waits_after_a_stop_has_its_whole_time_after_that():
    app = app_of("async", "5/second", exhausting(1), name="vendor", max_wait=5)
    results = work_off(app, task(0, "a", seconds=0.9))
    assert [(pytest.approx(2.1, abs=0.01), "a", "success")] == results


def test_a_call_that_waits_after_a_stop_still_has_a_timeout():
    app = app_of("async", "5/second", exhausting(1), name="vendor", max_wait=5)
    (result,) = work_off(app, task(0, "a", seconds=1.5))
    assert result == (pytest.approx(2.2, abs=0.01), "a", "error")


class LatePool(ThreadPool):
    """Threads that begin late."""

    def __init__(self, clock):
        super().__init__(asyncio.get_running_loop(), "late")
        self._clock = clock

    def start(self, work, on_end):
        self._clock.advance(0.9)
        super().start(work, on_end)


def run_one(app, clock, is_late=False):
    """Run a task as a worker does; return the result and the headroom of its first limit."""

    async def main():
        loop = asyncio.get_running_loop()
        pool = LatePool(clock) if is_late else ThreadPool(loop, "test")
        dispatcher = app._dispatcher(clock)
        executor = Executor(dispatcher, pool)
        admission = Admission(dispatcher, pool, executor, 8, loop.create_future())
        try:
            call = dispatcher.prepare(Task("t", "work"))
            result = await asyncio.wait_for(dispatcher.run(call, admission, executor), TIMEOUT)
        finally:
            executor.close()
        return result, dispatcher.limit_stats().headroom("work")[0]

    return asyncio.run(main())


def test_the_time_in_the_queue_of_the_threads_counts(made_again):
    result, headroom = run_one(app_of("def"), VirtualClock(), is_late=True)
    assert (result.status, headroom.wait_time) == ("success", pytest.approx(1.0, abs=0.002))
    assert len(made_again) == 1


@both_kinds
@pytest.mark.parametrize("blocks", [False, True])
def test_a_call_waits_again_in_the_worker_s_queue(kind, blocks):
    reported = []

    def exhaust(ctx: TaskContext):
        time.sleep(0.2)
        ctx.limits.report("vendor", used=1, reset_in=0.3)
        reported.append(time.monotonic())

    app = app_of(kind, Limit(5, 0.3), exhaust, name="vendor", max_wait=TIMEOUT)
    if blocks:
        add_monitor(app)
    result, _ = run_one(app, SystemClock())
    assert result.status == "success"
    assert time.monotonic() - reported[0] >= 0.3


def test_limits_that_may_block_are_asked_again_beside_the_loop(monkeypatch):
    threads, decisions, acquire_again = [], [], Limiter.acquire_again

    def spy(self, limits, decision):
        threads.append(threading.get_ident())
        decisions.append(decision)
        acquire_again(self, limits, decision)

    monkeypatch.setattr(Limiter, "acquire_again", spy)
    app = app_of("async", "5/hour", sleeping(0.2))
    add_monitor(app)
    result, headroom = run_one(app, SystemClock())
    assert (result.status, headroom.remaining) == ("success", 4)
    assert [len(receipt.charges) for receipt in decisions[0].receipts] == [1]
    assert threading.get_ident() not in threads


def test_a_call_whose_time_was_up_before_it_began_does_not_run():
    ran = []

    class TimeIsUp:
        def readmit(self, call):
            call.expire()

    clock = VirtualClock()
    app = app_of("def", "5/hour", lambda: clock.advance(0.5))
    dispatcher = app._dispatcher(clock)
    call = dispatcher.prepare(Task("t", "work"))
    dispatcher.decide(call)
    call.admitter = TimeIsUp()
    result = drive(dispatcher.perform(call, ran.append))
    assert result.message == "The action ran longer than its timeout of 1 s"
    assert dispatcher.limit_stats().headroom("work")[0].remaining == 5
