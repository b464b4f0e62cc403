"""`@app.retry`: a handler that is tried again."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import isolated
from support.waiting import TIMEOUT, wait_until
from support.workers import task, work_off

from arbprov import Blueprint, ConfigurationError, ProviderApp, RateLimited, TaskContext
from arbprov.dispatcher import ChargeAgedError
from arbprov.localhub import LocalHub
from arbprov.retry import RetryPolicy

# No random part, so that the waits are known: 0.1, 0.2, 0.4 and so on.
EXACT = {"on": ConnectionError, "wait_jitter": 0, "timeout": None}


def failing(app, times=100, error=ConnectionError, is_async=False):
    """Return a handler that fails some times, and the times at which it was tried."""
    tried_at = []

    def work(ctx: TaskContext):
        tried_at.append(round(ctx.deadline - ctx.remaining, 3))
        if len(tried_at) <= times:
            raise error("the API hung up")
        return {"attempt": ctx.attempt}

    async def awork(ctx: TaskContext):
        return work(ctx)

    return (awork if is_async else work), tried_at


def retried(app, times=100, error=ConnectionError, is_async=False, timeout=100, **options):
    """Add an action that fails some times; return the times at which it was tried."""
    handler, tried_at = failing(app, times, error, is_async)
    app.action("work", timeout=timeout)(app.retry(**(EXACT | options))(handler))
    return tried_at


@pytest.fixture
def app():
    return ProviderApp("test")


# The policy.


@pytest.mark.parametrize(
    ("options", "pauses"),
    [
        ({"attempts": 1}, [None]),
        ({"attempts": 4}, [0.1, 0.2, 0.4, None]),
        ({"wait_initial": 1, "wait_exp_base": 3, "wait_max": 10}, [1, 3, 9, 10, 10]),
        ({"wait_initial": dt.timedelta(seconds=2), "wait_max": dt.timedelta(minutes=1)}, [2, 4]),
        ({"attempts": None, "wait_exp_base": 1e308}, [0.1, 5, 5, 5]),
    ],
    ids=str,
)
def test_the_waits_grow_up_to_a_maximum(options, pauses):
    policy = RetryPolicy(**(EXACT | options))
    found = [policy.pause(ConnectionError(), attempt, 0.0) for attempt in range(1, len(pauses) + 1)]
    assert found == pauses


@given(
    st.integers(1, 200),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0, 4),
)
def test_a_wait_is_within_its_bounds(attempt, initial, maximum, jitter, base):
    policy = RetryPolicy(ConnectionError, None, None, initial, maximum, jitter, base)
    pause = policy.pause(ConnectionError(), attempt, 1e9)
    least = policy.pause(ConnectionError(), attempt, 1e9) if jitter == 0 else 0
    assert least <= pause <= maximum


def test_no_try_begins_after_the_policy_s_timeout():
    policy = RetryPolicy(**EXACT | {"timeout": dt.timedelta(seconds=1)})
    assert [policy.pause(ConnectionError(), 1, waited) for waited in (0.9, 0.91)] == [0.1, None]


@pytest.mark.parametrize(
    ("on", "pause"),
    [
        (OSError, 0.1),
        ((KeyError, ConnectionError), 0.1),
        (ValueError, None),
        (lambda error: True, 0.1),
        (lambda error: False, None),
        (lambda error: None, None),
        (lambda error: 7, 7),
        (lambda error: dt.timedelta(minutes=1), 60),
        (lambda error: str(error) == "again", 0.1),
    ],
)
def test_the_errors_that_are_retried(on, pause):
    policy = RetryPolicy(on, timeout=None, wait_jitter=0)
    assert policy.pause(ConnectionError("again"), 1, 0.0) == pause


@pytest.mark.parametrize("on", [Exception, lambda error: True], ids=["class", "function"])
def test_a_throttled_call_is_never_retried(on):
    assert RetryPolicy(on).pause(RateLimited(1), 1, 0.0) is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"on": None}, "on=None must be an exception class"),
        ({"on": ()}, "on=() retries nothing"),
        ({"on": (ValueError, 3)}, "must be an exception class, a tuple of them, or a function"),
        ({"on": KeyboardInterrupt}, "must be an exception class"),
        ({"on": (ValueError, RateLimited)}, "RateLimited is not retried: the API would be called"),
        ({"attempts": 0}, "attempts=0 must be a whole number above 0, or None"),
        ({"attempts": True}, "attempts=True must be"),
        ({"wait_max": -1}, "wait_max=-1 must be a number, 0 or above"),
        ({"wait_initial": None}, "wait_initial=None must be a number, 0 or above"),
        ({"timeout": "5"}, "timeout='5' must be a number, 0 or above"),
        ({"wait_jitter": float("nan")}, "wait_jitter=nan must be"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_with_the_function(app, options, complaint):
    def work():
        pass

    with pytest.raises(ConfigurationError) as refused:
        app.retry(**(EXACT | options))(work)
    assert str(refused.value).startswith(f"{work.__qualname__} ({__file__}:")
    assert complaint in str(refused.value)


# The declaration.


def test_the_function_stays_as_it_is(app):
    def work():
        return 3

    assert app.retry(**EXACT)(work) is work


def test_an_action_of_a_blueprint_has_its_retries(app):
    blueprint = Blueprint("part")
    retried(blueprint, times=1)
    app.register_blueprint(blueprint)
    assert app.test_client().call("work").data == {"attempt": 2}


def test_retries_of_a_function_that_is_not_an_action_are_refused_at_start(app):
    app.retry(**EXACT)(lambda: None)
    with pytest.raises(ConfigurationError, match="@retry retries nothing: this is not an action"):
        app.test_client()


def test_retries_twice_are_refused(app):
    with pytest.raises(ConfigurationError, match="it has @retry twice; give one of them all"):
        retried_twice = app.retry(**EXACT)(lambda: None)
        app.retry(**EXACT)(retried_twice)


@pytest.mark.parametrize(("timeout", "warns"), [(0.3, True), (0.31, False)])
def test_waits_that_do_not_fit_into_the_timeout_are_warned_of_at_start(app, caplog, timeout, warns):
    retried(app, attempts=3, timeout=timeout)
    app.test_client()
    assert [("take 0.3 s at least" in record.message) for record in caplog.records] == [
        True
    ] * warns


# The tries.


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_is_tried_again_until_it_succeeds(app, is_async):
    tried_at = retried(app, times=3, is_async=is_async)
    client = app.test_client()
    assert client.call("work").data == {"attempt": 4}
    assert [round(at - tried_at[0], 3) for at in tried_at] == [0, 0.1, 0.3, 0.7]


def test_the_last_error_says_how_many_tries_there_were(app):
    retried(app, attempts=3)
    result = app.test_client().call("work")
    assert (result.message, result.data) == (
        "the API hung up",
        {"error": "the API hung up", "type": "ConnectionError", "attempts": 3},
    )


def test_a_refused_payload_has_no_tries(app):
    @app.action
    @app.retry(**EXACT)
    def work(a: int): ...

    result = app.test_client().call("work", {"a": "one"})
    assert (result.status, "attempts" in result.data) == ("error", False)


def test_another_error_is_not_retried(app):
    tried_at = retried(app, error=ValueError)
    assert app.test_client().call("work").data["attempts"] == len(tried_at) == 1


def test_a_result_that_json_can_not_carry_is_not_retried(app):
    calls = []
    app.action("work")(app.retry(on=Exception)(lambda: calls.append(1) or {1, 2}))
    assert (app.test_client().call("work").status, len(calls)) == ("error", 1)


def test_no_try_begins_after_the_action_s_timeout(app):
    tried_at = retried(app, timeout=1, attempts=None, wait_max=0.3)
    client = app.test_client()
    result = client.call("work")
    assert [round(at - tried_at[0], 3) for at in tried_at] == [0, 0.1, 0.3, 0.6, 0.9]
    assert (result.message, client.clock.monotonic() - tried_at[0]) == (
        "the API hung up",
        pytest.approx(0.9),
    )


def test_a_later_try_has_the_time_that_is_left(app):
    remaining = []

    @app.action(timeout=10)
    @app.retry(**EXACT, wait_initial=4)
    async def work(ctx: TaskContext):
        remaining.append(round(ctx.remaining, 3))
        if ctx.attempt == 1:
            raise ConnectionError
        await asyncio.Event().wait()

    result = app.test_client().call("work")
    assert (remaining, result.message) == (
        [10, 6],
        "The action ran longer than its timeout of 10 s",
    )
    assert result.data["attempts"] == 2


def test_hooks_run_once_around_all_tries(app):
    seen = []
    app.before_task(lambda ctx: seen.append("before"))
    app.after_task(lambda result: seen.append("after") or result)
    app.teardown_task(lambda error: seen.append(type(error).__name__))
    app.errorhandler(ConnectionError)(lambda error: seen.append("errorhandler") or {})
    retried(app, attempts=3)
    assert app.test_client().call("work").status == "success"
    assert seen == ["before", "errorhandler", "after", "NoneType"]


def test_the_error_of_a_hook_is_not_retried(app):
    @app.before_task
    def hang_up(ctx):
        raise ConnectionError("hook")

    tried_at = retried(app)
    assert (app.test_client().call("work").message, tried_at) == ("hook", [])


def test_each_try_is_logged_without_the_error_s_text(app, caplog):
    caplog.set_level(logging.INFO)
    retried(app, times=1)
    app.test_client().call("work", id="7")
    assert "task '7' of action 'work': try 1 failed with ConnectionError" in caplog.text
    assert "hung up" not in caplog.text


# Retries and limits.


def limited(app, *limits, **options):
    """Add an action that always fails, with limits; return the times at which it was tried."""
    handler, tried_at = failing(app)
    for limit, limit_options in limits:
        handler = app.rate_limit(limit, **limit_options)(handler)
    app.action("work", timeout=100)(app.retry(**(EXACT | options))(handler))
    return tried_at


def test_each_try_is_charged(app):
    limited(app, ("10/hour", {}), attempts=4)
    client = app.test_client()
    client.call("work")
    assert client.limits.headroom("work")[0].remaining == 6


def test_a_try_that_a_limit_refuses_ends_the_task_with_its_wait_time(app):
    tried_at = limited(app, ("2/minute", {}), attempts=4)
    result = app.test_client().call("work")
    assert (result.status, len(tried_at)) == ("limit", 2)
    assert (result.wait_time, result.data["attempts"]) == (pytest.approx(59.7), 2)


def test_a_call_that_a_limit_refuses_has_no_tries(app):
    limited(app, ("1/minute", {"key": "payload.region"}))
    client = app.test_client()
    missing = client.call("work")
    client.call("work", {"region": "eu"})
    refused = client.call("work", {"region": "eu"})
    assert [(r.status, "attempts" in r.data) for r in (missing, refused)] == [
        ("error", False),
        ("limit", False),
    ]


def test_a_handler_that_could_not_begin_by_its_charge_was_not_tried(app):
    errors = [ChargeAgedError(), ValueError()]

    @app.action
    @app.retry(**EXACT)
    @app.rate_limit("10/hour")
    def work():
        raise errors.pop(0)

    assert app.test_client().call("work").data["attempts"] == 1


def test_a_try_that_a_limit_refuses_waits_as_long_as_its_max_wait_allows(app):
    tried_at = limited(app, ("1/minute", {"max_wait": 60}), attempts=2)
    app.test_client().call("work")
    assert tried_at[1] - tried_at[0] == pytest.approx(60)


def test_no_try_begins_after_a_wait_for_a_limit_that_ends_after_the_timeout(app):
    tried_at = limited(app, ("1/5minute", {"max_wait": 1000}), attempts=2)
    client = app.test_client()
    result = client.call("work")
    assert (len(tried_at), result.message) == (1, "The action ran longer than its timeout of 100 s")


@given(
    st.integers(1, 6),
    st.integers(1, 8),
    st.floats(0.01, 30),
    st.floats(0, 5),
    st.floats(1, 60),
)
def test_on_any_clock_tries_keep_to_deadline_and_limits(amount, attempts, initial, jitter, timeout):
    app = ProviderApp("test")
    handler, tried_at = failing(app)
    options = {"attempts": attempts, "wait_initial": initial, "wait_jitter": jitter}
    limited = app.rate_limit(f"{amount}/10seconds", max_wait=5)(handler)
    app.action("work", timeout=timeout)(app.retry(on=OSError, timeout=None, **options)(limited))
    client = app.test_client()
    started_at = client.clock.monotonic()
    client.call("work")
    assert len(tried_at) <= attempts
    assert all(at <= started_at + timeout for at in tried_at)
    for at in tried_at:
        assert len([other for other in tried_at if at <= other < at + 9.99]) <= amount
    # A window keeps a call a little longer than its period.
    used = amount - client.limits.headroom("work")[0].remaining
    age = [client.clock.monotonic() - at for at in tried_at]
    assert sum(each < 9.99 for each in age) <= used <= sum(each < 10.02 for each in age)


# In a worker.


def test_a_worker_tries_again(app):
    tried_at = retried(app, times=2, is_async=True)
    ((at, _, status),) = work_off(app, task(1, "a"))
    assert (at, status, len(tried_at)) == (pytest.approx(1.3), "success", 3)


def test_a_task_that_waits_for_its_next_try_ends_when_the_worker_stops(app):
    retried(app, wait_initial=50, wait_max=50, timeout=90, is_async=True)
    assert work_off(app, task(1, "a"), until=10, max_task_timeout=90) == [(10.0, "a", "error")]


def test_a_task_that_waits_for_its_next_try_holds_no_thread(app):
    threads = []

    @app.action(timeout=100)
    @app.retry(**EXACT, wait_initial=60, wait_max=60, attempts=2)
    def work():
        threads.append(threading.get_ident())
        raise ConnectionError

    @app.action
    def other():
        threads.append(threading.get_ident())

    with LocalHub(hold=0.05) as hub, ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run, hub_url=hub.url, auth_token=hub.token)
        waiting = hub.put("work", {})
        wait_until(lambda: threads)
        hub.call("other", {}, timeout=TIMEOUT)
        app.stop()
        running.result(TIMEOUT)
    assert (waiting.done, len(set(threads))) == (True, 1)


def test_an_isolated_handler_is_tried_again_in_its_process():
    with LocalHub(hold=0.05) as hub, ThreadPoolExecutor(1) as pool:
        running = pool.submit(isolated.app.run, hub_url=hub.url, auth_token=hub.token)
        try:
            results = [hub.call("retried", {}, id="7", timeout=TIMEOUT) for _ in range(1)]
        finally:
            isolated.app.stop()
            running.result(TIMEOUT)
    data = results[0].data
    key = isolated.app.test_client().call("retried", id="7").data["key"]
    assert (data["attempt"], data["key"]) == (3, key)
    assert data["process"] != os.getpid()


# The context.


def test_the_idempotency_key_is_the_same_for_each_try_and_redelivery(app):
    keys = []

    @app.action
    @app.retry(**EXACT, attempts=2)
    def work(ctx: TaskContext):
        keys.append(ctx.idempotency_key)
        raise ConnectionError

    client = app.test_client()
    for task_id in ("7", "7", "8"):
        client.call("work", id=task_id)
    assert (len(set(keys[:4])), len(set(keys))) == (1, 2)


def test_two_providers_have_different_idempotency_keys():
    keys = set()
    for name in ("one", "two"):
        app = ProviderApp(name)

        @app.action
        def key(ctx: TaskContext):
            return ctx.idempotency_key

        keys.add(app.test_client().call("key", id="7").data)
    assert len(keys) == 2
