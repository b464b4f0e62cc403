"""The bundled hub and its client, over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from concurrent import futures

import grpc
import pytest
from support.gateways import Gateway
from support.waiting import TIMEOUT, wait_until

from arbprov import AuthenticationError, ConfigurationError, HubConnectionError, HubError
from arbprov._proto import hub_pb2
from arbprov.localhub import BacklogFull, HubStopped, LocalHub, LocalHubClient
from arbprov.localhub.stores.factory import make_store
from arbprov.localhub.submitting import read_result


@pytest.fixture
def channel(hub):
    with grpc.insecure_channel(
        hub.address, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield channel


@pytest.fixture
def poll(hub, channel):
    """Return a function that polls the hub once."""
    method = channel.unary_unary(
        "/Hub/GetTask",
        request_serializer=hub_pb2.ProviderRequest.SerializeToString,
        response_deserializer=hub_pb2.Task.FromString,
    )

    def poll(provider="weather", token=None, **options):
        request = hub_pb2.ProviderRequest(provider=provider, auth_token=token or hub.token)
        return method(request, timeout=TIMEOUT, **options)

    poll.future = lambda: method.future(
        hub_pb2.ProviderRequest(provider="weather", auth_token=hub.token)
    )
    return poll


@pytest.fixture
def submit(hub, channel):
    """Return a function that submits a result."""
    method = channel.unary_unary(
        "/Hub/SubmitTaskResult",
        request_serializer=hub_pb2.TaskResult.SerializeToString,
        response_deserializer=hub_pb2.Task.FromString,
    )

    def submit(id, result='{"message": "fine", "data": {"response": 1}}', token=None):
        sent = hub_pb2.TaskResult(id=id, auth_token=token or hub.token, result=result)
        return method(sent, timeout=TIMEOUT)

    return submit


def test_a_task_that_was_put_in_is_handed_out(hub, poll):
    hub.put("forecast", {"city": "Paris"}, account={"key": "k"}, id="7")
    assert poll() == hub_pb2.Task(
        id="7", action="forecast", payload=b'{"city":"Paris"}', account=b'{"key":"k"}'
    )


def test_bytes_are_handed_out_as_they_are(hub, poll):
    hub.put("forecast", b"nope")
    assert poll().payload == b"nope"


def test_a_task_is_handed_out_once(hub, poll):
    hub.put("forecast")
    assert [bool(poll().id), bool(poll().id)] == [True, False]


def test_tasks_are_handed_out_in_the_order_they_came(hub, poll):
    tickets = [hub.put("forecast") for _ in range(5)]
    assert [poll().id for _ in tickets] == [ticket.id for ticket in tickets]


def test_two_hubs_give_their_tasks_different_ids(hub):
    with LocalHub() as another:
        assert hub.put("forecast").id != another.put("forecast").id


def test_a_task_for_a_named_provider_is_not_handed_to_another(hub, poll):
    hub.put("forecast", provider="weather", id="7")
    assert [poll("shop").id, poll("weather").id] == ["", "7"]


@pytest.fixture
def held(hub, monkeypatch):
    """Let the hub hold polls; return a semaphore that each poll releases when it is held."""
    polls = hub._queue._polls
    held, claim = threading.Semaphore(0), polls._claim

    async def claim_and_report(provider, lease, count):
        await claim(provider, lease, count)
        for _ in polls._waiting.get((provider, lease), ()):
            held.release()

    monkeypatch.setattr(polls, "_hold", TIMEOUT)
    monkeypatch.setattr(polls, "_claim", claim_and_report)
    return held


def test_a_poll_is_held_until_a_task_comes(hub, poll, held):
    waiting = poll.future()
    assert held.acquire(timeout=TIMEOUT)
    hub.put("forecast", id="7")
    assert waiting.result(TIMEOUT).id == "7"


def test_a_poll_that_is_held_in_vain_is_answered_with_nothing(poll):
    assert poll() == hub_pb2.Task()


def test_a_task_whose_poll_has_been_given_up_is_handed_to_the_next(hub, poll, held):
    waiting = poll.future()
    assert held.acquire(timeout=TIMEOUT)
    waiting.cancel()
    assert wait_until(lambda: all(poll.answer.done() for poll in waiting_polls(hub)))
    hub.put("forecast", id="7")
    assert poll().id == "7"


def waiting_polls(hub):
    return [poll for polls in [*hub._queue._polls._waiting.values()] for poll in polls]


def test_a_hub_that_stops_answers_the_polls_that_it_holds(hub, poll, held):
    polls = [poll.future() for _ in range(3)]
    assert all(held.acquire(timeout=TIMEOUT) for _ in polls)
    hub.stop()
    assert [waiting.result(TIMEOUT) for waiting in polls] == [hub_pb2.Task()] * 3


def test_many_polls_are_held_at_once(hub, poll, held):
    polls = [poll.future() for _ in range(200)]
    assert wait_until(lambda: len(waiting_polls(hub)) == 200)
    hub.stop()
    assert [waiting.result(TIMEOUT) for waiting in polls] == [hub_pb2.Task()] * 200


def assert_refused(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_poll_with_a_wrong_token_is_refused(poll):
    assert_refused(lambda: poll(token="wrong"))


def test_a_result_with_a_wrong_token_is_refused(submit):
    assert_refused(lambda: submit("7", token="wrong"))


def test_a_token_can_be_rotated(hub, poll):
    old, hub.token = hub.token, "new"
    assert_refused(lambda: poll(token=old))


def test_a_poll_gets_the_hub_s_pause(hub, poll):
    hub.rate_limit(1000)
    answer = poll()
    assert answer.action == "rate_limited"
    assert 0 < json.loads(answer.payload)["wait_time"] <= 1000


def test_a_held_poll_gets_the_hub_s_pause(hub, poll, held):
    waiting = poll.future()
    assert held.acquire(timeout=TIMEOUT)
    hub.rate_limit(1000)
    assert waiting.result(TIMEOUT).action == "rate_limited"


def test_a_result_comes_to_its_ticket(hub, poll, submit):
    ticket = hub.put("forecast")
    submit(poll().id)
    assert (ticket.result(TIMEOUT).message, ticket.result(TIMEOUT).data) == ("fine", 1)


def test_a_result_for_a_ticket_that_the_hub_has_given_up_is_recorded(hub, poll, submit):
    ticket = hub.put("forecast")
    task = poll()
    # As at a stop, when the result is on its way.
    hub._end_tickets()
    submit(task.id)
    assert [result.id for result in hub.submissions] == [task.id]
    with pytest.raises(HubStopped):
        ticket.result(TIMEOUT)


def test_a_result_that_another_hub_of_the_store_has_recorded_comes_to_its_ticket():
    hub = LocalHub()
    hub._store.is_shared = True
    result = read_result("t1", "success", '{"message": "fine", "data": {"response": 1}}')
    with hub:
        ticket = hub.put("forecast", id="t1")
        hub._run(lambda: hub._store.claim("weather", 1, 60.0))
        hub._run(lambda: hub._store.record([result]))
        hub._loop.call_soon_threadsafe(hub._queue._note_foreign_change)
        assert ticket.result(TIMEOUT).message == "fine"


def test_only_the_first_result_of_a_task_counts(hub, poll, submit):
    ticket = hub.put("forecast")
    poll()
    submit(ticket.id)
    submit(ticket.id, '{"message": "again"}')
    assert ticket.result(TIMEOUT).message == "fine"


def test_repeated_and_unknown_results_are_kept_too(hub, submit):
    for task_id in ("a", "a", "b"):
        submit(task_id)
    assert [submission.id for submission in hub.submissions] == ["a", "a", "b"]


def test_a_result_that_does_not_come_is_a_timeout_that_helps(hub):
    with pytest.raises(TimeoutError, match=r"no result of action 'forecast' within 0.01 s; does a"):
        hub.call("forecast", timeout=0.01)


def test_only_so_many_tasks_may_be_without_a_result():
    hub = LocalHub(capacity=2)
    hub.put("forecast")
    hub.put("forecast")
    with pytest.raises(BacklogFull, match="has 2 tasks without a result"):
        hub.put("forecast")


def test_a_second_task_with_the_same_id_is_refused():
    hub = LocalHub()
    hub.put("forecast", id="7")
    with pytest.raises(ValueError, match="there is a task '7' without a result already"):
        hub.put("forecast", id="7")


def test_the_same_idempotency_key_runs_a_task_once_and_both_tickets_get_its_result(
    hub, poll, submit
):
    first = hub.put("forecast", id="1", idempotency_key="k")
    second = hub.put("forecast", id="2", idempotency_key="k")
    assert (first.id, second.id) == ("1", "1")
    submit(poll().id)
    assert first.result(TIMEOUT).data == second.result(TIMEOUT).data == 1
    third = hub.put("forecast", id="3", idempotency_key="k")
    assert (third.id, third.result(TIMEOUT).data) == ("1", 1)
    assert hub.cancel("1", reason="it has ended") == []


@pytest.mark.parametrize("task", [{"action": 5}, {"action": "forecast", "id": 5}])
def test_a_task_whose_action_or_id_is_not_a_text_is_refused(task):
    with pytest.raises(TypeError, match="must be a text, not 5"):
        LocalHub().put(**task)


@pytest.mark.parametrize("task", [{"action": "\ud800"}, {"action": "forecast", "id": "\ud800"}])
def test_a_task_whose_action_or_id_is_not_unicode_is_refused(task):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        LocalHub().put(**task)


def test_an_empty_id_is_refused():
    with pytest.raises(ValueError, match="the task's id must not be empty"):
        LocalHub().put("forecast", id="")


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "192.0.2.1:1", "[::]:0", "hub:50051"])
def test_only_loopback_is_listened_on(address):
    with pytest.raises(ConfigurationError, match="it is for this machine only"):
        LocalHub(address)


@pytest.mark.parametrize("port", ["65536", "80000", "-1", "", "http", "1.5"])
def test_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(ConfigurationError, match="a port is from 1 to 65535"):
        LocalHub(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "[::1]"])
def test_an_address_without_a_port_is_refused(address):
    with pytest.raises(ConfigurationError, match="a port is from 1 to 65535"):
        LocalHub(address)


@pytest.mark.parametrize("token", ["sample\nsecond", "sam\0ple", " "])
def test_a_token_that_no_http_client_can_send_is_refused(token):
    with pytest.raises(ConfigurationError, match=r"^token=") as caught:
        LocalHub(token=token)
    assert "sam" not in str(caught.value)


def test_the_white_space_around_a_token_is_not_a_part_of_it():
    assert LocalHub(token=" sample-token\n").token == "sample-token"


def test_a_port_that_is_taken_is_an_error(hub):
    with pytest.raises(ConfigurationError, match=f"the hub can't listen on {hub.address}"):
        LocalHub(hub.address).start()


def test_a_unix_socket_serves_too(tmp_path):
    with LocalHub(f"unix:{tmp_path}/hub.sock") as hub:
        assert hub.address == f"unix:{tmp_path}/hub.sock"
        with pytest.raises(TimeoutError):
            LocalHubClient(hub.address, hub.token).call("forecast", timeout=0.01)


# The client.


@pytest.fixture
def client(hub):
    return LocalHubClient(hub.address, hub.token)


@pytest.fixture
def answer(hub, poll, submit):
    """Return a function that answers the next task in a thread; it returns the task as a future."""
    hub._queue._polls._hold = TIMEOUT

    def run(*result):
        task = poll()
        submit(task.id, *result)
        return task

    with futures.ThreadPoolExecutor(1) as threads:
        yield lambda *result: threads.submit(run, *result)


def test_a_call_returns_the_result_of_the_action(client, answer):
    answer()
    assert client.call("forecast", {"city": "Paris"}, timeout=TIMEOUT).data == 1


def test_a_call_sends_the_payload_and_the_account(client, answer):
    task = answer()
    client.call("forecast", {"city": "Paris"}, account={"key": "k"}, timeout=TIMEOUT)
    sent = task.result(TIMEOUT)
    assert (sent.payload, sent.account) == (b'{"city":"Paris"}', b'{"key":"k"}')


def test_a_call_may_have_a_large_payload_and_a_large_result(client, answer):
    # More than gRPC accepts by default.
    large = "x" * 5_000_000
    answer(json.dumps({"message": "fine", "data": {"response": large}}))
    assert client.call("forecast", {"text": large}, timeout=TIMEOUT).data == large


def test_a_call_with_what_json_can_not_carry_is_an_error(client):
    with pytest.raises(HubError, match="city: a string with a lone surrogate") as caught:
        client.call("forecast", {"city": "\ud800"})
    assert not isinstance(caught.value, HubConnectionError)


@pytest.mark.parametrize("action", [5, "\ud800"])
def test_a_call_of_an_action_that_is_not_a_text_is_an_error(client, action):
    with pytest.raises(HubError, match=r"must be a text|surrogates not allowed") as caught:
        client.call(action)
    assert not isinstance(caught.value, HubConnectionError)


def test_a_call_without_a_result_is_a_timeout(client):
    with pytest.raises(TimeoutError, match=r"no result of action 'forecast' within 0\.01 s"):
        client.call("forecast", timeout=0.01)


def test_a_call_with_a_wrong_token_is_refused(hub):
    with pytest.raises(AuthenticationError, match="refuses the token"):
        LocalHubClient(hub.address, "wrong").call("forecast")


def test_a_call_without_a_hub_is_a_connection_error():
    with pytest.raises(HubConnectionError, match=r"127\.0\.0\.1:1: UNAVAILABLE"):
        LocalHubClient("127.0.0.1:1", "any").call("forecast")


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_call_to_this_machine_needs_no_proxy(client, answer, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    answer()
    assert client.call("work", timeout=TIMEOUT).data == 1


def test_a_proxy_is_named_in_the_error_of_a_call(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    client = LocalHubClient("hub.invalid:50051", "token")
    name = r"the hub at hub.invalid:50051 through the proxy 127.0.0.1:1 \(http_proxy\): "
    with pytest.raises(HubConnectionError, match=name):
        client.call("work", timeout=5)


def test_a_proxy_that_answers_a_call_in_place_of_the_hub_is_not_the_hub():
    with Gateway("127.0.0.1:1") as gateway:
        gateway.answer(401)
        with pytest.raises(HubConnectionError, match="HTTP status 401 without a gRPC status"):
            LocalHubClient(gateway.address, "token").call("work")


def test_a_call_to_another_kind_of_hub_says_so():
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(HubError, match="is not a bundled hub"):
            LocalHubClient(f"127.0.0.1:{port}", "any").call("forecast")
    finally:
        server.stop(None).wait()


def test_a_hub_that_never_started_stops():
    assert LocalHub().stop() is None


class Leaving:
    """The context of a poll whose provider disconnects just as it gets a task."""

    def __init__(self, error=None):
        self.error = error

    def invocation_metadata(self):
        return None

    async def send_initial_metadata(self, metadata):
        if self.error is not None:
            raise self.error

    def done(self):
        return True


@pytest.mark.parametrize("error", [None, asyncio.CancelledError(), RuntimeError("gone")])
def test_a_task_whose_poll_ends_at_the_last_moment_is_handed_out_next(hub, poll, error):
    request = hub_pb2.ProviderRequest(provider="weather", auth_token=hub.token)
    hub.put("forecast", id="7")

    async def leave():
        get_task = hub._methods.find("/Hub/GetTask")
        with contextlib.suppress(BaseException):
            await get_task(request.SerializeToString(), Leaving(error))

    hub._run(leave)
    assert poll().id == "7"


def test_waiting_for_a_result_ends_when_the_hub_stops():
    with LocalHub() as hub:
        ticket = hub.put("forecast")
    with pytest.raises(HubStopped, match="the hub has stopped"):
        ticket.result(20)


def test_a_waiting_call_ends_when_the_hub_stops():
    hub = LocalHub().start()
    with futures.ThreadPoolExecutor(1) as pool:
        client = LocalHubClient(hub.address, hub.token)
        waiting = pool.submit(client.call, "forecast", timeout=TIMEOUT)
        assert wait_until(lambda: hub._queue._waits)
        hub.stop()
        with pytest.raises(HubConnectionError, match="the hub has stopped"):
            waiting.result(20)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("http://127.0.0.1:1", "has the unknown scheme http://"),
        ("127.0.0.1", "has no port"),
        ("grpcs://127.0.0.1:1", "asks for TLS, which a bundled hub does not speak"),
    ],
)
def test_an_address_that_is_not_valid_for_a_bundled_hub_is_refused(address, complaint):
    with pytest.raises(ConfigurationError, match=f"the hub's address '{address}' {complaint}"):
        LocalHubClient(address, "token")


def test_a_hub_s_url_is_an_address_too(hub):
    with pytest.raises(TimeoutError):
        LocalHubClient(hub.url, hub.token).call("nothing", timeout=0.01)


def test_the_url_of_a_hub_on_a_socket_is_its_address(tmp_path):
    assert LocalHub(f"unix:{tmp_path}/hub.sock").url == f"unix:{tmp_path}/hub.sock"


def health_of(hub):
    """Return what a hub answers to gRPC's health check: the number of a status."""
    with grpc.insecure_channel(hub.address) as channel:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=TIMEOUT)


def test_a_hub_says_that_it_is_healthy(hub):
    # The field `status` with SERVING.
    assert health_of(hub) == b"\x08\x01"


def test_a_hub_without_the_extra_has_no_health_service(monkeypatch):
    monkeypatch.setattr("arbprov.localhub.server.find_spec", lambda name: None)
    with LocalHub() as hub, pytest.raises(grpc.RpcError) as caught:
        health_of(hub)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stopped_hub_takes_no_task():
    with LocalHub() as hub:
        pass
    with pytest.raises(HubStopped, match="the hub has stopped"):
        hub.put("forecast")


def test_a_task_that_the_end_of_the_hub_forgot_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("arbprov.localhub.server._STOP_CHECK", 0.01)
    hub = LocalHub().start()
    held = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), hub._loop)
    held.result(TIMEOUT)
    hub.stop()
    # As if the loop had ended between this call and its turn.
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", forget)
    with pytest.raises(HubStopped, match="the hub has stopped"):
        hub.put("forecast")


def forget(coroutine, loop):
    coroutine.close()
    return futures.Future()


def test_a_hub_that_is_slow_is_waited_for(hub, monkeypatch):
    monkeypatch.setattr("arbprov.localhub.server._STOP_CHECK", 0.01)

    async def be_slow():
        await asyncio.sleep(0.1)
        return "done"

    assert hub._run(be_slow) == "done"


def test_a_known_kind_of_store_is_needed():
    with pytest.raises(ConfigurationError, match="memory, sqlite:PATH or postgresql://"):
        LocalHub(store="redis://secret@host")


def test_a_hub_keeps_its_tasks_in_a_file(tmp_path, request):
    with LocalHub(store=f"sqlite:{tmp_path}/hub.sqlite") as hub:
        hub.put("forecast", id="t1")
    with LocalHub(store=f"sqlite:{tmp_path}/hub.sqlite") as hub:
        assert hub._run(lambda: hub._queue.store.get("t1")).action == "forecast"


def test_what_is_put_in_before_the_start_is_handed_out_after_it():
    hub = LocalHub(hold=0.05)
    hub.put("forecast", id="t1")
    hub.rate_limit(0.0)
    with hub:
        assert hub._run(lambda: hub._queue.store.get("t1")).action == "forecast"


def test_a_store_that_can_not_be_opened_is_an_error_of_the_start(tmp_path):
    (tmp_path / "hub.sqlite").write_text("not a database, but a text of some length")
    with pytest.raises(ConfigurationError, match=r"hub\.sqlite"):
        LocalHub(store=f"sqlite:{tmp_path}/hub.sqlite").start()


def test_a_hub_that_fails_says_so(monkeypatch, caplog):
    hub = LocalHub().start()

    async def fail():
        raise OSError("the disk is gone")

    monkeypatch.setattr(hub._queue, "stop", fail)
    hub.stop()
    assert "the bundled hub has failed" in caplog.text
    assert "the disk is gone" in caplog.text


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_postgresql_store_is_known_by_its_url(scheme):
    store = make_store(f"{scheme}://hub:secret@db/tasks")
    assert "secret" not in store.name
