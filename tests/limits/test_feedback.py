"""Feedback from an API: cooldowns that its refusals start, and usage that it reports."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from datetime import datetime, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from attrs import evolve
from support.waiting import wait_until
from support.workers import task, work_off

from arbprov import (
    Calendar,
    Limit,
    ProviderApp,
    RateLimited,
    RateLimitMonitor,
    TaskContext,
    TokenBucket,
)
from arbprov.limits import Charge, Limiter, MemoryStore, declare, parse_limits
from arbprov.limits.decision import Decision
from arbprov.testing import VirtualClock


def throttled(*limits, **raised):
    """Return an app whose ``work`` is throttled by its API when the payload says so."""
    app = ProviderApp()

    def work(throttled: float = 0, key: str = "a"):
        if throttled:
            raise RateLimited(throttled, **raised)
        return {}

    app.action(work)
    for limit, options in limits:
        app.rate_limit(limit, **options)(work)
    return app


def by_key(call):
    return call.payload.get("key", "a")


BY_KEY = ("100/hour", {"key": by_key})
FOR_ALL = ("1000/day", {})


def statuses(client, *payloads):
    return [client.call("work", payload).status.value for payload in payloads]


def test_a_throttled_handler_s_task_ends_with_the_wait():
    result = throttled(BY_KEY).test_client().call("work", {"throttled": 30})
    assert (result.status, result.wait_time) == ("limit", 30)


def test_a_throttled_handler_starts_a_cooldown_of_its_retry_after():
    client = throttled(BY_KEY).test_client()
    client.call("work", {"throttled": 30})
    client.clock.advance(29.9)
    early = client.call("work")
    client.clock.advance(0.1)
    assert (early.status, client.call("work").status) == ("limit", "success")


def test_a_refusal_in_a_cooldown_says_when_it_ends():
    client = throttled(BY_KEY).test_client()
    client.call("work", {"throttled": 30})
    client.clock.advance(10)
    assert client.call("work").wait_time == 20


def test_a_refusal_in_a_cooldown_charges_nothing():
    client = throttled(BY_KEY).test_client()
    statuses(client, {"throttled": 30}, {}, {}, {})
    assert client.limits.headroom("work", "a")[0].remaining == 99


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_handlers_of_both_kinds_start_cooldowns(kind):
    app = ProviderApp()

    async def waits():
        raise RateLimited(30)

    def plain():
        raise RateLimited(30)

    app.action("work")(app.rate_limit("100/hour")(waits if kind == "async" else plain))
    client = app.test_client()
    waits = [client.call("work").wait_time for _ in range(2)]
    client.clock.advance(30)
    assert waits == [30, 30]


def test_a_cooldown_starts_even_if_an_errorhandler_answers():
    app = throttled(BY_KEY)
    app.errorhandler(RateLimited)(lambda error: {"sorry": True})
    client = app.test_client()
    client.call("work", {"throttled": 30})
    assert client.limits.headroom("work", "a")[0].wait_time == 30


def test_a_cooldown_starts_even_if_the_limit_was_refunded():
    app = ProviderApp()

    @app.action
    @app.rate_limit("100/hour")
    def work(ctx: TaskContext):
        ctx.limits.refund()
        raise RateLimited(30)

    client = app.test_client()
    assert statuses(client, {}, {}) == ["limit", "limit"]
    assert client.limits.headroom("work")[0].remaining == 100


def test_a_cooldown_is_for_its_key_only():
    client = throttled(BY_KEY, FOR_ALL).test_client()
    assert statuses(client, {"throttled": 30}, {"key": "b"}, {}) == ["limit", "success", "limit"]


def test_without_any_key_a_cooldown_is_for_all_calls():
    client = throttled(FOR_ALL).test_client()
    assert statuses(client, {"throttled": 30}, {"key": "b"}) == ["limit", "limit"]


@pytest.mark.parametrize("name", ["1000/day", "vendor"])
def test_a_limit_that_the_error_names_has_the_cooldown(name):
    app = throttled(BY_KEY, ("1000/day", {"name": "vendor"}), limit=name)
    client = app.test_client()
    assert statuses(client, {"throttled": 30}, {"key": "b"}) == ["limit", "limit"]


def test_a_name_that_no_limit_has_starts_the_cooldowns_of_the_keys():
    client = throttled(BY_KEY, FOR_ALL, limit="no such").test_client()
    assert statuses(client, {"throttled": 30}, {"key": "b"}, {}) == ["limit", "success", "limit"]


def test_without_limits_there_is_no_cooldown():
    client = throttled().test_client()
    assert statuses(client, {"throttled": 30}, {}) == ["limit", "success"]


def test_an_action_with_its_own_limit_starts_no_cooldown_of_other_actions():
    app = ProviderApp(rate_limit="100/hour")

    @app.action
    @app.rate_limit("50/hour")
    def throttled():
        raise RateLimited(30)

    app.action("work")(lambda: None)
    client = app.test_client()
    client.call("throttled")
    assert [client.call(name).status.value for name in ("work", "throttled")] == [
        "success",
        "limit",
    ]


def test_all_actions_that_share_the_limit_are_refused_in_its_cooldown():
    app = throttled(("100/hour", {"name": "vendor"}))
    app.action("other")(app.rate_limit("100/hour", name="vendor")(lambda: None))
    client = app.test_client()
    client.call("work", {"throttled": 30})
    assert client.call("other").status == "limit"


def test_a_refusal_in_a_cooldown_is_counted_as_such():
    client = throttled(BY_KEY).test_client()
    statuses(client, {}, {"throttled": 30}, {}, {})
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied, counts.gated) == (2, 2, 2)


def test_a_retry_that_is_no_time_is_the_handler_s_error():
    for nonsense in (math.nan, math.inf, None, True, "soon", "", 10**400, b"\xff", [30]):
        with pytest.raises(ValueError, match="retry_after must be a number of seconds"):
            RateLimited(nonsense)


@pytest.mark.parametrize("asked", [0, -5, "0", "-0.5", 0.0])
def test_an_api_that_asks_for_no_time_starts_a_short_cooldown(asked):
    app = ProviderApp()

    @app.action
    @app.rate_limit("100/hour")
    def work():
        raise RateLimited(asked)

    client = app.test_client()
    results = [client.call("work") for _ in range(2)]
    assert [(result.status.value, result.wait_time) for result in results] == [("limit", 1.0)] * 2


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("30", 30), (" 1.5 ", 1.5), (Decimal(2), 2), (0.25, 0.25), ("1e308", 366 * 86_400)],
    ids=repr,
)
def test_a_retry_may_be_the_text_of_a_header(asked, seconds):
    assert RateLimited(asked).retry_after == seconds


def test_a_refusal_in_a_cooldown_says_which_action_the_api_throttled_and_until_when():
    client = throttled(BY_KEY).test_client()
    client.call("work", {"throttled": 30})
    result = client.call("work")
    until = "2026-01-01T00:00:30+00:00"
    assert result.message == (
        f"The API has throttled the action 'work': no calls of this limit until {until}"
    )
    assert result.data["cooldown"] == {"action": "work", "until": until}
    assert [limit["remaining"] for limit in result.data["limits"]] == [0]


def test_a_cooldown_of_unknown_origin_names_no_action():
    decision = Decision(
        [
            evolve(
                charge(),
                wait_time=5.0,
                in_cooldown=True,
                limit=SimpleNamespace(text="5/hour", monitor=None),
            )
        ]
    )
    error = decision.refusal(datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert error.reason.startswith("The API has throttled a call: no calls of this limit until")
    assert error.details["cooldown"]["action"] is None


def test_a_refusal_by_usage_says_nothing_of_a_cooldown():
    app = ProviderApp(rate_limit="1/hour")
    app.action("work")(lambda: None)
    client = app.test_client()
    result = [client.call("work") for _ in range(2)][1]
    assert (result.message, "cooldown" in result.data) == ("Rate limit exceeded", False)


# In the store.


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


def charge(key="a"):
    (policy,) = parse_limits("100/hour")
    (algorithm,) = policy.algorithms(VirtualClock())
    return Charge("100/hour", key.encode(), algorithm, 1)


def wait_time(store, key="a"):
    asked = charge(key)
    store.peek([asked])
    return asked.wait_time


@pytest.mark.parametrize(("first", "second"), [(30, 10), (10, 30)], ids=str)
def test_a_cooldown_never_becomes_shorter(store, first, second):
    for seconds in (first, second):
        store.start_cooldown([charge()], seconds, 2)
    assert wait_time(store) == 30


def test_after_a_cooldown_one_call_is_the_probe(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(30)
    first, second = store.acquire([charge()]), store.acquire([charge()])
    assert (first.probing, second) == (True, None)


def test_when_the_probe_has_ended_well_all_calls_are_admitted(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(30)
    first = store.acquire([charge()])
    store.end_cooldown(first.charges)
    assert [store.acquire([charge()]).probing for _ in range(3)] == [False] * 3


def test_a_probe_that_is_throttled_starts_a_new_cooldown(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(30)
    first = store.acquire([charge()])
    store.start_cooldown([charge()], 50, 2)
    store.end_cooldown(first.charges)
    assert wait_time(store) == 50


def test_a_probe_that_is_lost_is_waited_for_until_its_timeout(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(30)
    store.acquire([charge()])
    waits = [wait_time(store)]
    clock.advance(2)
    assert (waits, store.acquire([charge()]).probing) == ([2], True)


def test_a_new_cooldown_does_not_wait_for_the_probe_that_started_it(store, clock):
    store.start_cooldown([charge()], 30, 300)
    clock.advance(30)
    store.acquire([charge()])
    store.start_cooldown([charge()], 10, 300)
    waits = [wait_time(store)]
    clock.advance(10)
    assert (waits, store.acquire([charge()]).probing) == ([10], True)


def test_passing_the_probe_starts_no_cooldown(store):
    store.pass_probe([charge()])
    assert not store.acquire([charge()]).probing


def test_peeking_makes_no_call_the_probe(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(30)
    assert [wait_time(store) for _ in range(3)] == [0, 0, 0]


def test_a_call_that_another_limit_refuses_is_not_the_probe(store, clock):
    store.start_cooldown([charge("a")], 30, 2)
    store.start_cooldown([charge("b")], 60, 2)
    clock.advance(30)
    assert store.acquire([charge("a"), charge("b")]) is None
    assert store.acquire([charge("a")]).probing


def test_a_cooldown_that_no_call_probed_for_an_hour_is_forgotten(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(30 + 3600)
    assert not store.acquire([charge()]).probing


def test_a_cooldown_can_start_after_another_was_forgotten(store, clock):
    store.start_cooldown([charge()], 30, 2)
    clock.advance(3700)
    store.start_cooldown([charge()], 10, 2)
    assert wait_time(store) == 10


def test_forgotten_cooldowns_take_no_memory(store, clock):
    for number in range(100):
        store.start_cooldown([charge(str(number))], 30, 2)
    clock.advance(3700)
    store.acquire([charge()])
    assert store._cooldowns.by_bucket == {}


def decisions(clock):
    """Return a function that decides over calls that share a limit."""
    limiter = Limiter(clock)
    stack = limiter.compile([declare("100/hour")], action="work")
    return lambda: limiter.acquire(stack, None)


def probe_after_cooldown(clock):
    decide = decisions(clock)
    decide().start_cooldown(30, None, 2)
    clock.advance(30)
    return decide, decide()


def test_a_call_that_was_throttled_ends_no_cooldown_however_late_it_is_settled(clock):
    decide, first = probe_after_cooldown(clock)
    first.start_cooldown(1, None, 2)
    clock.advance(5)
    first.end_cooldown()
    assert decide().is_probing


def test_a_probe_that_is_refunded_makes_the_next_call_the_probe(clock):
    decide, first = probe_after_cooldown(clock)
    waits = decide().wait_time
    first.refund()
    second, third = decide(), decide()
    assert (waits, second.is_probing, third.wait_time) == (2, True, 2)


def test_a_call_ends_a_cooldown_once(clock):
    decide, first = probe_after_cooldown(clock)
    first.end_cooldown()
    decide().start_cooldown(1, None, 2)
    clock.advance(1)
    first.end_cooldown()
    assert decide().is_probing


# In a worker.


def probed(first):
    """Return an app whose API throttles at first, and again if `first` says so."""
    app, calls = ProviderApp(execution_timeout=5), []

    @app.action
    @app.rate_limit("100/hour", max_wait=60)
    async def work(who: str = "") -> dict:
        calls.append((asyncio.get_running_loop().time() - 1000, who))
        if len(calls) == 1 or (first == "throttled again" and len(calls) == 2):
            raise RateLimited(10)
        if len(calls) == 2:
            await asyncio.sleep(3)
            if first == "fails":
                raise ValueError(first)
        return {}

    tasks = [task(0, "throttled", who="throttled")]
    tasks += [task(1, f"t{number}", who=f"t{number}") for number in range(3)]
    work_off(app, *tasks, concurrency=32)
    return calls


@pytest.mark.parametrize("first", ["succeeds", "fails"])
def test_calls_wait_for_the_probe(first):
    times = [at for at, _ in probed(first)]
    assert times == [0, 10, pytest.approx(13, abs=1), pytest.approx(13, abs=1)]


def test_calls_wait_again_if_the_probe_is_throttled():
    times = [at for at, _ in probed("throttled again")]
    assert times == [0, 10, 20, pytest.approx(20, abs=1)]


def test_an_error_after_the_timeout_starts_the_cooldown(serve, hub):
    app = ProviderApp(execution_timeout=0.05)
    over = []

    @app.action
    @app.rate_limit("100/hour")
    def work(ctx: TaskContext, late: bool = False):
        while late and not ctx.cancelled:
            time.sleep(0.001)
        over.append(late)
        if late:
            raise RateLimited(3000)

    serve(app)
    assert hub.call("work", {"late": True}).status == "error"
    wait_until(lambda: app.limits.headroom("work")[0].wait_time >= 1000)


# Usage that an API reports.


def reporting(limit="100/minute", **options):
    app = ProviderApp()

    @app.action
    @app.rate_limit(limit, **options)
    def work(ctx: TaskContext, used: float = 0, reset_in: float = 40, name: str = "vendor"):
        if used:
            ctx.limits.report(name, used=used, reset_in=reset_in)

    return app.test_client()


def remaining(client, key=None):
    return client.limits.headroom("work", key)[0].remaining


def test_a_report_changes_the_limit_that_it_names_and_no_other():
    app = ProviderApp()

    @app.action
    @app.rate_limit("10/minute", name="vendor")
    @app.rate_limit("10/hour")
    @app.rate_limit(RateLimitMonitor())
    def work(ctx: TaskContext):
        ctx.limits.report("vendor", used=0.9, reset_in=60)

    client = app.test_client()
    client.call("work")
    left = {one.limit: one.remaining for one in client.limits.headroom("work")}
    assert left == {"RateLimitMonitor": None, "10/hour": 9, "10/minute": 1}


def test_reported_usage_counts():
    client = reporting(name="vendor")
    client.call("work", {"used": 0.93})
    assert remaining(client) == 7


def test_a_limit_may_be_reported_by_its_text():
    client = reporting()
    client.call("work", {"used": 0.93, "name": "100/minute"})
    assert remaining(client) == 7


def test_reported_usage_counts_until_its_reset():
    client = reporting(name="vendor")
    client.call("work", {"used": 1.0, "reset_in": 40})
    client.clock.advance(39.9)
    before = client.call("work").status
    client.clock.advance(0.2)
    assert (before, client.call("work").status) == ("limit", "success")


def test_usage_that_is_reported_twice_counts_once():
    client = reporting(name="vendor")
    client.call("work", {"used": 0.5})
    client.call("work", {"used": 0.51})
    assert remaining(client) == 49


def test_usage_below_what_is_counted_already_changes_nothing():
    client = reporting(name="vendor")
    statuses(client, *[{}] * 60, {"used": 0.1})
    assert remaining(client) == 39


def test_calls_after_a_report_count_on_top():
    client = reporting(name="vendor")
    statuses(client, {"used": 0.5}, {}, {})
    assert remaining(client) == 48


@pytest.mark.parametrize(("used", "left"), [(0.931, 6), (0.999, 0), (1.0, 0), (7.5, 0), (0.29, 71)])
def test_a_share_is_rounded_to_the_safe_side(used, left):
    client = reporting(name="vendor")
    client.call("work", {"used": used})
    assert remaining(client) == left


def test_usage_is_reported_for_a_key():
    client = reporting(key="account.id", name="vendor")
    client.call("work", {"used": 1.0}, account={"id": 1})
    assert [remaining(client, key) for key in (1, 2)] == [0, 100]


def test_usage_is_of_the_limit_and_not_of_its_burst():
    client = reporting(Limit(100, 60, 10), name="vendor")
    client.call("work", {"used": 0.5})
    assert remaining(client) == 9


def test_a_bucket_takes_reports_too():
    client = reporting(TokenBucket(requests_per_minute=60, burst_size=10), name="vendor")
    client.call("work", {"used": 0.5})
    assert remaining(client) == 5


def test_a_calendar_takes_reports_too():
    client = reporting(Calendar("10/day"), name="vendor")
    client.call("work", {"used": 0.5})
    client.call("work", {"used": 0.2})
    assert remaining(client) == 4


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"name": "no such"}, "this call has no limit 'no such'; it has 'vendor'"),
        ({"used": -0.1}, "used=-0.1 is not a share, such as 0.93"),
        ({"used": 1e400}, None),
        ({"reset_in": None}, "reset_in=None is not a number of seconds"),
        ({"reset_in": math.nan}, "reset_in=nan is not a number of seconds"),
    ],
    ids=str,
)
def test_a_report_that_makes_no_sense_is_an_error(report, message):
    limiter = Limiter(VirtualClock())
    stack = limiter.compile([declare("100/minute", name="vendor")], action="work")
    decision = limiter.acquire(stack, None)
    arguments = {"name": "vendor", "used": 0.5, "reset_in": 40.0} | report
    if message is None:
        decision.report(**arguments)
        assert limiter.peek(stack, None).wait_time > 0
        return
    with pytest.raises(ValueError, match=message):
        decision.report(**arguments)


@pytest.mark.parametrize("reset_in", [0, -5, "0", "1"], ids=repr)
def test_a_report_takes_the_texts_of_headers_and_0_is_a_second(reset_in):
    limiter = Limiter(clock := VirtualClock())
    stack = limiter.compile([declare("100/minute", name="vendor")], action="work")
    limiter.acquire(stack, None).report("vendor", used="1.0", reset_in=reset_in)
    clock.advance(0.9)
    before = limiter.peek(stack, None).wait_time
    clock.advance(0.2)
    assert (before > 0, limiter.peek(stack, None).wait_time) == (True, 0)


@pytest.mark.parametrize("used", ["half", None, True, math.nan], ids=repr)
def test_a_share_is_a_number(used):
    limiter = Limiter(VirtualClock())
    stack = limiter.compile([declare("100/minute")], action="work")
    with pytest.raises(ValueError, match="is not a share"):
        limiter.acquire(stack, None).report("100/minute", used=used, reset_in=1)


def test_a_call_without_limits_has_nothing_to_report():
    app = ProviderApp()

    @app.action
    def work(ctx: TaskContext):
        ctx.limits.report("vendor", used=0.5, reset_in=5)

    assert app.test_client().call("work").message == "this call has no limit 'vendor'; it has none"


# An `asyncio.TaskGroup` raises the errors of its tasks in an exception group.
needs_groups = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 has no exception groups"
)


def results_of_a_group(*errors):
    """Return the results of two calls of a handler that raises a group of errors."""
    app = ProviderApp()

    @app.action
    @app.rate_limit("5/hour", name="vendor")
    def fan_out():
        raise ExceptionGroup("tasks", list(errors))  # noqa: F821

    client = app.test_client()
    return [client.call("fan_out") for _ in range(2)]


@needs_groups
def test_a_group_of_throttled_tasks_is_the_longest_wait():
    first, second = results_of_a_group(RateLimited(30), RateLimited(90), RateLimited(60))
    assert (first.status, first.wait_time, second.wait_time) == ("limit", 90, 90)


@needs_groups
def test_a_cooldown_starts_even_if_other_tasks_of_a_group_have_failed():
    first, second = results_of_a_group(ValueError("sold out"), RateLimited(30, limit="vendor"))
    assert (first.status, second.status, second.wait_time) == ("error", "limit", 30)
    assert first.message.endswith("ValueError: sold out; RateLimited: Rate limit exceeded")
