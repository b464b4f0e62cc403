"""At most so many calls in flight: a call holds its place until its handler has really ended."""

from __future__ import annotations

import asyncio
import contextlib
import types

import pytest
from support.loops import BEGIN, JumpingLoop
from support.stores import Call, MemoryBench
from support.workers import task, work_off

from arbprov import (
    Concurrency,
    ConfigurationError,
    ProviderApp,
    RateLimited,
    RateLimitMonitor,
    TaskContext,
)
from arbprov.cli.supervisor.worker import WorkerInfo, run_worker
from arbprov.dispatcher import Dispatcher
from arbprov.limits import Charge, Decision, Limiter, MemoryStore, declare
from arbprov.limits.algorithms import Semaphore, SlidingWindow
from arbprov.limits.stores.base import StoreError
from arbprov.testing import VirtualClock


@pytest.fixture
def app():
    return ProviderApp("test", execution_timeout=60)


def limited(app, *limits, **options):
    """Add an action ``work`` that takes some seconds, with some limits."""

    async def work(ctx: TaskContext, seconds: float = 0.0, who: str = "", cost: int = 1):
        await asyncio.sleep(seconds)
        return {"left": [headroom.remaining for headroom in ctx.limits.headroom]}

    for limit in limits:
        app.rate_limit(limit, **options)(work)
    app.action(work)
    return app


def in_flight(app, *calls, clock=None):
    """Run calls at the same time in a test's own event loop; return their statuses, in order."""
    loop = JumpingLoop()

    async def main():
        async with app.test_client() as client:
            started = [client.acall("work", call) for call in calls]
            return [result.status.value for result in await asyncio.gather(*started)]

    with contextlib.closing(loop):
        return loop.run_until_complete(main())


def left(client, action="work", **options):
    return [one.remaining for one in client.limits.headroom(action, **options)]


# Its declaration.


def test_its_text_says_how_many():
    assert str(declare(Concurrency(5), key="account.id")) == "5 at a time per account.id"


@pytest.mark.parametrize("calls", [0, -1, 2.0, "5", True, None])
def test_it_takes_a_whole_number_above_0(calls):
    with pytest.raises(ConfigurationError) as error:
        Concurrency(calls)
    assert str(error.value) == (
        f"a concurrency's calls must be a whole number above 0, not {calls!r}"
    )


def test_a_cost_above_it_is_refused():
    with pytest.raises(ConfigurationError) as error:
        declare(Concurrency(3), cost=4)
    assert str(error.value) == (
        "a cost of 4 can never be met by 3 at a time; lower the cost or raise the limit"
    )


def test_a_burst_is_refused():
    with pytest.raises(ConfigurationError, match="not for 3 at a time"):
        declare(Concurrency(3), burst=1)


def test_a_handler_can_not_acquire_it():
    with pytest.raises(ConfigurationError) as error:
        declare(Concurrency(3), manual=True, name="vendor")
    assert str(error.value) == (
        "manual=True is for limits on single calls of an API; Concurrency(calls=3) counts a "
        "handler from its start to its end: leave manual= out"
    )


def test_a_handler_can_not_acquire_one_that_a_function_returns(app):
    @app.action
    @app.rate_limit(lambda call: Concurrency(3), manual=True, name="vendor")
    def work(ctx: TaskContext):
        ctx.limits.acquire("vendor")

    assert "leave manual= out" in app.test_client().call("work").message


def test_several_workers_refuse_one_in_memory(app):
    with pytest.raises(ConfigurationError, match=r"5 at a time per account\.id of action 'work'"):
        run_worker(limited(app, Concurrency(5), key="account.id"), WorkerInfo(1, 3, "run", "", -1))


# Calls in flight.


def test_a_call_that_is_in_flight_takes_a_place(app):
    statuses = in_flight(limited(app, Concurrency(2)), *[{"seconds": 5}] * 3)
    assert statuses == ["success", "success", "limit"]


def test_a_call_that_has_ended_has_given_its_place_back(app):
    client = limited(app, Concurrency(1)).test_client()
    assert [client.call("work").status.value for _ in range(3)] == ["success"] * 3
    assert left(client) == [1]


def test_a_handler_sees_the_places_that_are_left(app):
    client = limited(app, Concurrency(5)).test_client()
    assert client.call("work").data == {"left": [4]}


def test_each_key_has_its_own_places(app):
    app = limited(app, Concurrency(1), key="payload.who")
    calls = [{"seconds": 5, "who": who} for who in "aab"]
    assert in_flight(app, *calls) == ["success", "limit", "success"]


def test_actions_share_the_places_of_a_name(app):
    @app.action
    @app.rate_limit(Concurrency(1), name="vendor")
    def other():
        return {}

    limited(app, Concurrency(1), name="vendor")

    async def main():
        client = app.test_client()
        first = asyncio.ensure_future(client.acall("work", {"seconds": 5}))
        await asyncio.sleep(1)
        status = (await client.acall("other")).status
        await first
        return status, (await client.acall("other")).status

    assert run_in_jumping_loop(main()) == ("limit", "success")


def run_in_jumping_loop(main):
    with contextlib.closing(JumpingLoop()) as loop:
        return loop.run_until_complete(main)


def test_a_call_takes_as_many_places_as_it_costs(app):
    app = limited(app, Concurrency(3), cost=lambda call: call.payload["cost"])
    calls = [{"seconds": 5, "cost": cost} for cost in (2, 2, 1)]
    assert in_flight(app, *calls) == ["success", "limit", "success"]


def test_a_function_of_the_call_can_return_it(app):
    app = limited(app, lambda call: Concurrency(call.payload["cost"]))
    calls = [{"seconds": 5, "cost": cost} for cost in (2, 2, 2)]
    assert in_flight(app, *calls) == ["success", "success", "limit"]


def test_a_shadow_refuses_nothing_and_counts_what_it_would_have_refused(app):
    app = limited(app, Concurrency(1), shadow=True)
    client = app.test_client()

    async def main():
        calls = [client.acall("work", {"seconds": 5}) for _ in range(3)]
        return [result.status.value for result in await asyncio.gather(*calls)]

    assert run_in_jumping_loop(main()) == ["success"] * 3
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied, left(client)) == (1, 2, [1])


def test_its_decisions_are_counted(app):
    app = limited(app, Concurrency(1), max_wait=6)
    client = app.test_client()

    async def main():
        calls = [client.acall("work", {"seconds": 5}) for _ in range(3)]
        await asyncio.gather(*calls)

    run_in_jumping_loop(main())
    (counts,) = client.limits.counts()
    assert (counts.limit, counts.allowed, counts.waited, counts.denied) == ("1 at a time", 2, 1, 1)


def test_a_refusal_says_when_to_ask_again(app):
    @app.action
    @app.rate_limit(Concurrency(1))
    def work():
        return nested.append(client.call("work")) or {}

    nested, client = [], app.test_client()
    client.call("work")
    (refused,) = nested
    assert (refused.status.value, refused.wait_time) == ("limit", 0.2)
    assert refused.data["limits"] == [{"limit": "1 at a time", "remaining": 0, "wait_time": 0.2}]


def test_no_place_that_is_taken_is_worth_a_warning(app, log):
    in_flight(limited(app, Concurrency(10)), *[{"seconds": 5}] * 10)
    assert log() == []


def test_no_place_of_one_that_a_function_returns_is_worth_a_warning(app, log):
    in_flight(limited(app, lambda call: Concurrency(10)), *[{"seconds": 5}] * 10)
    assert log() == []


def test_its_author_can_ask_for_a_warning(app, log):
    in_flight(limited(app, Concurrency(10), warn_at=[0.5]), *[{"seconds": 5}] * 6)
    assert log() == ["the rate limit 10 at a time of action:work is 50% used: 5 of 10"]


# Waiting.


def test_a_call_waits_for_a_place(app):
    app = limited(app, Concurrency(1), max_wait=30)
    assert in_flight(app, *[{"seconds": 5}] * 4) == ["success"] * 4


def test_a_call_waits_as_long_as_it_may(app):
    app = limited(app, Concurrency(1), max_wait=7)
    assert in_flight(app, *[{"seconds": 5}] * 3) == ["success", "success", "limit"]


def test_a_wait_shorter_than_a_pause_is_kept():
    app = ProviderApp(execution_timeout=60)
    limited(app, Concurrency(1), max_wait=0.05)
    results = work_off(app, task(0, "long", seconds=5.0), task(1, "next"))
    assert results == [(pytest.approx(1.05, abs=0.002), "next", "limit"), (5, "long", "success")]


@pytest.mark.parametrize("started_at", [0.0, 0.3, 0.7, 1000.3])
def test_a_short_wait_ends_whatever_the_clock_rounds(app, started_at):
    @app.action
    @app.rate_limit(Concurrency(1), max_wait=0.1)
    def work():
        return statuses.append(client.call("work").status.value) or {}

    statuses, client = [], app.test_client()
    client.clock.advance(started_at)
    client.call("work")
    assert statuses == ["limit"]
    assert client.clock.monotonic() == pytest.approx(started_at + 0.1, abs=0.002)


def test_a_wait_for_a_window_is_not_cut_short_by_what_a_clock_rounds():
    limit = types.SimpleNamespace(declaration=declare("1/minute", max_wait=17.0))
    refused = Charge("minute", b"", SlidingWindow(1, 60.0), 1, limit=limit, wait_time=7.2)
    decision = Decision([refused])
    assert decision.may_wait(9.8)
    assert 17.0 - 9.8 < 7.2
    assert decision.pause(9.8) == 7.2


def test_a_call_takes_the_place_at_once_that_another_gives_back():
    app = limited(ProviderApp(execution_timeout=60), Concurrency(1), max_wait=30)
    results = work_off(app, task(0, "long", seconds=4.93), task(1, "next"))
    assert results == [(4.93, "long", "success"), (4.93, "next", "success")]


def test_first_come_first_served_in_a_worker():
    app = limited(ProviderApp(execution_timeout=60), Concurrency(1), max_wait=30)
    tasks = [task(0.1 * number, f"t{number}", seconds=1.03) for number in range(4)]
    results = work_off(app, *tasks, task(1.03, "late", seconds=1.0), concurrency=32)
    assert [name for _, name, _ in results] == ["t0", "t1", "t2", "t3", "late"]


def test_first_come_first_served_in_a_test(app):
    app = limited(app, Concurrency(1), max_wait=30)
    ended = []

    async def main():
        client = app.test_client()

        async def call(name, then=None):
            await client.acall("work", {"seconds": 5})
            ended.append(name)
            if then is not None:
                await call(then)

        # The second call of the first comes just when its own place is given back.
        await asyncio.gather(call("first", then="late"), call("second"))

    run_in_jumping_loop(main())
    assert ended == ["first", "second", "late"]


def test_a_large_call_is_not_overtaken(app):
    app = limited(app, Concurrency(2), cost=lambda call: call.payload["cost"], max_wait=30)
    ended = []

    async def main():
        client = app.test_client()

        async def call(cost, seconds):
            await client.acall("work", {"cost": cost, "seconds": seconds})
            ended.append(cost)

        await asyncio.gather(call(1, 5), call(2, 5), call(1, 1))

    run_in_jumping_loop(main())
    assert ended == [1, 2, 1]


@pytest.mark.parametrize("action", ["work", "other"])
def test_a_call_that_the_waiting_calls_leave_enough_for_does_not_wait(app, action):
    limited(app, Concurrency(1), key="payload.who", max_wait=30)
    work = next(one.handler for one in app.actions())
    app.rate_limit(Concurrency(3), max_wait=30)(work)

    @app.action
    @app.rate_limit(Concurrency(1))
    async def other(who: str):
        return {}

    async def main():
        client = app.test_client()
        payload = {"who": "a", "seconds": 5}
        calls = [asyncio.ensure_future(client.acall("work", payload)) for _ in range(2)]
        await asyncio.sleep(1)
        status = (await client.acall(action, {"who": "b"})).status
        return status, calls[0].done(), [(await call).status for call in calls]

    assert run_in_jumping_loop(main()) == ("success", False, ["success"] * 2)


# Several limits.


@pytest.mark.parametrize("limits", [("2/hour", Concurrency(1)), (Concurrency(1), "2/hour")])
def test_a_call_that_finds_no_place_takes_nothing_of_a_window(app, limits):
    client = limited(app, *limits).test_client()

    async def main():
        calls = [client.acall("work", {"seconds": 5}) for _ in range(3)]
        return [result.status.value for result in await asyncio.gather(*calls)]

    assert run_in_jumping_loop(main()) == ["success", "limit", "limit"]
    assert sorted(left(client)) == [1, 1]


@pytest.mark.parametrize("limits", [("1/hour", Concurrency(3)), (Concurrency(3), "1/hour")])
def test_a_call_that_a_window_refuses_takes_no_place(app, limits):
    client = limited(app, *limits).test_client()
    assert [client.call("work").status.value for _ in range(2)] == ["success", "limit"]
    assert sorted(left(client)) == [0, 3]


def test_a_call_waits_for_a_place_and_then_for_a_window():
    app = limited(ProviderApp(execution_timeout=60), Concurrency(1), "1/10s", max_wait=30)
    results = work_off(app, task(0, "a", seconds=5.0), task(1, "b"))
    assert [at for at, _, _ in results] == [5, 10]


@pytest.mark.parametrize(("max_wait", "status"), [(9, "limit"), (11, "success")])
def test_in_a_test_too_max_wait_is_for_all_limits_together(app, max_wait, status):
    @app.action
    @app.rate_limit(Concurrency(1), max_wait=max_wait)
    @app.rate_limit("1/5s", name="window", max_wait=max_wait)
    async def work(ctx: TaskContext):
        ctx.limits.refund()
        # The second call asks again at 4.8 and at 5 s, and as soon as this call has ended.
        await asyncio.sleep(4.93)
        return {}

    @app.action
    @app.rate_limit("1/5s", name="window")
    def other():
        return {}

    async def main():
        client = app.test_client()
        calls = [asyncio.ensure_future(client.acall("work")) for _ in range(2)]
        await asyncio.sleep(4.9)
        # So the second call waits for the place, and then as long for the window.
        dispatcher = client._runner._dispatcher
        window = dispatcher.routes["other"].limits
        assert dispatcher.limiter.acquire(window, Call()).allowed
        return [(await call).status for call in calls]

    assert run_in_jumping_loop(main()) == ["success", status]


def test_in_a_test_too_a_call_takes_the_place_at_once_that_another_gives_back(app):
    limited(app, Concurrency(1), max_wait=30)

    async def main():
        client, loop = app.test_client(), asyncio.get_running_loop()
        await asyncio.gather(*[client.acall("work", {"seconds": s}) for s in (4.93, 1.0)])
        return loop.time() - BEGIN

    assert run_in_jumping_loop(main()) == pytest.approx(5.93, abs=0.001)


def test_in_a_running_loop_too_a_wait_for_a_window_takes_the_client_s_time(app):
    limited(app, "1/10s", max_wait=30)

    async def main():
        client, loop = app.test_client(), asyncio.get_running_loop()
        for _ in range(2):
            await client.acall("work")
        return loop.time() - BEGIN, client.clock.monotonic()

    assert run_in_jumping_loop(main()) == (0, 10)


class BlockingStore(MemoryStore):
    """A store that may block, and fails if the test says so."""

    blocks = True
    fails = False

    def acquire(self, charges):
        if self.fails:
            raise StoreError("away")
        return super().acquire(charges)


def test_a_store_that_fails_after_a_place_was_taken_leaves_the_place_free():
    clock = VirtualClock()
    stores = {name: BlockingStore(clock) for name in ("places", "failing")}
    limiter = Limiter(clock, lambda declaration: stores[declaration.store])
    places = declare(Concurrency(2), store="places")
    limits = limiter.compile([places, declare("5/hour", store="failing")], action="work")
    limiter.acquire(limits, Call())
    stores["failing"].fails = True
    with pytest.raises(StoreError):
        limiter.acquire(limits, Call())
    free = limiter.compile([places], action="work")
    assert limiter.peek(free, Call()).headroom[0].remaining == 1


def test_a_monitor_that_refuses_to_count_a_call_leaves_its_place_free(app):
    class Failing(RateLimitMonitor):
        def make_safe_request(self, request_func):
            raise OSError("away")

    client = limited(app, Concurrency(2), Failing()).test_client()
    assert client.call("work").status == "error"
    assert sorted(map(str, left(client))) == ["2", "None"]


# Taking charges back.


def test_a_refund_keeps_the_place():
    app = ProviderApp(execution_timeout=60)
    seen = []

    @app.action
    @app.rate_limit(Concurrency(2))
    @app.rate_limit("5/hour")
    def work(ctx: TaskContext):
        ctx.limits.refund()
        ctx.limits.refund()
        seen.append(left(client))
        return {}

    client = app.test_client()
    client.call("work")
    assert (seen, left(client)) == ([[5, 1]], [5, 2])


def test_a_call_that_is_undone_gives_its_place_back_once():
    bench = MemoryBench()
    limiter = bench.limiter()
    limits = limiter.compile([declare(Concurrency(3))], action="work")
    limiter.acquire(limits, Call())
    decision = limiter.acquire(limits, Call())
    decision.undo()
    decision.undo()
    decision.release()
    assert limiter.peek(limits, Call()).headroom[0].remaining == 2


def test_more_units_than_are_in_use_are_never_given_back():
    semaphore = Semaphore(3)
    state = semaphore.initial_state()
    semaphore.charge(state, 0.0, 1)
    semaphore.refund(state, 0.0, 2)
    assert semaphore.peek(state, 0.0, 3) == (0.0, 3)


def test_time_does_not_change_the_units_in_use():
    semaphore = Semaphore(3)
    state = semaphore.initial_state()
    semaphore.charge(state, 0.0, 2)
    semaphore.move(state, 0.0, 1e6, 2)
    semaphore.report(state, 1e6, 3, 10.0)
    assert semaphore.peek(state, 1e6, 1) == (0.0, 1)
    assert (semaphore.is_idle(state, 1e6), semaphore.outstanding(state, 1e6)[0][1]) == (False, 2)


def test_the_memory_of_a_key_is_freed_when_its_calls_have_ended():
    bench = MemoryBench()
    store = MemoryStore(bench.clock)
    limiter = Limiter(bench.clock, lambda declaration: store)
    limits = limiter.compile([declare(Concurrency(1), key="payload.who")], action="work")
    running = limiter.acquire(limits, Call({"who": "running"}))
    for who in range(10):
        limiter.acquire(limits, Call({"who": str(who)})).release()
    bench.advance(1000)
    assert not limiter.acquire(limits, Call({"who": "running"})).allowed
    assert len(store) == 1
    running.release()
    assert limiter.acquire(limits, Call({"who": "running"})).allowed


def test_neither_a_report_nor_an_observation_takes_its_name(app):
    names = []

    @app.action
    @app.rate_limit(Concurrency(2), name="places")
    @app.rate_limit("5/hour", name="vendor")
    def work(ctx: TaskContext):
        names.extend(ctx.limits.names)
        for change in (
            lambda: ctx.limits.report("places", used=1, reset_in=9),
            lambda: ctx.limits.observe(None, limit="places"),
        ):
            with pytest.raises(ValueError, match="no limit 'places'; it has 'vendor', '5/hour'"):
                change()
        return {}

    assert app.test_client().call("work").status == "success"
    assert names == ["vendor", "5/hour"]


@pytest.mark.parametrize("tell", ["report", "observe"])
def test_what_an_api_says_about_a_quota_of_the_same_name_changes_no_place(app, tell):
    headers = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}
    response = types.SimpleNamespace(status_code=200, headers=headers)

    @app.action
    @app.rate_limit(Concurrency(2), name="vendor")
    @app.rate_limit("10/hour", name="vendor")
    def work(ctx: TaskContext):
        if tell == "report":
            ctx.limits.report("vendor", used=1, reset_in=60)
        else:
            ctx.limits.observe(response, limit="vendor")
        return {}

    client = app.test_client()
    client.call("work")
    assert left(client) == [0, 2]


# Cooldowns.


@pytest.fixture
def throttled(app):
    """A client whose action raises what the test puts into `errors`, and its clock."""

    @app.action
    @app.rate_limit(Concurrency(2), key="payload.who")
    def work(ctx: TaskContext, who: str = "a", refund: int = 0):
        for _ in range(refund):
            ctx.limits.refund()
        if errors:
            raise errors.pop()
        return {}

    client, errors = app.test_client(), []
    client.errors = errors
    return client


def test_a_cooldown_refuses_the_calls_of_its_key(throttled):
    throttled.errors.append(RateLimited(30))
    results = [throttled.call("work", {"who": who}) for who in "aab"]
    assert [result.status.value for result in results] == ["limit", "limit", "success"]
    assert results[1].wait_time == 30


def test_a_call_that_a_cooldown_refuses_does_not_wait_for_the_calls_in_flight(app):
    limited(app, Concurrency(2), max_wait=5)
    client = app.test_client()
    (limit,) = client._runner._dispatcher.routes["work"].limits.limits
    limit.store.start_cooldown(limit.charges(b""), 30.0, 1.0)
    assert client.call("work").status == "limit"
    assert client.clock.monotonic() == 0


def test_a_probe_that_ends_well_ends_the_cooldown(throttled):
    throttled.errors.append(RateLimited(30))
    throttled.call("work", {"who": "a"})
    throttled.clock.advance(30)
    assert [throttled.call("work").status.value for _ in range(2)] == ["success"] * 2
    assert left(throttled, key="a") == [2]


def probing(throttled):
    """Return the decision over the probe of a cooldown, and a function that decides again."""
    throttled.errors.append(RateLimited(30))
    throttled.call("work", {"who": "a"})
    throttled.clock.advance(30)
    dispatcher = throttled._runner._dispatcher
    limits = dispatcher.routes["work"].limits

    def acquire():
        return dispatcher.limiter.acquire(limits, Call({"who": "a"}))

    return acquire(), acquire


def test_a_probe_that_is_taken_back_makes_the_next_call_the_probe(throttled):
    probe, acquire = probing(throttled)
    assert (probe.is_probing, acquire().allowed) == (True, False)
    probe.refund()
    after = acquire()
    assert (probe.is_probing, after.allowed, after.is_probing) == (False, True, True)


def test_a_probe_that_is_taken_back_twice_lets_one_other_call_in(throttled):
    probe, acquire = probing(throttled)
    probe.refund()
    acquire()
    probe.refund()
    assert not acquire().allowed


def test_a_probe_that_was_taken_back_ends_no_cooldown(throttled):
    probe, acquire = probing(throttled)
    probe.refund()
    probe.end_cooldown()
    probe.release()
    acquire()
    assert not acquire().allowed


# Its end.


def test_a_handler_that_fails_gives_its_place_back(app):
    @app.action
    @app.rate_limit(Concurrency(1))
    def work():
        raise ValueError("broken")

    client = app.test_client()
    assert (client.call("work").status, left(client)) == ("error", [1])


def test_a_hook_that_answers_instead_of_the_handler_gives_the_place_back(app):
    app.before_task(lambda ctx: {"cached": True})
    client = limited(app, Concurrency(1)).test_client()
    assert (client.call("work").data, left(client)) == ({"cached": True}, [1])


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
def test_a_hook_that_fails_gives_the_place_back(app, kind):
    def fail(*_):
        raise ValueError("broken")

    hook = {
        "before_task": lambda ctx: fail(),
        "after_task": lambda result, ctx: fail(),
        "teardown_task": lambda error, ctx: fail(),
    }[kind]
    getattr(app, kind)(hook)
    client = limited(app, Concurrency(1)).test_client()
    assert (client.call("work").status, left(client)) == ("error", [1])


def test_hooks_run_while_the_call_holds_its_place(app):
    seen = []
    app.before_task(lambda ctx: seen.append(left(client)))
    app.after_task(lambda result, ctx: seen.append(left(client)) or result)
    app.teardown_task(lambda error, ctx: seen.append(left(client)))
    client = limited(app, Concurrency(1)).test_client()
    client.call("work")
    assert (seen, left(client)) == ([[0], [0], [0]], [1])


def test_a_call_whose_payload_is_not_valid_takes_no_place(app):
    client = limited(app, Concurrency(1)).test_client()
    assert (client.call("work", {"seconds": "x"}).status, left(client)) == ("error", [1])


def test_between_two_tries_a_call_has_no_place(app):
    seen = []

    @app.action
    @app.rate_limit(Concurrency(1))
    @app.retry(on=ValueError, attempts=3, wait_initial=5, wait_jitter=0)
    def work():
        seen.append(left(client))
        raise ValueError("broken")

    client = app.test_client()
    advance = client.clock.advance
    client._runner._sleep = lambda seconds: seen.append(left(client)) or advance(seconds)
    assert (client.call("work").status, seen) == ("error", [[0], [1], [0], [1], [0]])
    assert left(client) == [1]


def test_a_try_that_finds_no_place_is_refused_and_holds_none(app):
    @app.action
    @app.rate_limit(Concurrency(1))
    @app.retry(on=ValueError, attempts=3, wait_initial=5, wait_jitter=0)
    async def work(fail: bool = False):
        if fail:
            raise ValueError("broken")
        await asyncio.sleep(5)
        return {}

    client = app.test_client()
    client._runner._sleep = lambda seconds: decisions.append(limiter.acquire(limits, Call()))
    dispatcher, decisions = client._runner._dispatcher, []
    limiter, limits = dispatcher.limiter, dispatcher.routes["work"].limits
    assert client.call("work", {"fail": True}).status == "limit"
    decisions[0].release()
    assert left(client) == [1]


def test_a_plain_handler_that_takes_too_long_gives_its_place_back_at_its_end(app):
    @app.action(timeout=1)
    @app.rate_limit(Concurrency(1))
    def work():
        client.clock.advance(2)
        seen.append(left(client))
        return {}

    client, seen = app.test_client(), []
    assert (client.call("work").status, seen, left(client)) == ("error", [[0]], [1])


def outliving(app, seconds):
    """Add an action ``work`` that ignores its timeout for some seconds."""

    @app.action(timeout=1)
    @app.rate_limit(Concurrency(1))
    async def work():
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while (rest := ends_at - loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(rest)
        return {}

    return app


def test_a_call_that_ends_after_its_timeout_gives_its_place_back_then(app):
    client = outliving(app, 5).test_client()

    async def main():
        call = asyncio.ensure_future(client.acall("work"))
        seen = []
        for _ in range(3):
            await asyncio.sleep(2)
            seen.append(left(client))
        return (await call).status, seen

    assert run_in_jumping_loop(main()) == ("error", [[0], [0], [1]])


def test_a_handler_that_runs_on_after_its_call_keeps_its_place(app, log):
    client = outliving(app, 30).test_client()

    async def main():
        await client.acall("work")
        before = left(client)
        await asyncio.sleep(30)
        return before, left(client)

    assert run_in_jumping_loop(main()) == ([0], [1])
    assert len(log()) == 1


def test_a_call_that_is_cancelled_gives_its_place_back(app):
    client = limited(app, Concurrency(1)).test_client()

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.acall("work", {"seconds": 50}), 5)
        return left(client)

    assert run_in_jumping_loop(main()) == [1]


def test_a_call_that_is_cancelled_while_it_waits_takes_no_place(app):
    client = limited(app, Concurrency(1), max_wait=30).test_client()

    async def main():
        first = asyncio.ensure_future(client.acall("work", {"seconds": 10}))
        await asyncio.sleep(1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.acall("work"), 1)
        await first
        return left(client)

    assert run_in_jumping_loop(main()) == [1]


@pytest.mark.parametrize("kind", ["async", "def"])
def test_a_call_that_is_interrupted_gives_its_place_back(app, monkeypatch, kind):
    def interrupt(*_):
        raise KeyboardInterrupt

    if kind == "async":
        limited(app, Concurrency(1))
    else:

        @app.action
        @app.rate_limit(Concurrency(1))
        def work():
            return {}

    client = app.test_client()
    monkeypatch.setattr(Dispatcher, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.call("work")
    assert left(client) == [1]
