"""A handler's process from inside: what its limits send to the provider."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import pickle
import sys
import threading
import types

import pytest
from support.waiting import TIMEOUT

from arbprov import RateLimited
from arbprov.executors import child
from arbprov.executors.messages import CallRequest, Failure, Kind, Message
from arbprov.limits import Headroom
from arbprov.limits.headers import ApiAnswer


@pytest.fixture
def server():
    """The serving part of a handler's process, and the provider's end of its pipe."""
    ours, theirs = multiprocessing.Pipe()
    before = set(threading.enumerate())
    with theirs:
        with ours:
            yield child._Server(theirs, {}), ours
        # It reads until the provider's end is closed. Later, it would read from the next pipe that
        # gets the number of its file descriptor.
        for reader in set(threading.enumerate()) - before:
            reader.join(TIMEOUT)


def limits_of(server, request):
    state = types.SimpleNamespace(headroom=(), limit_names=["vendor"])
    send = lambda kind, value: server.send_for(request, kind, value)
    return child._Limits(state, send, lambda question: server.ask_for(request, question))


def answer(pipe, failure=None):
    """Answer the next question with a failure, or else with a headroom of 7."""
    question = Message.decode(pipe.recv_bytes())
    number, *asked = question.load()
    outcome = pickle.dumps((number, failure, (Headroom("10/hour", 7, 0.0),)))
    pipe.send_bytes(Message(Kind.ANSWER, 1, outcome).encode())
    return asked


def test_a_question_is_answered_by_the_provider(server):
    server, pipe = server
    server._current = request = object()
    limits, asked = limits_of(server, request), []
    for failure in (None, Failure.of(RateLimited(30, "vendor"))):
        provider = threading.Thread(target=lambda f=failure: asked.append(answer(pipe, f)))
        provider.start()
        if failure is None:
            limits.acquire("vendor", cost=2)
        else:
            with pytest.raises(RateLimited) as raised:
                limits.observe(types.SimpleNamespace(status_code=429, headers={}), limit="vendor")
        provider.join()
    assert raised.value.retry_after == 30
    assert limits.headroom[0].remaining == 7
    assert asked == [
        ["acquire", "vendor", 2, None],
        ["observe", "vendor", ApiAnswer(is_throttled=True)],
    ]


def test_calls_are_received_beside_answers(server):
    server, pipe = server
    server._current = request = object()
    provider = threading.Thread(target=answer, args=[pipe])
    provider.start()
    asyncio.run(limits_of(server, request).aacquire("vendor"))
    provider.join()
    pipe.send_bytes(Message(Kind.CALL, 2, b"next").encode())
    assert bytes(Message.decode(server.receive()).body) == b"next"
    pipe.close()
    with pytest.raises(EOFError):
        server.receive()


def test_a_limit_is_acquired_without_asyncio_which_takes_long_to_import(server, monkeypatch):
    server, pipe = server
    server._current = request = object()
    provider = threading.Thread(target=answer, args=[pipe])
    provider.start()
    monkeypatch.delitem(sys.modules, "asyncio")
    limits_of(server, request).acquire("vendor")
    provider.join()
    assert "asyncio" not in sys.modules


def test_nothing_is_asked_on_an_event_loop(server):
    server, _ = server

    async def block():
        limits_of(server, object()).acquire("vendor")

    with pytest.raises(RuntimeError, match="would block the event loop"):
        asyncio.run(block())


def test_a_refund_is_sent_to_the_provider(server):
    server, pipe = server
    server._current = request = object()
    limits_of(server, request).refund()
    assert Message.decode(pipe.recv_bytes()).kind is Kind.REFUND


def test_a_report_is_sent_in_numbers(server):
    server, pipe = server
    server._current = request = object()
    limits_of(server, request).report("vendor", used="0.5", reset_in="9")
    message = Message.decode(pipe.recv_bytes())
    assert (message.kind, message.load()) == (Kind.REPORT, ("vendor", 0.5, 9.0))


def test_a_refund_of_a_call_that_has_ended_is_an_error(server):
    server, _ = server
    with pytest.raises(RuntimeError, match="the task has ended"):
        limits_of(server, object()).refund()


@pytest.mark.parametrize(
    ("begin_before", "kind"), [(math.inf, Kind.RESULT), (-math.inf, Kind.CHARGE_AGED)]
)
def test_a_handler_whose_charge_has_aged_does_not_begin(begin_before, kind):
    ran = []
    ours, theirs = multiprocessing.Pipe()
    request = CallRequest("work", [], {}, {}, begin_before)
    with ours, theirs:
        server = child._Server(theirs, {"work": lambda: ran.append(True)})
        server.handle(Message(Kind.CALL, 1, request.encode()).encode())
        assert Message.decode(ours.recv_bytes()).kind is kind
    assert bool(ran) is (kind is Kind.RESULT)
