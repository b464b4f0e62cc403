"""Waiting for a limit: first come, first served, and never at the cost of other calls."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.loops import BEGIN
from support.stores import BENCHES, Call
from support.workers import task, work_off

from arbprov import Concurrency, ProviderApp, RateLimited, RateLimitMonitor, TaskContext
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.limits import Limiter, declare
from arbprov.limits.queue import Waiter, WaitQueue
from arbprov.task import Task, TaskResult
from arbprov.testing import VirtualClock
from arbprov.worker.admission import Admission


def patient(limit, max_wait=30.0, **options):
    """Return an app whose action ``work`` waits for its limit, and ``free`` has none."""
    app = ProviderApp(execution_timeout=1)

    @app.action
    @app.rate_limit(limit, max_wait=max_wait, **options)
    async def work(seconds: float = 0.0, cost: int = 1, who: str = "") -> dict:
        await asyncio.sleep(seconds)
        return {}

    @app.action
    async def free() -> dict:
        return {}

    return app


def also_limited(app, limit, **options):
    """Stack one more limit on ``work``."""
    (handler,) = [one.handler for one in app.actions() if one.name == "work"]
    app.rate_limit(limit, **options)(handler)
    return app


def at_once(count, **payload):
    return [task(0, f"t{number}", **payload) for number in range(count)]


# Which calls wait, and how long.


def test_a_call_over_its_limit_waits_for_its_turn():
    assert work_off(patient("1/second"), *at_once(3)) == [
        (0, "t0", "success"),
        (1, "t1", "success"),
        (2, "t2", "success"),
    ]


def test_without_max_wait_no_call_waits():
    results = work_off(patient("1/second", max_wait=0), *at_once(2))
    assert results == [(0, "t0", "success"), (0, "t1", "limit")]


def test_a_call_that_would_have_to_wait_longer_fails_at_once():
    results = work_off(patient("1/minute"), *at_once(2))
    assert results == [(0, "t0", "success"), (0, "t1", "limit")]


def test_the_calls_that_wait_already_make_the_wait_longer():
    results = work_off(patient("1/10s"), *at_once(6), concurrency=32)
    assert [one for one in results if one[2] == "limit"] == [(0, "t4", "limit"), (0, "t5", "limit")]
    assert [one[0] for one in results if one[2] == "success"] == [0, 10, 20, 30]


def test_a_refusal_has_the_wait_behind_the_calls_that_wait():
    app, waits = patient("1/10s"), []
    app.after_task(lambda result, ctx: waits.append(result.wait_time) or result)
    work_off(app, *at_once(5), concurrency=32)
    assert [wait for wait in waits if wait] == [pytest.approx(40)]


def test_calls_of_another_key_do_not_wait_for_each_other():
    app = patient("1/second", key="payload.who")
    tasks = [task(0, "a1", who="a"), task(0, "a2", who="a"), task(0, "b1", who="b")]
    assert [one[:2] for one in work_off(app, *tasks)] == [(0, "a1"), (0, "b1"), (1, "a2")]


def test_first_come_first_served():
    results = work_off(patient("2/second"), *at_once(9), concurrency=32)
    assert [one[1] for one in results] == [f"t{number}" for number in range(9)]


def test_a_call_that_comes_just_when_there_is_room_does_not_overtake():
    tasks = [*at_once(3), task(1, "late"), task(1.5, "later")]
    results = work_off(patient("1/second"), *tasks, concurrency=32)
    assert [one[1] for one in results] == ["t0", "t1", "t2", "late", "later"]


def test_a_small_call_does_not_overtake_a_large_one():
    app = patient("3/second", cost=lambda call: call.payload.get("cost", 1))
    tasks = [task(0, "first", cost=1), task(0, "large", cost=3), task(0.5, "small", cost=1)]
    results = work_off(app, *tasks)
    assert [one[1] for one in results] == ["first", "large", "small"]


def stacked(first, second, **options):
    options = {"max_wait": 30.0} | options
    return also_limited(patient(first, **options), second, **options)


def test_the_whole_stack_is_asked_again():
    results = work_off(stacked("1/second", "2/10s"), *at_once(4))
    assert [at for at, _, _ in results] == [0, 1, 10, 11]


def test_a_waiting_call_takes_nothing_from_the_other_limits():
    app = also_limited(patient("1/10s"), "2/hour", name="rare")

    @app.action
    @app.rate_limit("2/hour", name="rare")
    async def other():
        return {}

    results = work_off(app, *at_once(2), task(0.5, "o", "other"))
    assert results[1] == (0.5, "o", "success")


def test_a_limit_that_does_not_wait_ends_the_wait_if_it_refuses():
    app = also_limited(patient("1/10s"), "2/hour", name="rare", max_wait=0)

    @app.action
    @app.rate_limit("2/hour", name="rare")
    async def other():
        return {}

    results = work_off(app, *at_once(2), task(0.5, "o", "other"))
    assert results[-1] == (1, "t1", "limit")


def test_a_stack_waits_only_as_long_as_its_most_impatient_limit():
    app = also_limited(patient("1/10s", max_wait=30), "1/9s", max_wait=5)
    assert [one[:2] for one in work_off(app, *at_once(2))] == [(0, "t0"), (0, "t1")]


def test_a_charge_that_is_taken_back_lets_those_in_who_wait():
    app = ProviderApp(execution_timeout=60)

    @app.action
    @app.rate_limit("1/minute", max_wait=90)
    async def work(ctx: TaskContext, seconds: float = 0.0) -> dict:
        await asyncio.sleep(seconds)
        ctx.limits.refund()
        return {}

    results = work_off(app, task(0, "long", seconds=3.5), task(0, "next"))
    assert results == [(3.5, "long", "success"), (4, "next", "success")]


def test_only_the_first_in_line_asks_again():
    asked = []

    def cost(call):
        asked.append((asyncio.get_running_loop().time() - BEGIN, call.payload["who"]))
        return 1

    app = patient("1/10s", cost=cost)
    work_off(app, *[task(0, f"t{number}", who=f"t{number}") for number in range(4)])
    for number in (1, 2, 3):
        assert {who for at, who in asked if 10 * number - 10 < at < 10 * number} == {f"t{number}"}


# The costs that waiting must not have.


def test_at_most_half_of_the_slots_wait():
    results = work_off(patient("1/10s"), *at_once(8), concurrency=4)
    assert [one[2] for one in results if one[0] == 0] == ["success", *["limit"] * 5]


def test_tasks_without_limits_flow_while_others_wait():
    frees = [task(1 + number, f"f{number}", "free") for number in range(5)]
    results = work_off(patient("1/10s"), *at_once(8), *frees, concurrency=4)
    assert [one for one in results if one[1][0] == "f"] == [
        (1.0 + number, f"f{number}", "success") for number in range(5)
    ]


def test_with_one_slot_nobody_waits():
    results = work_off(patient("1/second"), *at_once(2), concurrency=1)
    assert [one[2] for one in results] == ["success", "limit"]


def test_the_time_of_a_handler_begins_after_the_wait():
    app = patient("1/10s")
    results = work_off(app, *at_once(2, seconds=0.9))
    assert results == [(0.9, "t0", "success"), (10.9, "t1", "success")]


def test_a_handler_sees_a_deadline_that_begins_after_the_wait():
    app, left = ProviderApp(execution_timeout=1), []

    @app.action
    @app.rate_limit("1/10s", max_wait=30)
    async def work(ctx: TaskContext) -> dict:
        left.append(ctx.remaining)

    work_off(app, *at_once(2))
    assert left == [1, 1]


def test_in_tests_the_clock_jumps_over_a_wait():
    client = patient("1/10s").test_client()
    assert [client.call("work").status.value for _ in range(3)] == ["success"] * 3
    assert client.clock.monotonic() == 20


def test_in_tests_too_a_longer_wait_is_refused_at_once():
    client = patient("1/minute").test_client()
    assert [client.call("work").status.value for _ in range(2)] == ["success", "limit"]
    assert client.clock.monotonic() == 0


# The end of waiting.


def test_who_waits_at_a_stop_is_refused_at_once():
    results = work_off(patient("1/10s"), *at_once(3), until=4.25)
    assert results == [(0, "t0", "success"), (4.25, "t1", "limit"), (4.25, "t2", "limit")]


class Waiting:
    """Calls that an `Admission` is asked to admit, one after the other."""

    def __init__(self, app, clock):
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.dispatcher = app._dispatcher(clock)
        self.threads = ThreadPool(self.loop, "test")
        self.stopping = self.loop.create_future()
        executor = Executor(self.dispatcher, self.threads)
        self.admission = Admission(self.dispatcher, self.threads, executor, 8, self.stopping)

    def admit(self, payload=b"{}", action="work"):
        return self.loop.create_task(self._admit(Task("t", action, payload)))

    async def _admit(self, task):
        """Return the call when it is admitted, else its result."""
        call = self.dispatcher.prepare(task)
        try:
            await self.dispatcher.admit(call, self.admission)
        except Exception as error:
            return self.dispatcher.finish(call, error)
        return call

    def left(self, action="work"):
        return [one.remaining for one in self.dispatcher.limit_stats().headroom(action)]


def run_waiting(app, test):
    async def main():
        waiting = Waiting(app, VirtualClock())
        try:
            return await asyncio.wait_for(test(waiting), 20)
        finally:
            waiting.threads.close()

    return asyncio.run(main())


async def in_line(waiting, count):
    """Return when so many wait."""
    while len(waiting.admission._turns) < count:
        await asyncio.sleep(0)


def test_a_cancelled_call_takes_nothing():
    async def test(waiting):
        await waiting.admit()
        second = waiting.admit()
        await in_line(waiting, 1)
        second.cancel()
        await asyncio.wait([second])
        waiting.clock.advance(10)
        return waiting.left(), len(waiting.admission._turns)

    assert run_waiting(patient("1/10s"), test) == ([1], 0)


def test_a_stopped_call_takes_nothing():
    async def test(waiting):
        await waiting.admit()
        second, third = waiting.admit(), waiting.admit()
        await in_line(waiting, 2)
        waiting.clock.advance(10)
        waiting.stopping.set_result(None)
        results = [await second, await third]
        return [one.status for one in results], waiting.left()

    assert run_waiting(patient("1/10s"), test) == (["limit", "limit"], [1])


def test_after_a_stop_nobody_begins_to_wait():
    async def test(waiting):
        waiting.stopping.set_result(None)
        await waiting.admit()
        return (await waiting.admit()).status

    assert run_waiting(patient("1/10s"), test) == "limit"


def test_the_next_in_line_takes_the_place_of_a_cancelled_call():
    async def test(waiting):
        await waiting.admit()
        second, third = waiting.admit(), waiting.admit()
        await in_line(waiting, 2)
        second.cancel()
        await asyncio.wait([second])
        waiting.clock.advance(10)
        return isinstance(await third, TaskResult)

    assert run_waiting(patient("1/10s"), test) is False


def test_a_call_that_leaves_enough_for_the_calls_before_it_does_not_wait():
    async def test(waiting):
        first, second = await waiting.admit(), await waiting.admit()
        third = waiting.admit()
        await in_line(waiting, 1)
        for call in (first, second):
            call.ctx.limits.refund()
        fourth = await waiting.admit()
        return fourth.decision.allowed, third.done()

    assert run_waiting(patient("2/10s"), test) == (True, False)


class Turnstile(RateLimitMonitor):
    """Blocks in its check until it is let go."""

    def __init__(self, fails=False):
        self.fails = fails
        self.asked, self.go, self.counted = threading.Event(), threading.Event(), threading.Event()

    def check_rate_limits(self):
        self.asked.set()
        assert self.go.wait(20)
        if self.fails:
            raise OSError("away")

    def make_safe_request(self, request_func):
        self.counted.set()


def test_a_call_that_is_cancelled_while_a_thread_asks_gets_its_charge_back():
    monitor = Turnstile()
    app = also_limited(patient("1/hour"), monitor)

    async def test(waiting):
        call = waiting.admit()
        await asyncio.to_thread(monitor.asked.wait, 20)
        call.cancel()
        await asyncio.wait([call])
        monitor.go.set()
        await asyncio.to_thread(monitor.counted.wait, 20)
        while 1 not in waiting.left():
            await asyncio.sleep(0)

    run_waiting(app, test)


def test_a_question_that_fails_after_its_call_was_cancelled_is_over():
    monitor = Turnstile(fails=True)
    app = also_limited(patient("1/hour"), monitor)

    async def test(waiting):
        call = waiting.admit()
        await asyncio.to_thread(monitor.asked.wait, 20)
        call.cancel()
        await asyncio.wait([call])
        monitor.go.set()
        return (await waiting.admit()).status

    assert run_waiting(app, test) == "error"


def test_a_call_that_is_cancelled_while_its_charge_is_made_again_holds_no_place(monkeypatch):
    app = also_limited(also_limited(patient("5/hour"), RateLimitMonitor()), Concurrency(2))
    asked, go, acquire_again = threading.Event(), threading.Event(), Limiter.acquire_again

    def acquire_slowly(self, limits, decision):
        asked.set()
        assert go.wait(20)
        acquire_again(self, limits, decision)

    monkeypatch.setattr(Limiter, "acquire_again", acquire_slowly)

    async def test(waiting):
        call = await waiting.admit()
        assert sorted(waiting.left(), key=str) == [1, 4, None]
        readmitting = asyncio.ensure_future(waiting.admission.readmit(call))
        await asyncio.to_thread(asked.wait, 20)
        readmitting.cancel()
        await asyncio.wait([readmitting])
        go.set()
        while sorted(waiting.left(), key=str) != [2, 5, None]:
            await asyncio.sleep(0)

    run_waiting(app, test)


def test_a_cooldown_starts_even_if_the_call_is_cancelled_meanwhile():
    app = also_limited(patient("1/hour"), RateLimitMonitor())
    closing, go = threading.Event(), threading.Event()

    async def test(waiting):
        call = await waiting.admit()
        (store,) = call.route.limits.stores
        close = store.start_cooldown

        def slowly(*arguments):
            closing.set()
            assert go.wait(20)
            close(*arguments)

        store.start_cooldown = slowly
        call.throttled = RateLimited(7200)
        settling = waiting.loop.create_task(waiting.admission.settle(call))
        await asyncio.to_thread(closing.wait, 20)
        settling.cancel()
        await asyncio.wait([settling])
        go.set()
        while (
            max(one.wait_time for one in waiting.dispatcher.limit_stats().headroom("work")) < 7200
        ):
            await asyncio.sleep(0)

    run_waiting(app, test)


def test_a_monitor_is_asked_on_a_thread():
    threads = []

    class Where(RateLimitMonitor):
        def check_rate_limits(self):
            threads.append(threading.current_thread())

    app = also_limited(patient("1/hour"), Where())

    async def test(waiting):
        await waiting.admit()
        return threading.current_thread() in threads

    assert run_waiting(app, test) is False


# Queues.


def queue_of(**calls):
    """Return a queue, the calls in it by name, and the names that were notified to be first."""
    queue, notified, waiters = WaitQueue(), [], {}
    for name, buckets in calls.items():
        costs = {(bucket, b""): 1 for bucket in buckets}
        waiters[name] = Waiter(costs, lambda name=name: notified.append(name))
        queue.enqueue(waiters[name])
    return queue, waiters, notified


def test_the_first_call_is_the_first_in_all_of_its_queues():
    queue, waiters, _ = queue_of(a="xy", b="y", c="z")
    assert [queue.is_first(waiter) for waiter in waiters.values()] == [True, False, True]


def test_a_call_that_leaves_makes_the_next_of_each_queue_the_first():
    queue, waiters, notified = queue_of(a="xy", b="x", c="y")
    queue.dequeue(waiters["a"])
    assert notified == ["b", "c"]


def test_a_call_that_is_not_the_first_in_all_of_its_queues_is_not_notified():
    queue, waiters, notified = queue_of(a="x", b="y", c="xy")
    queue.dequeue(waiters["a"])
    assert notified == []


def test_a_queue_knows_the_units_that_its_calls_will_take():
    queue, _, _ = queue_of(a="xy", b="x", c="z")
    buckets = [("x", b""), ("y", b""), ("w", b"")]
    assert queue.demand_ahead(buckets) == {("x", b""): 2, ("y", b""): 1}


def test_empty_queues_are_dropped():
    queue, waiters, _ = queue_of(a="xy")
    queue.dequeue(waiters["a"])
    assert (len(queue), queue._queues) == (0, {})


# The probe of a cooldown.


def probed(max_wait=5.0, probe_takes=0.05):
    """Return the results of a call that meets the probe of a cooldown, and of the probe."""
    app = ProviderApp(execution_timeout=60)

    @app.action
    @app.rate_limit("100/hour", max_wait=max_wait)
    async def work(call: str) -> None:
        if call == "throttled":
            raise RateLimited(10)
        await asyncio.sleep(probe_takes)

    calls = {"a": (0, "throttled"), "b": (10.001, "probe"), "c": (10.011, "next")}
    tasks = [task(at, name, call=call) for name, (at, call) in calls.items()]
    return {name: (at, status) for at, name, status in work_off(app, *tasks)}


def test_a_call_that_meets_a_probe_waits_for_its_end_and_not_for_its_timeout():
    assert probed() == {
        "a": (0.0, "limit"),
        "b": (10.051, "success"),
        "c": (10.101, "success"),
    }


def test_a_call_that_may_not_wait_is_refused_while_a_probe_runs():
    assert probed(max_wait=0)["c"] == (10.011, "limit")


def test_a_call_waits_for_a_probe_no_longer_than_it_may():
    assert probed(max_wait=1.5, probe_takes=3)["c"] == (11.511, "limit")


@pytest.mark.parametrize("make_store", ["memory", "redis"])
def test_a_refusal_by_a_probe_says_to_ask_again_in_a_second(make_store):
    with BENCHES[make_store]() as make_bench:
        bench = make_bench()
        limiter = bench.limiter()
        limits = limiter.compile([declare("100/hour")], action="work", probe_timeout=60.0)
        limiter.acquire(limits, Call()).start_cooldown(10.0, None, 60.0)
        in_cooldown = limiter.acquire(limits, Call())
        bench.advance(10.0)
        assert limiter.acquire(limits, Call()).is_probing
        met = limiter.acquire(limits, Call())
        waits = [round(one.refusal(bench.clock.now()).retry_after, 3) for one in (in_cooldown, met)]
        assert waits == [10.0, 1.0]
        bench.close()
