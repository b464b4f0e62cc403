"""`GrpcHub` and each answer of a hub, over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
from concurrent import futures

import grpc
import pytest
from support.gateways import Gateway
from support.waiting import TIMEOUT

from arbprov._proto import hub_pb2
from arbprov.errors import AuthenticationError, HubConnectionError
from arbprov.task import Status, Task, TaskResult
from arbprov.testing import FaultyHub, faults
from arbprov.wire.client import GrpcHub
from arbprov.wire.hub import Pause, ResultRefused, ResultTooLarge
from arbprov.wire.messages import encode_result, with_token
from arbprov.wire.tokens import Token


class Server(grpc.GenericRpcHandler):
    """A hub that gives the test's answer, and records requests."""

    def __init__(self):
        self.answer = hub_pb2.Task()
        self.code = None
        self.details = "because of the test"
        self.requests = []
        self.release = threading.Event()
        self.release.set()

    def service(self, details):
        kinds = {
            "/Hub/GetTask": hub_pb2.ProviderRequest,
            "/Hub/SubmitTaskResult": hub_pb2.TaskResult,
        }
        return grpc.unary_unary_rpc_method_handler(
            self.respond, kinds[details.method].FromString, hub_pb2.Task.SerializeToString
        )

    def respond(self, request, context):
        self.requests.append(request)
        self.release.wait(TIMEOUT)
        if self.code is not None:
            context.abort(self.code, self.details or "")
        return self.answer


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def url(server):
    running = grpc.server(futures.ThreadPoolExecutor(2), handlers=[server])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}"
    server.release.set()
    running.stop(None).wait()


def token_of(source):
    token = Token(source)
    token.read()
    return token


@contextlib.asynccontextmanager
async def client(url, poll_timeout=TIMEOUT):
    """Yield a `GrpcHub`."""
    hub = GrpcHub(
        url,
        provider="weather",
        token=token_of("secret"),
        poll_timeout=poll_timeout,
        submit_timeout=TIMEOUT,
    )
    try:
        yield hub
    finally:
        await hub.close()


@pytest.fixture
def asked(url):
    """Return a function that calls a method of a `GrpcHub` once."""

    def ask(method, *arguments, to=url):
        async def main():
            async with client(to) as hub:
                return await getattr(hub, method)(*arguments)

        return asyncio.run(main())

    return ask


RESULT = encode_result(
    TaskResult(
        Task("t1", "forecast", b'{"city": "\xc3\x98"}', b'{"key":1}'),
        Status.WARNING,
        "so so",
        {},
        body='{"status":"warning"}',
    ),
    provider="weather",
)


def test_a_poll_shows_name_and_token(asked, server):
    asked("fetch")
    assert server.requests == [hub_pb2.ProviderRequest(provider="weather", auth_token="secret")]


def test_a_task_with_an_id_is_a_task(asked, server):
    server.answer = hub_pb2.Task(id="7", action="forecast", payload=b'{"a":1}', account=b"{}")
    assert asked("fetch") == Task("7", "forecast", b'{"a":1}', b"{}")


def test_an_answer_that_is_not_a_task_is_a_connection_error(asked):
    hub = FaultyHub(faults.garbled())
    with hub, pytest.raises(HubConnectionError, match="sent an answer that is not a task"):
        asked("fetch", to=hub.url)


def test_a_task_without_an_id_is_nothing(asked, server):
    server.answer = hub_pb2.Task(action="forecast")
    assert asked("fetch") is None


def test_not_found_is_nothing(asked, server):
    server.code = grpc.StatusCode.NOT_FOUND
    assert asked("fetch") is None


def test_an_unanswered_poll_returns_nothing(server, url):
    async def main():
        async with client(url, poll_timeout=0.1) as hub:
            # A connection may take longer than the poll.
            await hub.submit(RESULT)
            server.release.clear()
            return await hub.fetch()

    assert asyncio.run(main()) is None


def test_a_poll_on_a_connection_may_bring_a_task(server, url):
    server.release.clear()

    async def main():
        async with client(url) as hub:
            poll = asyncio.ensure_future(hub.fetch())
            while not server.requests:
                await asyncio.sleep(0.01)
            held = hub.is_connected
            server.release.set()
            await poll
            return held, hub.is_connected

    assert asyncio.run(main()) == (True, True)


def test_a_poll_without_a_connection_can_bring_no_task():
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            async with client(f"127.0.0.1:{silent.getsockname()[1]}") as hub:
                poll = asyncio.ensure_future(hub.fetch())
                accepted, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
                with accepted:
                    poll.cancel()
                    return hub.is_connected

    assert asyncio.run(main()) is False


def test_a_rate_limited_hint_is_a_pause(asked, server):
    server.answer = hub_pb2.Task(action="rate_limited", payload=b'{"wait_time": 2.5}')
    assert asked("fetch") == Pause(2.5)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nope",
        b"[]",
        b"{}",
        b'{"wait_time": "soon"}',
        b'{"wait_time": null}',
        b'{"wait_time": -1}',
        b'{"wait_time": NaN}',
        b'{"wait_time": Infinity}',
        b"[" * 100_000,
    ],
    ids=lambda payload: payload[:20].decode(),
)
def test_a_hint_that_can_not_be_read_is_nothing(asked, server, payload):
    server.answer = hub_pb2.Task(action="rate_limited", payload=payload)
    assert asked("fetch") is None


def test_a_hint_of_more_seconds_than_a_float_can_hold_is_a_pause_without_end(asked, server):
    payload = b'{"wait_time": 1%s}' % (b"0" * 400)
    server.answer = hub_pb2.Task(action="rate_limited", payload=payload)
    assert asked("fetch") == Pause(math.inf)


@pytest.mark.parametrize("method", [("fetch",), ("submit", RESULT)], ids=lambda m: m[0])
def test_a_refused_token_is_an_authentication_error_without_the_token(asked, server, url, method):
    server.code = grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(AuthenticationError) as caught:
        asked(*method)
    assert str(caught.value) == (
        f"the hub at {url} refuses the token of provider 'weather': because of the test; "
        f"is PROVIDER_AUTH_TOKEN right?"
    )


@pytest.mark.parametrize("method", [("fetch",), ("submit", RESULT)], ids=lambda m: m[0])
@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "ABORTED"])
def test_any_other_trouble_is_a_connection_error_with_its_code(asked, server, method, code):
    server.code = grpc.StatusCode[code]
    with pytest.raises(HubConnectionError, match=f"{code}, because of the test"):
        asked(*method)


def test_a_hub_that_is_away_is_a_connection_error(asked):
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        asked("fetch", to="127.0.0.1:1")


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "FAILED_PRECONDITION"])
def test_a_result_can_be_refused_for_good(asked, server, code):
    server.code = grpc.StatusCode[code]
    with pytest.raises(ResultRefused, match=f"{code}, because of the test"):
        asked("submit", RESULT)


def large(size):
    result = TaskResult(Task("t1", "forecast"), Status.SUCCESS, "fine", {}, body="x" * size)
    return encode_result(result, "weather")


@pytest.mark.parametrize(
    ("code", "size", "details"),
    [
        ("RESOURCE_EXHAUSTED", 10, "Received message larger than max (10 vs. 4)"),
        ("RESOURCE_EXHAUSTED", 10, "gRPC message exceeds maximum size 4: 10"),
        ("RESOURCE_EXHAUSTED", 10, "Received message exceeds the maximum configured message size."),
        ("INVALID_ARGUMENT", 10, "the result is too large"),
        ("UNKNOWN", 10, "Received message larger than max (10 vs. 4)"),
        ("INVALID_ARGUMENT", 70_000, "because of the test"),
        ("RESOURCE_EXHAUSTED", 1_100_000, "because of the test"),
    ],
)
def test_a_result_can_be_too_large(asked, server, code, size, details):
    server.code, server.details = grpc.StatusCode[code], details
    with pytest.raises(ResultTooLarge):
        asked("submit", large(size))


@pytest.mark.parametrize(
    ("code", "size", "details"),
    [
        ("RESOURCE_EXHAUSTED", 1_000_000, "slow down"),
        ("UNAVAILABLE", 3_000_000, "too large a load"),
        ("INTERNAL", 3_000_000, None),
    ],
)
def test_a_hub_in_trouble_has_not_refused_a_result(asked, server, code, size, details):
    server.code, server.details = grpc.StatusCode[code], details
    with pytest.raises(HubConnectionError):
        asked("submit", large(size))


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 429, 500, 502, 503])
@pytest.mark.parametrize("method", ["fetch", "submit"])
def test_a_proxy_that_answers_in_place_of_the_hub_refuses_nothing(asked, method, code):
    with Gateway("127.0.0.1:1") as gateway:
        gateway.answer(code)
        message = f"HTTP status {code} without a gRPC status, as a proxy answers, not the hub"
        with pytest.raises(HubConnectionError, match=message):
            asked(method, *([RESULT] if method == "submit" else []), to=gateway.address)


def test_a_proxy_of_the_environment_is_named_in_errors(asked, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret-of-the-proxy@127.0.0.1:1")
    with pytest.raises(HubConnectionError) as caught:
        asked("fetch", to="hub.invalid:50051")
    name = "the hub at hub.invalid:50051 through the proxy 127.0.0.1:1 (http_proxy): UNAVAILABLE"
    assert name in str(caught.value)
    assert "secret-of-the-proxy" not in str(caught.value)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_hub_on_this_machine_needs_no_proxy(asked, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert asked("fetch") is None


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "FAILED_PRECONDITION"])
def test_a_small_result_is_refused_for_its_content(asked, server, code):
    server.code = grpc.StatusCode[code]
    with pytest.raises(ResultRefused) as caught:
        asked("submit", RESULT)
    assert not isinstance(caught.value, ResultTooLarge)


def test_a_refusal_that_repeats_the_token_does_not_show_it(asked, server):
    server.code, server.details = grpc.StatusCode.PERMISSION_DENIED, "not for secret"
    with pytest.raises(ResultRefused, match=r"PERMISSION_DENIED, not for \[redacted\]"):
        asked("submit", RESULT)


def test_a_result_is_sent_with_the_token(asked, server):
    asked("submit", RESULT)
    assert server.requests == [hub_pb2.TaskResult.FromString(with_token(RESULT, "secret"))]


def test_the_answer_to_a_result_is_never_run_as_a_task(asked, server):
    server.answer = hub_pb2.Task(id="8", action="forecast")
    assert asked("submit", RESULT) is None


def test_a_payload_that_is_not_utf_8_goes_back_with_replacement_characters(asked, server):
    task = Task("t1", "forecast", b'{"a": "\xff"}')
    result = TaskResult(task, Status.ERROR, "bad", {}, body="{}")
    asked("submit", encode_result(result, "weather"))
    assert server.requests[0].payload == '{"a": "\ufffd"}'
