"""Limits that handlers charge themselves, before each call of an API."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.redis_servers import RedisServer
from support.waiting import TIMEOUT
from support.workers import task, work_off

from arbprov import (
    Blueprint,
    ConfigurationError,
    Limit,
    ProviderApp,
    RateLimited,
    RateLimitMonitor,
    TaskContext,
)
from arbprov.limits import Limiter, MemoryStore, declare
from arbprov.limits.decision import Decision
from arbprov.limits.manual import Acquisition, current_limits
from arbprov.testing import VirtualClock


def calling(*limits, is_async=False, timeout=60.0, **action):
    """Return an app whose ``work`` acquires "vendor" `calls` times, and returns the times."""
    app = ProviderApp()

    def plain(ctx: TaskContext, calls: int = 1, cost: int = 0, max_wait: float = -1) -> list:
        times = []
        for _ in range(calls):
            ctx.limits.acquire("vendor", **arguments(cost, max_wait))
            times.append(round(ctx._clock.monotonic(), 3))
        return times

    async def awaiting(
        ctx: TaskContext, calls: int = 1, cost: int = 0, max_wait: float = -1
    ) -> list:
        times = []
        for _ in range(calls):
            await ctx.limits.aacquire("vendor", **arguments(cost, max_wait))
            times.append(round(ctx._clock.monotonic(), 3))
        return times

    handler = awaiting if is_async else plain
    app.action("work", timeout=timeout, **action)(handler)
    for limit, options in limits:
        app.rate_limit(limit, **({"name": "vendor", "manual": True} | options))(handler)
    return app


def arguments(cost, max_wait):
    given = {"cost": cost} if cost else {}
    return given if max_wait < 0 else given | {"max_wait": max_wait}


def each_kind(test):
    return pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])(test)


# What is charged.


@each_kind
def test_a_task_is_charged_only_what_its_handler_acquires(is_async):
    client = calling(("10/hour", {}), is_async=is_async).test_client()
    client.call("work", {"calls": 0})
    client.call("work", {"calls": 3})
    assert client.limits.headroom("work")[0].remaining == 7


@each_kind
def test_a_used_up_limit_ends_the_task_as_limit_with_its_wait(is_async):
    client = calling(("2/hour", {}), is_async=is_async).test_client()
    result = client.call("work", {"calls": 3})
    assert (result.status.value, result.wait_time) == ("limit", 3600)
    assert result.data["limits"] == [{"limit": "2/hour", "remaining": 0, "wait_time": 3600}]
    assert result.data["limit"] == "vendor"


@each_kind
def test_a_handler_can_catch_the_refusal(is_async):
    app = ProviderApp()

    @app.rate_limit("1/hour", name="vendor", manual=True)
    def work(ctx: TaskContext):
        ctx.limits.acquire("vendor")
        try:
            ctx.limits.acquire("vendor")
        except RateLimited as error:
            return [error.limit, error.retry_after]

    @app.rate_limit("1/hour", name="other", manual=True)
    async def awaiting(ctx: TaskContext):
        await ctx.limits.aacquire("other")
        try:
            await ctx.limits.aacquire("other")
        except RateLimited as error:
            return [error.limit, error.retry_after]

    app.action("work")(awaiting if is_async else work)
    app.action("rest")(work if is_async else awaiting)
    name = "other" if is_async else "vendor"
    assert app.test_client().call("work").data == [name, 3600]


@each_kind
def test_a_cost_is_the_declaration_s_unless_it_is_given(is_async):
    client = calling(("10/hour", {"cost": 2}), is_async=is_async).test_client()
    client.call("work")
    client.call("work", {"cost": 3})
    assert client.limits.headroom("work")[0].remaining == 5


def test_a_cost_may_be_a_function_of_the_call():
    client = calling(("10/hour", {"cost": lambda call: call.payload["calls"]})).test_client()
    client.call("work", {"calls": 3})
    assert [c.allowed for c in client.limits.counts()] == [3]
    assert client.call("work", {"calls": 2}).wait_time == 3600


def test_all_limits_of_the_name_are_charged_or_none():
    app = calling(("10/hour", {}), ("2/minute", {"key": "account.id"}))
    client = app.test_client()
    refused = client.call("work", {"calls": 3}, account={"id": 1})
    assert refused.wait_time == 60
    assert [h.remaining for h in client.limits.headroom("work", key=1)] == [8, 0]


def test_limits_of_another_name_are_not_charged():
    client = calling(("10/hour", {}), ("10/day", {"name": "other"})).test_client()
    client.call("work", {"calls": 3})
    assert [h.remaining for h in client.limits.headroom("work")] == [7, 10]


def test_it_shares_its_count_with_other_actions_and_with_a_limit_that_is_not_manual():
    app = calling(("10/hour", {}))
    app.action("other")(app.rate_limit("10/hour", name="vendor")(lambda: None))
    client = app.test_client()
    client.call("other")
    client.call("work", {"calls": 2})
    assert [client.limits.headroom(name)[0].remaining for name in ("work", "other")] == [7, 7]


def test_the_limits_that_are_not_manual_admit_the_task_as_always():
    client = calling(("10/hour", {}), ("1/hour", {"name": None, "manual": False})).test_client()
    assert [client.call("work", {"calls": 2}).status.value for _ in range(2)] == [
        "success",
        "limit",
    ]
    assert [h.remaining for h in client.limits.headroom("work")] == [0, 8]


def test_each_key_has_its_own_count():
    client = calling(("1/hour", {"key": "account.id"})).test_client()
    statuses = [client.call("work", account={"id": one}).status.value for one in (1, 2, 1)]
    assert statuses == ["success", "success", "limit"]


def test_a_missing_key_is_an_error_of_the_task():
    result = calling(("1/hour", {"key": "account.id"})).test_client().call("work")
    assert result.status.value == "error"
    assert [problem["path"] for problem in result.problems] == ["account.id"]


def test_a_key_sees_the_values_that_the_handler_gets():
    client = calling(("1/hour", {"key": "payload.calls"})).test_client()
    client.call("work")
    assert client.limits.headroom("work", key=1)[0].remaining == 0


def test_a_shadow_limit_only_counts():
    client = calling(("1/hour", {"shadow": True})).test_client()
    assert client.call("work", {"calls": 3}).status.value == "success"
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied) == (1, 2)


def test_a_limit_of_a_blueprint_s_action():
    app, blueprint = ProviderApp(), Blueprint("reports")

    @blueprint.action
    @blueprint.rate_limit("5/hour", name="vendor", manual=True)
    def work(ctx: TaskContext):
        ctx.limits.acquire("vendor")

    app.register_blueprint(blueprint)
    client = app.test_client()
    client.call("work")
    assert client.limits.headroom("work")[0].remaining == 4


@each_kind
def test_hooks_acquire_too(is_async):
    app = calling(("5/hour", {}), is_async=is_async)

    @app.before_task
    async def ask(ctx):
        await ctx.limits.aacquire("vendor", cost=2)

    client = app.test_client()
    client.call("work")
    assert client.limits.headroom("work")[0].remaining == 2


# Waiting.


@each_kind
def test_a_handler_waits_for_its_turn(is_async):
    app = calling(("2/10s", {"max_wait": 30}), is_async=is_async)
    assert app.test_client().call("work", {"calls": 5}).data == [0, 0, 10, 10, 20]


@each_kind
def test_a_given_max_wait_replaces_the_declaration_s(is_async):
    client = calling(("1/10s", {}), is_async=is_async).test_client()
    assert client.call("work", {"calls": 2, "max_wait": 10}).data == [0, 10]
    client.clock.advance(10)
    assert client.call("work", {"calls": 2, "max_wait": 9}).wait_time == 10


@each_kind
def test_without_max_wait_nothing_waits(is_async):
    client = calling(("1/10s", {}), is_async=is_async).test_client()
    assert client.call("work", {"calls": 2}).wait_time == 10
    assert client.clock.monotonic() == 0


@each_kind
def test_a_wait_that_the_deadline_does_not_allow_is_refused_at_once(is_async):
    app = calling(("1/10s", {"max_wait": 100}), is_async=is_async, timeout=15)
    client = app.test_client()
    result = client.call("work", {"calls": 3})
    assert (result.status.value, result.wait_time, client.clock.monotonic()) == ("limit", 10, 10)


@each_kind
def test_the_count_says_who_has_waited(is_async):
    client = calling(("2/10s", {"max_wait": 30}), is_async=is_async).test_client()
    client.call("work", {"calls": 3})
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.waited, counts.denied) == (3, 1, 0)


def test_the_smallest_max_wait_of_a_name_counts():
    app = calling(("1/10s", {"max_wait": 30}), ("5/hour", {"max_wait": 5}))
    assert app.test_client().call("work", {"calls": 2}).wait_time == 10


def test_calls_of_one_handler_go_in_their_order():
    app, order = ProviderApp(), []

    @app.action(timeout=60)
    @app.rate_limit("1/second", name="vendor", manual=True, max_wait=30)
    async def work(ctx: TaskContext):
        async def call(number):
            await ctx.limits.aacquire("vendor")
            order.append((number, ctx.now.second))

        await asyncio.gather(*map(call, range(4)))

    app.test_client().call("work")
    assert order == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_a_call_that_may_not_wait_does_not_overtake():
    app, outcomes = ProviderApp(), []

    @app.action(timeout=60)
    @app.rate_limit("1/second", name="vendor", manual=True)
    async def work(ctx: TaskContext):
        async def call(max_wait):
            try:
                await ctx.limits.aacquire("vendor", max_wait=max_wait)
                outcomes.append(max_wait)
            except RateLimited as error:
                outcomes.append(-error.retry_after)

        waiting = asyncio.gather(*map(call, (9, 8, 7)))
        await asyncio.sleep(0.5)
        await call(0)
        await call(2.5)
        await waiting

    app.test_client().call("work")
    # The first waits for no one; behind 8 and 7, the next calls would wait for 2.5 s.
    assert outcomes == [9, -2.5, 8, 7, 2.5]


def test_plain_handlers_under_acall_wait_by_the_clock():
    client = calling(("1/10s", {"max_wait": 30})).test_client()
    assert asyncio.run(client.acall("work", {"calls": 2})).data == [0, 10]


def test_invoke_waits_for_real():
    app = calling(("1/s", {"max_wait": 30}))
    first, second = app.invoke("work", {"calls": 2}).data
    assert second - first >= 0.99


# In a worker.


def test_handlers_of_a_worker_wait_first_come_first_served():
    app = calling(("1/second", {"max_wait": 30}), is_async=True)
    tasks = [task(number / 100, f"t{number}", calls=1) for number in range(5)]
    assert work_off(app, *tasks, max_task_timeout=60) == [
        (0, "t0", "success"),
        (1, "t1", "success"),
        (2, "t2", "success"),
        (3, "t3", "success"),
        (4, "t4", "success"),
    ]


def test_a_task_that_waits_for_admission_and_a_handler_share_the_queue():
    app = calling(("1/second", {"max_wait": 30}), is_async=True)

    @app.action
    @app.rate_limit("1/second", name="vendor", max_wait=30)
    async def other():
        pass

    tasks = [
        task(0, "a0", calls=1),
        task(0.1, "b1", action="other"),
        task(0.2, "a2", calls=1),
        task(0.3, "b3", action="other"),
    ]
    results = work_off(app, *tasks, max_task_timeout=60)
    assert [each[:2] for each in results] == [(0, "a0"), (1, "b1"), (2, "a2"), (3, "b3")]


def test_a_handler_that_waits_at_a_stop_is_refused_at_once():
    app = calling(("1/minute", {"max_wait": 70}), is_async=True, timeout=90)
    results = work_off(app, task(0, "t1"), task(0, "t2"), until=5, max_task_timeout=60)
    assert results == [(0, "t1", "success"), (5, "t2", "limit")]


def test_after_a_stop_nothing_waits():
    app = ProviderApp()

    @app.action(timeout=90)
    @app.rate_limit("1/minute", name="vendor", manual=True, max_wait=60)
    async def work(ctx: TaskContext):
        await ctx.limits.aacquire("vendor")
        await asyncio.sleep(6)
        await ctx.limits.aacquire("vendor")

    assert work_off(app, task(0, "t1"), until=5, max_task_timeout=60) == [(6, "t1", "limit")]


# Wrong uses.


def refused(limit="1/hour", **options):
    with pytest.raises(ConfigurationError) as raised:
        declare(limit, manual=True, **options)
    return str(raised.value)


def test_a_manual_limit_needs_a_name():
    assert refused() == (
        'manual=True needs a name, such as name="vendor", for ctx.limits.acquire("vendor")'
    )


def test_a_monitor_can_not_be_manual():
    class Monitor(RateLimitMonitor):
        pass

    assert "a handler asks" in refused(Monitor(), name="vendor")


@pytest.mark.parametrize("scope", ["app", "blueprint"])
def test_a_scope_would_do_nothing(scope):
    assert f"scope={scope!r} does nothing" in refused(name="vendor", scope=scope)


def test_manual_is_true_or_false():
    with pytest.raises(ConfigurationError, match="manual='yes' must be True or False"):
        declare("1/hour", name="vendor", manual="yes")


def error_of(call, *limits, **account):
    """Return the text of the error that a handler has raised."""
    app = ProviderApp()

    def work(ctx: TaskContext):
        call(ctx.limits)

    for limit, options in limits:
        app.rate_limit(limit, **options)(work)
    app.action("work")(work)
    return app.test_client().call("work").message


VENDOR = ("10/hour", {"name": "vendor", "manual": True})


def test_a_name_that_no_manual_limit_has_is_an_error():
    message = error_of(lambda limits: limits.acquire("other"), VENDOR, ("9/day", {"name": "other"}))
    assert message == "this call has no manual limit 'other'; it has 'vendor'"


@each_kind
def test_an_action_without_manual_limits_says_so(is_async):
    app = ProviderApp()

    async def awaiting(ctx: TaskContext):
        await ctx.limits.aacquire("vendor")

    def plain(ctx: TaskContext):
        ctx.limits.acquire("vendor")

    app.action("work")(awaiting if is_async else plain)
    message = app.test_client().call("work").message
    assert message == "this call has no manual limit 'vendor'; it has none"


@pytest.mark.parametrize("cost", [0, -1, 1.5, True, "1"])
def test_a_cost_is_a_whole_number_above_0(cost):
    message = error_of(lambda limits: limits.acquire("vendor", cost=cost), VENDOR)
    assert message == f"cost={cost!r} is not a whole number above 0"


@pytest.mark.parametrize("max_wait", [-1, float("nan"), float("inf"), "5", True])
def test_a_max_wait_is_a_number_of_seconds(max_wait):
    message = error_of(lambda limits: limits.acquire("vendor", max_wait=max_wait), VENDOR)
    assert message == f"max_wait={max_wait!r} is not a number of seconds, 0 or above"


def test_a_cost_that_can_never_be_met_is_an_error():
    message = error_of(lambda limits: limits.acquire("vendor", cost=11), VENDOR)
    assert message == (
        "a cost of 11 can never be met by 10/hour; lower the cost or raise the limit"
    )


def test_a_cost_above_the_burst_is_an_error_too():
    limit = "60/minute burst 10", {"name": "vendor", "manual": True}
    message = error_of(lambda limits: limits.acquire("vendor", cost=11), limit)
    assert "a cost of 11 can never be met by 60/minute burst 10" in message


def test_acquire_on_the_event_loop_names_aacquire():
    app = ProviderApp()

    @app.action
    @app.rate_limit("10/hour", name="vendor", manual=True)
    async def work(ctx: TaskContext):
        ctx.limits.acquire("vendor")

    message = app.test_client().call("work").message
    assert message == (
        "ctx.limits.acquire(...) would block the event loop that runs here; write "
        "`await ctx.limits.aacquire(...)`"
    )
    assert work_off(app, task(0, "t1")) == [(0, "t1", "error")]


@each_kind
def test_the_limits_of_a_task_that_has_ended_are_of_no_use(is_async):
    app, kept = calling(VENDOR, is_async=is_async), []
    app.before_task(lambda ctx: kept.append(ctx.limits))
    app.test_client().call("work")
    with pytest.raises(RuntimeError, match="the task has ended, and with it the use of its limits"):
        kept[0].acquire("vendor")
    with pytest.raises(RuntimeError, match="the task has ended"):
        _ = kept[0].headroom


# Cooldowns.


def throttling(*limits):
    """Return an app whose ``work`` acquires "vendor" and is throttled if the payload says so."""
    app = ProviderApp(execution_timeout=60)

    @app.action
    def work(ctx: TaskContext, throttled: float = 0, limit: str = "", max_wait: float = 0):
        ctx.limits.acquire("vendor", max_wait=max_wait)
        if throttled:
            raise RateLimited(throttled, limit or None)

    for limit, options in limits:
        app.rate_limit(limit, **options)(work)
    return app


@pytest.mark.parametrize("limit", ["vendor", "10/hour", "no such", ""])
def test_a_throttled_call_starts_the_cooldown_of_the_manual_limit(limit):
    client = throttling(VENDOR).test_client()
    client.call("work", {"throttled": 30, "limit": limit})
    client.clock.advance(10)
    result = client.call("work")
    assert result.wait_time == 20
    assert result.data["cooldown"] == {"action": "work", "until": "2026-01-01T00:00:30+00:00"}
    client.clock.advance(20)
    assert [client.call("work").status.value for _ in range(2)] == ["success"] * 2


def test_a_limit_that_is_named_has_the_cooldown_alone():
    client = throttling(VENDOR, ("10/day", {})).test_client()
    client.call("work", {"throttled": 30, "limit": "vendor"})
    assert [h.wait_time for h in client.limits.headroom("work")] == [0, 30]


def test_a_refusal_by_the_limit_itself_starts_no_cooldown():
    client = throttling(("1/10s", {"name": "vendor", "manual": True})).test_client()
    client.call("work")
    client.clock.advance(5)
    assert client.call("work").wait_time == 5
    client.clock.advance(5)
    assert [client.call("work").status.value for _ in range(2)] == ["success", "limit"]
    assert [(c.denied, c.gated) for c in client.limits.counts()] == [(2, 0)]


def test_a_refusal_in_a_group_of_tasks_starts_no_cooldown():
    if not hasattr(asyncio, "TaskGroup"):
        pytest.skip("needs a TaskGroup")
    app = ProviderApp()

    @app.action
    @app.rate_limit("1/10s", name="vendor", manual=True)
    async def work(ctx: TaskContext):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(ctx.limits.aacquire("vendor"))

    client = app.test_client()
    assert client.call("work").wait_time == 10
    client.clock.advance(10)
    assert client.limits.headroom("work")[0].wait_time == 0


def test_a_handler_waits_out_a_cooldown():
    client = throttling(VENDOR).test_client()
    client.call("work", {"throttled": 30})
    assert client.call("work", {"max_wait": 30}).status.value == "success"
    assert client.clock.monotonic() == 30


def test_a_handler_that_goes_first_after_a_cooldown_goes_on():
    app = ProviderApp()

    @app.action
    @app.rate_limit("10/hour", name="vendor", manual=True)
    @app.rate_limit("10/hour", name="other", manual=True)
    def work(ctx: TaskContext, calls: int = 3, throttled: float = 0):
        for _ in range(calls):
            ctx.limits.acquire("vendor")
            ctx.limits.acquire("other")
        if throttled:
            raise RateLimited(throttled)

    client = app.test_client()
    client.call("work", {"calls": 1, "throttled": 30})
    client.clock.advance(30)
    assert client.call("work").status.value == "success"


def test_only_one_call_goes_first_after_a_cooldown():
    app, log = ProviderApp(), []

    @app.action(timeout=60)
    @app.rate_limit("10/hour", name="vendor", manual=True)
    async def work(ctx: TaskContext, seconds: float = 0, throttled: float = 0):
        await ctx.limits.aacquire("vendor")
        if throttled:
            raise RateLimited(throttled)
        log.append(ctx.id)
        await asyncio.sleep(seconds)

    results = work_off(
        app,
        task(0, "t0", throttled=5),
        task(6, "probe", seconds=2),
        task(7, "early"),
        task(9, "late"),
    )
    assert results == [
        (0, "t0", "limit"),
        (7, "early", "limit"),
        (8, "probe", "success"),
        (9, "late", "success"),
    ]


# What is seen of it.


def test_the_headroom_of_a_call_has_what_it_acquired():
    app, seen = ProviderApp(), []

    @app.action
    @app.rate_limit("5/hour")
    @app.rate_limit("10/day", name="vendor", manual=True)
    def work(ctx: TaskContext):
        seen.append([h.remaining for h in ctx.limits.headroom])
        ctx.limits.acquire("vendor", cost=3)
        seen.append([h.remaining for h in ctx.limits.headroom])
        seen.append((list(ctx.limits.names), ctx.limits.allowed, ctx.limits.wait_time))

    app.test_client().call("work")
    assert seen == [[4], [4, 7], (["5/hour", "vendor", "10/day"], True, 0)]


def test_a_report_corrects_a_manual_limit():
    app = ProviderApp()

    @app.action
    @app.rate_limit("10/day", name="vendor", manual=True)
    def work(ctx: TaskContext):
        ctx.limits.report("vendor", used=0.5, reset_in=60)

    client = app.test_client()
    client.call("work")
    assert client.limits.headroom("work")[0].remaining == 5


def test_a_refund_leaves_what_was_acquired():
    app = ProviderApp()

    @app.action
    @app.rate_limit("5/hour")
    @app.rate_limit("10/day", name="vendor", manual=True)
    def work(ctx: TaskContext):
        ctx.limits.acquire("vendor")
        ctx.limits.refund()

    client = app.test_client()
    client.call("work")
    assert [h.remaining for h in client.limits.headroom("work")] == [5, 9]


def test_the_state_says_that_a_limit_is_manual():
    states = calling(VENDOR, ("5/day", {"name": None, "manual": False})).test_client().limits
    found = [(state.limit, state.manual) for state in states.states("work", {})]
    assert found == [("5/day", False), ("10/hour", True)]


def test_a_declaration_says_that_it_is_manual():
    assert str(declare("1/hour", name="v", manual=True, shadow=True)) == "1/hour (shadow, manual)"


@each_kind
def test_code_that_a_handler_calls_finds_its_limits(is_async):
    app, seen = calling(VENDOR, is_async=is_async), []
    app.before_task(lambda ctx: seen.append(current_limits.get() is ctx.limits))
    app.action("free")(lambda: seen.append(current_limits.get()))
    client = app.test_client()
    client.call("work")
    client.call("free")
    assert seen == [True, False, None]


# In threads, loops and stores.


def test_threads_of_a_handler_acquire_at_the_same_time():
    app = ProviderApp(execution_timeout=60)

    @app.action
    @app.rate_limit("10/hour", name="vendor", manual=True)
    def work(ctx: TaskContext):
        def ask(_):
            try:
                ctx.limits.acquire("vendor")
            except RateLimited:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(ask, range(25)))

    assert app.test_client().call("work").data == 10


def acquisition(limiter, limits, max_wait):
    class Call:
        action, payload, account = "work", {}, {}

    return Acquisition(limiter, limits.manual["vendor"], Call, None, max_wait)


class BlockingStore(MemoryStore):
    """Blocks as a store on a server does, and notes its threads.

    Its time passes with each second refusal: by then, a call waits.
    """

    blocks = True

    def __init__(self, clock):
        super().__init__(clock)
        self.clock = clock
        self.refusals = 0
        self.threads = set()

    def acquire(self, charges):
        self.threads.add(threading.current_thread().name)
        receipt = super().acquire(charges)
        if receipt is None:
            self.refusals += 1
            self.clock.advance(0.2 if self.refusals % 2 == 0 else 0)
        return receipt


def run_admission(test):
    """Run an async function of an `Admission`, and of its limiter with one "vendor" per 0.1 s."""
    from arbprov.executors.threads import ThreadPool
    from arbprov.worker.admission import Admission

    clock = VirtualClock()
    store = BlockingStore(clock)
    limiter = Limiter(clock, lambda declaration: store)
    limits = limiter.compile([declare(Limit(1, 0.1), name="vendor", manual=True)], action="work")

    async def main():
        loop = asyncio.get_running_loop()
        pool = ThreadPool(loop, "pool")
        admission = Admission(None, pool, None, 8, loop.create_future())
        try:
            return await asyncio.wait_for(test(admission, limiter, limits, store), TIMEOUT)
        finally:
            pool.close()

    return asyncio.run(main())


def test_a_store_that_blocks_is_asked_on_a_thread():
    async def test(admission, limiter, limits, store):
        await admission.aacquire(acquisition(limiter, limits, TIMEOUT))
        first, last = await admission.aacquire(acquisition(limiter, limits, TIMEOUT))
        return first.allowed, last.allowed, store.threads

    assert run_admission(test) == (False, True, {"pool-1"})


def test_a_handler_s_thread_asks_itself_and_waits_on_the_loop():
    async def test(admission, limiter, limits, store):
        def acquire():
            return [admission.acquire(acquisition(limiter, limits, TIMEOUT)) for _ in range(2)]

        decisions = await asyncio.to_thread(acquire)
        return [(first.allowed, last.allowed) for first, last in decisions], len(store.threads)

    assert run_admission(test) == ([(True, True), (False, True)], 2)


def test_a_handler_s_thread_waits_behind_those_that_wait():
    async def test(admission, limiter, limits, store):
        order = []
        await admission.aacquire(acquisition(limiter, limits, TIMEOUT))

        async def wait():
            await admission.aacquire(acquisition(limiter, limits, TIMEOUT))
            order.append("loop")

        waiting = asyncio.create_task(wait())
        while not len(admission._turns):
            await asyncio.sleep(0.001)

        def acquire():
            admission.acquire(acquisition(limiter, limits, TIMEOUT))
            order.append("thread")

        await asyncio.gather(asyncio.to_thread(acquire), waiting)
        return order

    assert run_admission(test) == ["loop", "thread"]


def test_a_thread_that_may_not_wait_is_refused_without_the_loop():
    async def test(admission, limiter, limits, store):
        await admission.aacquire(acquisition(limiter, limits, 0))
        _, last = await asyncio.to_thread(admission.acquire, acquisition(limiter, limits, 0))
        return last.allowed

    assert run_admission(test) is False


def test_a_loop_of_a_plain_handler_waits_in_the_worker_s_queue():
    async def test(admission, limiter, limits, store):
        async def acquire():
            for _ in range(2):
                first, last = await admission.aacquire(acquisition(limiter, limits, TIMEOUT))
            return first.allowed, last.allowed

        return await asyncio.to_thread(asyncio.run, acquire())

    assert run_admission(test) == (False, True)


def test_what_an_api_says_is_stored_on_a_thread_if_that_blocks(caplog):
    async def test(admission, limiter, limits, store):
        done = threading.Event()
        threads = []

        def change():
            threads.append(threading.current_thread().name)
            done.set()

        admission.tell(limits, change)
        await asyncio.to_thread(done.wait)
        admission.tell(limiter.compile([], action="free"), change)
        admission.tell(limits, lambda: 1 / 0)
        while not caplog.messages:
            await asyncio.sleep(0.001)
        return threads

    assert run_admission(test) == ["pool-1", "MainThread"]
    assert caplog.messages == [
        "what an API says about its quota could not be stored: division by zero"
    ]


def raises_rate_limited(key):
    app = ProviderApp()

    @app.action
    @app.rate_limit("5/minute", key=key, name="vendor", manual=True)
    async def work() -> None:
        raise RateLimited(3)

    @app.action
    async def other() -> None: ...

    return app


def leave(call):
    raise SystemExit


@pytest.mark.parametrize("key", ["payload.region", leave])
def test_a_limit_that_a_call_can_not_be_charged_to_does_not_end_the_worker(key):
    app = raises_rate_limited(key)
    results = work_off(app, task(0, "t1"), task(1, "t2", "other"))
    assert [status for _, _, status in results] == ["limit", "success"]


def test_a_limit_whose_key_is_missing_does_not_keep_another_from_its_report():
    app = ProviderApp()

    @app.action
    @app.rate_limit("5/minute", key="payload.region", name="regional", manual=True)
    @app.rate_limit("10/minute", name="vendor", manual=True)
    def work(ctx: TaskContext) -> int:
        ctx.limits.report("vendor", used=0.5, reset_in=60)
        ctx.limits.acquire("vendor")
        return ctx.limits.headroom[0].remaining

    assert app.test_client().call("work").data == 4


def test_a_limit_in_redis_is_shared():
    server = RedisServer()
    try:
        first, second = (
            calling(("3/hour", {"store": server.url}), is_async=is_async)
            for is_async in (False, True)
        )
        assert first.invoke("work", {"calls": 2}).status.value == "success"
        assert second.invoke("work", {"calls": 2}).status.value == "limit"
        assert second.limits.headroom("work")[0].remaining == 0
    finally:
        server.close()


def test_a_decision_without_limits_is_not_asked():
    with pytest.raises(ValueError, match="no manual limit 'vendor'; it has none"):
        Decision().acquire("vendor")
