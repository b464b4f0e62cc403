"""The test client and its virtual clock."""

from __future__ import annotations

import asyncio
import functools
import itertools
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov import InvalidPayloadError, ProviderApp, RateLimited, TaskContext
from arbprov.testing import VirtualClock


@pytest.fixture
def app():
    app = ProviderApp("test", execution_timeout=2)

    @app.action
    def echo(value: int = 0) -> dict:
        return {"value": value}

    @app.action
    async def echo_async(value: int = 0) -> dict:
        await asyncio.sleep(0)
        return {"value": value}

    @app.action
    def fail() -> dict:
        raise LookupError("nowhere")

    return app


@pytest.fixture
def client(app):
    return app.test_client()


def test_a_plain_action_is_called(client):
    assert client.call("echo", {"value": 1}).data == {"value": 1}


def test_an_async_action_is_called(client):
    assert client.call("echo_async", {"value": 1}).data == {"value": 1}


def test_an_action_is_called_in_a_running_loop(client):
    async def main():
        return [await client.acall(name, {"value": 1}) for name in ("echo", "echo_async")]

    assert [result.data for result in asyncio.run(main())] == [{"value": 1}] * 2


def test_an_async_action_in_a_running_loop_says_what_to_do_instead(client):
    async def main():
        return client.call("echo_async")

    with pytest.raises(RuntimeError, match=r"use `await client\.acall\(\.\.\.\)`"):
        asyncio.run(main())


def test_tasks_are_numbered(client):
    assert [client.call("echo").id for _ in range(2)] == ["test-1", "test-2"]


def test_a_task_may_have_an_id(client):
    assert client.call("echo", id="mine").id == "mine"


def test_a_payload_may_be_bytes(client):
    assert client.call("echo", b"nope").problems[0]["path"] == "payload"


def test_a_payload_goes_through_json(client):
    with pytest.raises(Exception, match="JSON has no form for object"):
        client.call("echo", {"value": object()})


def test_an_error_is_a_result(client):
    assert client.call("fail").status == "error"


def test_an_error_is_raised_with_raise_errors(client):
    client.raise_errors = True
    with pytest.raises(LookupError):
        client.call("fail")


def test_a_refusal_is_a_result_with_raise_errors_too(client):
    client.raise_errors = True
    assert client.call("echo", {"value": "1"}).problems


# Time.


def test_a_handler_that_takes_too_long_by_the_clock_is_a_timeout(app):
    app.action("slow")(lambda: client.clock.advance(2.5))
    client = app.test_client()
    assert client.call("slow").data == {
        "error": "The action ran longer than its timeout of 2 s",
        "timeout": 2.0,
    }


def test_a_handler_that_takes_its_whole_time_is_not_a_timeout(app):
    app.action("slow")(lambda: client.clock.advance(2))
    client = app.test_client()
    assert client.call("slow").status == "success"


def test_hooks_see_a_timeout(app):
    app.action("slow")(lambda: client.clock.advance(3))
    app.errorhandler(Exception)(lambda error: type(error).__name__)
    client = app.test_client()
    assert client.call("slow").data == "TaskTimeoutError"


def test_the_context_counts_down_by_the_clock(app):
    @app.action
    def count(ctx: TaskContext):
        client.clock.advance(0.5)
        return ctx.remaining

    client = app.test_client()
    assert client.call("count").data == 1.5


def test_the_context_tells_the_time_of_the_clock(app):
    app.action("tell")(_time_of)
    client = app.test_client()
    client.clock.advance(90)
    assert client.call("tell").data == "2026-01-01T00:01:30+00:00"


def _time_of(ctx: TaskContext):
    return ctx.now


def test_the_envelope_shows_the_time_of_the_clock(client):
    client.clock.advance(3600)
    assert client.call("echo").envelope["data"]["now_utc"] == "2026-01-01T01:00:00+00:00"


def test_a_clock_may_begin_at_any_time(app):
    clock = VirtualClock(datetime(2030, 5, 1, 12, tzinfo=timezone.utc))
    result = app.test_client(clock=clock).call("echo")
    assert result.envelope["data"]["now_utc"] == "2030-05-01T12:00:00+00:00"


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_never_goes_back(seconds):
    with pytest.raises(ValueError, match="a clock can't advance by"):
        VirtualClock().advance(seconds)


def test_an_hourly_limit_needs_no_hour():
    app = ProviderApp("test")
    app.action("it")(app.rate_limit("1000/hour", key="account.id")(lambda: None))
    client = app.test_client()
    account = {"id": "a"}
    assert [client.call("it", account=account).status for _ in range(1000)] == ["success"] * 1000
    assert client.call("it", account=account).wait_time == 3600
    client.clock.advance(3600)
    assert client.call("it", account=account).status == "success"


def test_two_clients_have_clocks_and_limits_of_their_own():
    app = ProviderApp("test")
    app.action("it")(app.rate_limit("1/hour")(lambda: None))
    assert [app.test_client().call("it").status for _ in range(2)] == ["success"] * 2


# Startup and shutdown.


def test_startup_and_shutdown_hooks_run_around(app):
    ran = []
    app.on_startup(lambda: ran.append("startup"))

    @app.on_shutdown
    async def end():
        ran.append("shutdown")

    with app.test_client() as client:
        client.call("echo")
        ran.append("call")
    assert ran == ["startup", "call", "shutdown"]


def test_objects_of_a_startup_hook_live_in_the_loop_of_the_calls(app):
    made = {}

    @app.on_startup
    async def start():
        made["loop"] = asyncio.get_running_loop()

    @app.action
    async def same():
        return made["loop"] is asyncio.get_running_loop()

    with app.test_client() as client:
        assert client.call("same").data is True


def test_shutdown_hooks_run_though_the_test_failed(app):
    ran = []
    app.on_shutdown(lambda: ran.append("shutdown"))
    with pytest.raises(InvalidPayloadError), app.test_client():
        raise InvalidPayloadError([])
    assert ran == ["shutdown"]


def test_without_with_no_hook_runs(app):
    app.on_startup(lambda: pytest.fail("it ran"))
    app.test_client().call("echo")


def test_rate_limited_is_a_result_with_raise_errors_too(app):
    @app.action
    def wait():
        raise RateLimited(5)

    client = app.test_client()
    client.raise_errors = True
    assert client.call("wait").wait_time == 5


# Arguments and results.


def test_without_a_payload_the_task_has_an_empty_object():
    seen = []
    app = ProviderApp("test")
    app.action("look")(lambda payload: seen.append(payload))
    app.test_client().call("look")
    assert seen == [{}]


def test_without_an_account_the_task_has_an_empty_object():
    seen = []
    app = ProviderApp("test")
    app.action("look")(lambda account: seen.append(account))
    app.test_client().call("look")
    assert seen == [{}]


def test_an_account_may_be_bytes():
    app = ProviderApp("test")
    app.action("look")(lambda account: account)
    assert app.test_client().call("look", account=b'{"id": 5}').data == {"id": 5}


def test_bytes_that_are_not_an_account_are_a_problem(client):
    assert client.call("echo", account=b"nope").problems[0]["path"] == "account"


def test_a_payload_is_written_as_json():
    app = ProviderApp("test")
    app.action("look")(lambda payload: payload)
    day = datetime(2026, 3, 20, tzinfo=timezone.utc)
    data = app.test_client().call("look", {"day": day, "pair": (1, 2)}).data
    assert data == {"day": "2026-03-20T00:00:00+00:00", "pair": [1, 2]}


def test_a_given_id_leaves_no_gap_in_the_numbers(client):
    ids = [client.call("echo", id=one).id for one in (None, "mine", None)]
    assert ids == ["test-1", "mine", "test-2"]


def test_acall_takes_the_arguments_of_call(client):
    result = asyncio.run(client.acall("echo", b'{"value": 5}', account=b"{}", id="mine"))
    assert (result.id, result.data) == ("mine", {"value": 5})


def test_a_result_has_its_envelope(client):
    envelope = client.call("echo").envelope
    assert (envelope["status"], envelope["data"]["response"]) == ("success", {"value": 0})


def test_a_plain_action_may_be_called_in_a_running_loop(client):
    async def main():
        return client.call("echo", {"value": 1})

    assert asyncio.run(main()).data == {"value": 1}


def test_many_awaited_calls_run_side_by_side(app):
    started = []

    @app.action
    async def meet():
        started.append(1)
        while len(started) < 3:
            await asyncio.sleep(0)

    client = app.test_client()

    async def main():
        return await asyncio.gather(*(client.acall("meet") for _ in range(3)))

    assert [result.status.value for result in asyncio.run(main())] == ["success"] * 3


def test_pytest_does_not_collect_the_client_as_a_test(client):
    assert type(client).__test__ is False


# Raised errors.


@pytest.fixture
def raising(app):
    """Return a client with `raise_errors`, of an app with more errors."""

    @app.action
    async def fail_async():
        raise LookupError("nowhere")

    @app.action
    def end():
        raise SystemExit(3)

    client = app.test_client()
    client.raise_errors = True
    return client


@pytest.mark.parametrize(
    ("action", "error"),
    [("fail", LookupError), ("fail_async", LookupError), ("end", SystemExit)],
)
def test_any_error_of_a_handler_is_raised(raising, action, error):
    with pytest.raises(error):
        raising.call(action)


def test_acall_raises_an_error(raising):
    with pytest.raises(LookupError):
        asyncio.run(raising.acall("fail_async"))


def test_a_raised_error_has_the_handler_in_its_traceback(raising):
    with pytest.raises(LookupError) as caught:
        raising.call("fail")
    assert caught.traceback[-1].name == "fail"


def test_an_error_that_an_errorhandler_replaced_is_not_raised(app):
    app.errorhandler(LookupError)(lambda: "mended")
    client = app.test_client()
    client.raise_errors = True
    assert client.call("fail").data == "mended"


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
def test_a_hook_s_error_is_raised_too(app, kind):
    def hook():
        raise LookupError("in a hook")

    getattr(app, kind)(hook)
    client = app.test_client()
    client.raise_errors = True
    with pytest.raises(LookupError, match="in a hook"):
        client.call("echo")


def test_the_error_of_a_result_that_json_can_t_carry_is_raised(app):
    app.action("odd")(lambda: {1})
    client = app.test_client()
    client.raise_errors = True
    with pytest.raises(Exception, match="a set has no order in JSON"):
        client.call("odd")


@pytest.mark.parametrize("action", ["slow", "nothing"])
def test_task_errors_are_results_with_raise_errors_too(app, action):
    app.action("slow")(lambda: client.clock.advance(3))
    client = app.test_client()
    client.raise_errors = True
    assert client.call(action).status == "error"


# More time.


def test_an_async_handler_that_takes_too_long_by_the_clock_is_a_timeout(app):
    @app.action
    async def slow():
        client.clock.advance(2.5)

    client = app.test_client()
    assert client.call("slow").data["timeout"] == 2


def test_an_awaited_handler_that_takes_too_long_by_the_clock_is_a_timeout(app):
    @app.action
    async def slow():
        client.clock.advance(2.5)

    client = app.test_client()
    assert asyncio.run(client.acall("slow")).data["timeout"] == 2


def test_a_handler_that_fails_too_late_is_a_timeout(app):
    @app.action
    def slow():
        client.clock.advance(2.5)
        raise LookupError("too late")

    client = app.test_client()
    assert client.call("slow").data["timeout"] == 2


def test_an_action_s_own_timeout_counts(app):
    app.action("slow", timeout=10)(lambda: client.clock.advance(9))
    client = app.test_client()
    assert client.call("slow").status == "success"


def test_a_timeout_ends_only_its_own_call(app):
    app.action("slow")(lambda: client.clock.advance(3))
    client = app.test_client()
    client.call("slow")
    assert client.call("echo").status == "success"


@pytest.mark.parametrize("kind", ["before_task", "after_task", "teardown_task"])
def test_a_timeout_with_hooks_is_a_timeout(app, kind):
    app.action("slow")(lambda: client.clock.advance(3))
    getattr(app, kind)(lambda first: first if kind == "after_task" else None)
    client = app.test_client()
    assert client.call("slow").data["timeout"] == 2


def test_a_virtual_clock_stands_still():
    clock = VirtualClock()
    assert [clock.monotonic() for _ in range(3)] == [0, 0, 0]


def test_advancing_moves_monotonic_and_wall_time():
    clock = VirtualClock()
    clock.advance(90)
    assert (clock.monotonic(), clock.now()) == (
        90,
        datetime(2026, 1, 1, 0, 1, 30, tzinfo=timezone.utc),
    )


def test_the_clock_shows_utc_wherever_it_begins():
    east = timezone(timedelta(hours=5))
    clock = VirtualClock(datetime(2026, 3, 20, 12, tzinfo=east))
    assert clock.now().isoformat() == "2026-03-20T07:00:00+00:00"


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_the_clock_adds_up_all_advances(steps):
    clock, shown = VirtualClock(), [0.0]
    for seconds in steps:
        clock.advance(seconds)
        shown.append(clock.monotonic())
    assert shown == [*itertools.accumulate(steps, initial=0.0)]


def test_time_can_t_advance_for_ever():
    with pytest.raises(ValueError):
        VirtualClock().advance(float("inf"))


def test_a_step_back_leaves_the_clock_as_it_was():
    clock = VirtualClock()
    clock.advance(5)
    with pytest.raises(ValueError):
        clock.advance(-1)
    assert clock.monotonic() == 5


# More startup and shutdown.


def test_startup_and_shutdown_hooks_run_in_the_order_of_registration(app):
    ran = []
    for word in ("first", "second"):
        app.on_startup(functools.partial(ran.append, f"startup {word}"))
        app.on_shutdown(functools.partial(ran.append, f"shutdown {word}"))
    with app.test_client():
        pass
    assert ran == ["startup first", "startup second", "shutdown first", "shutdown second"]


def test_a_client_may_be_entered_again(app):
    ran = []
    app.on_startup(lambda: ran.append(1))
    client = app.test_client()
    for _ in range(2):
        with client:
            client.call("echo_async")
    assert ran == [1, 1]


def fail():
    raise LookupError("in a hook")


@pytest.fixture
def loops(app):
    """Return the event loops of the app's startup hooks."""
    loops = []

    @app.on_startup
    async def note():
        loops.append(asyncio.get_running_loop())

    yield loops
    for loop in loops:
        loop.close()


@pytest.mark.parametrize("kind", ["on_startup", "on_shutdown"])
def test_the_error_of_a_hook_is_raised(app, loops, kind):
    getattr(app, kind)(fail)
    with pytest.raises(LookupError, match="in a hook"), app.test_client():
        pass


@pytest.mark.parametrize("kind", ["on_startup", "on_shutdown"])
def test_a_hook_that_raises_leaves_no_loop_open(app, loops, kind):
    getattr(app, kind)(fail)
    with pytest.raises(LookupError), app.test_client():
        pass
    assert [loop.is_closed() for loop in loops] == [True]


def test_the_loop_is_closed_in_the_end(app, loops):
    with app.test_client():
        pass
    assert [loop.is_closed() for loop in loops] == [True]


def test_after_the_end_calls_still_work(app, loops):
    with app.test_client() as client:
        pass
    assert client.call("echo_async", {"value": 1}).data == {"value": 1}


class Later:
    """An awaitable that is not a coroutine."""

    def __await__(self):
        return iter(())


def test_any_awaitable_in_a_running_loop_says_what_to_do_instead():
    app = ProviderApp("test")
    app.action("later")(Later)

    async def main():
        return app.test_client().call("later")

    with pytest.raises(RuntimeError, match=r"use `await client\.acall\(\.\.\.\)`"):
        asyncio.run(main())


def test_a_handler_s_error_is_logged_with_its_place(client, caplog):
    client.call("fail")
    assert "LookupError: nowhere" in caplog.text
