"""The faulty hub: each fault, with a bare gRPC client and with a provider."""

from __future__ import annotations

import logging
import threading
import time

import grpc
import pytest
from support.waiting import TIMEOUT

from arbprov import AuthenticationError, ProviderApp
from arbprov._proto import hub_pb2
from arbprov.testing import FaultyHub, faults, serving
from arbprov.testing.faults import Fault


class Client:
    """Calls a hub's methods as a provider does."""

    def __init__(self, hub):
        self._token = hub.token
        # By default, all clients would share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(hub.address, options=options)

    def poll(self, timeout=TIMEOUT):
        method = self._channel.unary_unary(
            "/Hub/GetTask",
            hub_pb2.ProviderRequest.SerializeToString,
            hub_pb2.Task.FromString,
        )
        request = hub_pb2.ProviderRequest(provider="weather", auth_token=self._token)
        return method(request, timeout=timeout)

    def submit(self, id="t1", result="{}", timeout=TIMEOUT):
        method = self._channel.unary_unary("/Hub/SubmitTaskResult")
        message = hub_pb2.TaskResult(id=id, result=result, auth_token=self._token)
        return method(message.SerializeToString(), timeout=timeout)

    def close(self):
        self._channel.close()


@pytest.fixture
def start():
    """Return a function that starts a hub with a script, and returns it with a client."""
    open_things = []

    def start(*script, **options):
        hub = FaultyHub(*script, hold=0.0, **options).start()
        open_things.append(hub.stop)
        client = Client(hub)
        open_things.append(client.close)
        return hub, client

    yield start
    for close in reversed(open_things):
        close()


def code_of(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code().name


def test_without_a_script_the_hub_is_well(start):
    hub, client = start()
    hub.put("forecast", id="t1")
    assert client.poll().id == "t1"
    client.submit("t1")
    assert [submission.id for submission in hub.submissions] == ["t1"]


@pytest.mark.parametrize("on", ["poll", "submit"])
@pytest.mark.parametrize("code", ["unavailable", "unauthenticated", "resource_exhausted"])
def test_a_status_comes_as_often_as_it_says(start, code, on):
    _, client = start(getattr(faults, code)(2, on=on))
    call = getattr(client, on)
    assert [code_of(call) for _ in range(2)] == [code.upper()] * 2
    call()


def test_any_status_can_be_had(start):
    _, client = start(faults.fails("ABORTED", on="poll"))
    assert code_of(client.poll) == "ABORTED"


def test_a_result_can_be_refused(start):
    hub, client = start(faults.refuse())
    assert code_of(client.submit) == "INVALID_ARGUMENT"
    assert hub.submissions == []


def test_steps_about_results_leave_polls_alone(start):
    _, client = start(faults.unavailable(on="submit"))
    assert client.poll().id == ""
    assert code_of(client.submit) == "UNAVAILABLE"


def test_steps_come_in_their_order(start):
    _, client = start(faults.unavailable(), faults.unauthenticated())
    assert [code_of(client.poll) for _ in range(2)] == ["UNAVAILABLE", "UNAUTHENTICATED"]


def test_a_hanging_call_is_never_answered(start):
    _, client = start(faults.hang())
    assert code_of(client.poll, timeout=0.2) == "DEADLINE_EXCEEDED"


def test_a_call_that_is_over_does_not_pause(start):
    started, over = threading.Event(), threading.Event()

    def play(exchange):
        started.set()
        exchange.pause(None)
        exchange.pause(None)
        over.set()
        return b""

    _, client = start(Fault("patient", "poll", play))
    call = client._channel.unary_unary("/Hub/GetTask").future(b"")
    assert started.wait(TIMEOUT)
    call.cancel()
    assert over.wait(TIMEOUT)


def test_a_hub_that_hangs_can_be_stopped_at_once(monkeypatch):
    monkeypatch.setattr("arbprov.localhub.server._GRACE", 60.0)
    with FaultyHub(faults.hang()) as hub:
        client = Client(hub)
        call = client._channel.unary_unary("/Hub/GetTask").future(b"")
        hub.wait_until(lambda hub: hub.polls)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert call.exception().code() is not grpc.StatusCode.OK
    client.close()


def test_a_hub_that_has_stopped_holds_no_call(start):
    hub, _ = start()
    hub.stop()
    began = time.monotonic()
    hub._sit_out(threading.Event(), 60)
    assert time.monotonic() - began < 30


def test_a_slow_answer_comes_late(start):
    _, client = start(faults.slow(0.3))
    began = time.monotonic()
    client.poll()
    assert time.monotonic() - began >= 0.3


def test_garbled_bytes_are_no_message(start):
    _, client = start(faults.garbled())
    assert code_of(client.poll) == "INTERNAL"


def test_a_provider_can_be_asked_for_a_pause(start):
    _, client = start(faults.rate_limited(2.5))
    task = client.poll()
    assert (task.id, task.action, task.payload) == ("", "rate_limited", b'{"wait_time": 2.5}')


def test_a_duplicate_is_handed_out_twice(start):
    hub, client = start(faults.duplicate())
    hub.put("forecast", {"city": "Paris"}, id="t1")
    assert client.poll() == client.poll()
    assert hub.handed_out == ["t1", "t1"]
    assert client.poll().id == ""


@pytest.mark.parametrize("step", [faults.duplicate(), faults.die_during_poll()])
def test_a_fault_of_a_task_waits_for_a_task(start, step):
    hub, client = start(step)
    assert client.poll().id == ""
    assert hub.script_left == [step]
    assert hub.polls[0].fault == ""


def test_a_goaway_is_not_an_error(start):
    hub, client = start(faults.goaway(), faults.goaway(on="submit"))
    hub.put("forecast", id="t1")
    assert client.poll().id == "t1"
    client.submit("t1")
    client.poll()
    assert hub.script_left == []


def test_a_task_is_lost_when_the_hub_dies_during_a_poll(start):
    hub, client = start(faults.die_during_poll())
    hub.put("forecast", id="t1")
    assert code_of(client.poll) == "UNAVAILABLE"
    assert hub.handed_out == ["t1"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_result_is_kept_or_lost_when_the_hub_dies_during_it(start, kept):
    hub, client = start(faults.die_during_submit(kept=kept))
    assert code_of(client.submit) == "UNAVAILABLE"
    hub.wait_until(lambda hub: len(hub.submissions) == kept)
    another = Client(hub)
    another.submit()
    another.close()
    assert len(hub.submissions) == kept + 1


def test_a_poll_that_was_cut_takes_no_later_task_with_it():
    with FaultyHub(faults.die_during_submit(), hold=10.0) as hub:
        client, another = Client(hub), Client(hub)
        polling = another._channel.unary_unary("/Hub/GetTask").future(
            hub_pb2.ProviderRequest(auth_token=hub.token).SerializeToString()
        )
        hub.wait_until(lambda hub: hub.polls)
        code_of(client.submit)
        hub.wait_until(lambda hub: hub.submissions)
        hub.put("forecast", id="t2")
        third = Client(hub)
        assert third.poll().id == "t2"
        assert polling.exception().code() is grpc.StatusCode.UNAVAILABLE
        for one in (client, another, third):
            one.close()


def test_a_task_for_a_poll_that_was_cut_goes_to_the_next(start):
    def play(exchange):
        hub.proxy.cut()
        return exchange.answer()

    hub, client = start(Fault("cut", "poll", play))
    hub._again.append((hub_pb2.Task(id="t1").SerializeToString(), ()))
    assert code_of(client.poll) == "UNAVAILABLE"
    hub.wait_until(lambda hub: hub._again)
    assert hub.handed_out == []


def test_a_task_for_a_connection_that_was_reset_goes_to_the_next_poll(start, monkeypatch):
    hub, client = start()
    hub._again.append((hub_pb2.Task(id="t1").SerializeToString(), ()))
    with monkeypatch.context() as patch:
        patch.setattr(hub.proxy, "has_reset", lambda peer: True)
        assert client.poll().id == ""
    assert hub.handed_out == []
    assert client.poll().id == "t1"


def test_a_hub_may_take_small_messages_only(start):
    _, client = start(max_message_size=1000)
    assert code_of(client.submit, result="x" * 1001) == "RESOURCE_EXHAUSTED"


def test_a_fault_can_be_a_function_of_the_test(start):
    step = Fault("empty", "poll", lambda exchange: hub_pb2.Task(id="own").SerializeToString())
    _, client = start(step)
    assert client.poll().id == "own"


def test_steps_can_be_added_while_the_hub_runs(start):
    hub, client = start()
    client.poll()
    hub.play(faults.unavailable())
    assert code_of(client.poll) == "UNAVAILABLE"


def test_a_call_through_the_hub_plays_no_step(start, app):
    hub, _ = start(faults.slow(0.1))
    with serving(app, hub):
        assert hub.call("echo", {"value": 1}).data == {"value": 1}


def test_other_methods_play_no_step(start):
    hub, client = start(faults.unavailable())
    call = client._channel.unary_unary("/arbprov.LocalHub/Submit")
    request = b'{"token": "wrong", "tasks": []}'
    assert code_of(call, request) == "UNAUTHENTICATED"
    assert hub.polls == []


# Records.


def test_a_call_is_recorded_with_its_bytes_and_its_step(start):
    hub, client = start(faults.unavailable(on="submit"))
    code_of(client.submit, "t1", "{}")
    client.poll()
    message = hub_pb2.TaskResult(id="t1", result="{}", auth_token=hub.token)
    assert [(one.raw, one.fault) for one in hub.submits] == [
        (message.SerializeToString(), "unavailable")
    ]
    assert hub.submits[0].message == message
    assert hub.polls[0].message.provider == "weather"


def test_no_more_calls_are_remembered_than_the_capacity(start):
    hub, client = start(capacity=3)
    for _ in range(5):
        client.poll()
    assert len(hub.polls) == 3


def test_a_condition_that_never_comes_true_is_a_timeout_with_the_rest_of_the_script(start):
    hub, client = start(faults.unavailable(2))
    code_of(client.poll)
    message = r"not true after 0.05 s; 1 polls and 0 results came, .* has left: \['unavailable'\]"
    with pytest.raises(TimeoutError, match=message):
        hub.wait_until(lambda hub: not hub.script_left, timeout=0.05)


def test_a_task_without_a_result_is_lost(start):
    hub, client = start()
    hub.put("forecast", id="t1")
    client.poll()
    with pytest.raises(AssertionError, match=r"have no result: \['t1'\]"):
        hub.assert_nothing_lost()


def test_two_different_results_of_a_task_are_found(start):
    hub, client = start()
    client.submit("t1", "{}")
    client.submit("t1", "[]")
    with pytest.raises(AssertionError, match="'t1' was sent with two different results"):
        hub.assert_nothing_lost()


def test_the_same_result_with_a_new_token_is_the_same(start):
    hub, client = start()
    client.submit("t1")
    hub.token = client._token = "rotated"
    client.submit("t1")
    hub.assert_nothing_lost()


def test_a_hub_that_has_not_started_goes_nowhere():
    with pytest.raises(AssertionError, match="has not started"):
        FaultyHub().go_away()


# With a provider.


@pytest.fixture
def app():
    app = ProviderApp("weather")

    @app.action
    def echo(value: int) -> dict:
        return {"value": value}

    return app


def test_a_provider_gets_through_a_script(app):
    script = [
        faults.unavailable(2),
        faults.goaway(),
        faults.garbled(),
        faults.die_during_submit(kept=False),
        faults.die_during_submit(),
    ]
    with FaultyHub(*script) as hub, serving(app, hub):
        assert [hub.call("echo", {"value": value}).data["value"] for value in range(3)] == [0, 1, 2]
        hub.wait_until(lambda hub: not hub.script_left)
        hub.wait_until(lambda hub: len(hub.submits) >= 4)
        hub.assert_nothing_lost()


def test_a_provider_runs_a_task_that_comes_twice_once():
    ran = []
    app = ProviderApp("weather")
    app.action("forecast")(lambda: ran.append(1))
    with FaultyHub(faults.duplicate()) as hub, serving(app, hub):
        assert hub.call("forecast").status == "success"
        hub.wait_until(lambda hub: hub.handed_out == hub.handed_out[:1] * 2)
        hub.assert_nothing_lost()
    assert ran == [1]


def test_a_refused_token_ends_serving(app):
    hub = FaultyHub(faults.unauthenticated())
    with hub, pytest.raises(AuthenticationError), serving(app, hub) as running:
        running.exception(10)


def test_an_app_that_serves_no_more_can_serve_again(app):
    for _ in range(2):
        with FaultyHub() as hub, serving(app, hub):
            assert hub.call("echo", {"value": 1}).data == {"value": 1}
    hub = FaultyHub(faults.unauthenticated())
    with hub, pytest.raises(AuthenticationError), serving(app, hub) as running:
        running.exception(10)
    with FaultyHub() as hub, serving(app, hub):
        assert hub.call("echo", {"value": 1}).data == {"value": 1}


def test_a_hub_behind_a_proxy_that_stalls_is_as_good_as_frozen(start):
    hub, client = start()
    client.poll()
    hub.proxy.stall()
    assert code_of(client.poll, timeout=0.2) == "DEADLINE_EXCEEDED"
    hub.proxy.let_pass()
    client.poll()


def test_a_broken_step_is_an_error_of_the_call(start, caplog):
    _, client = start(Fault("broken", "poll", lambda exchange: 1 // 0))
    with caplog.at_level(logging.CRITICAL, "grpc"):
        assert code_of(client.poll) == "UNKNOWN"


def test_a_fault_that_fails_a_call_after_its_provider_has_gone_changes_nothing(start):
    over = threading.Event()

    def play(exchange):
        exchange.pause(None)
        try:
            return exchange.answer()
        finally:
            over.set()

    hub, client = start(Fault("late", "submit", play))
    hub.token = "rotated"
    assert code_of(client.submit, timeout=0.2) == "DEADLINE_EXCEEDED"
    assert over.wait(TIMEOUT)
    assert hub.submissions == []
