"""The test client and its virtual clock."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest

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

    assert asyncio.run(main()).message.endswith("use `await client.acall(...)`")


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


def test_an_error_comes_through_if_it_shall(client):
    client.raise_errors = True
    with pytest.raises(LookupError):
        client.call("fail")


def test_a_refusal_is_a_result_even_then(client):
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


def test_a_handler_that_takes_its_whole_time_is_no_timeout(app):
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


def test_the_envelope_shows_the_time_of_the_clock(client):
    client.clock.advance(3600)
    assert client.call("echo").envelope["data"]["now_utc"] == "2026-01-01T01:00:00+00:00"


def test_a_clock_may_begin_at_any_time(app):
    clock = VirtualClock(datetime(2030, 5, 1, 12, tzinfo=timezone.utc))
    result = app.test_client(clock=clock).call("echo")
    assert result.envelope["data"]["now_utc"] == "2030-05-01T12:00:00+00:00"


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_never_goes_back(seconds):
    with pytest.raises(ValueError, match="time only ever grows"):
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


def test_what_startup_makes_lives_in_the_loop_of_the_calls(app):
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


def test_rate_limited_is_a_result_even_if_errors_shall_come_through(app):
    @app.action
    def wait():
        raise RateLimited(5)

    client = app.test_client()
    client.raise_errors = True
    assert client.call("wait").wait_time == 5
