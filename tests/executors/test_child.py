"""A handler's process from inside: what its limits send to the provider."""

from __future__ import annotations

import math
import multiprocessing
import types

import pytest

from arbprov.executors import child
from arbprov.executors.messages import CallRequest, Kind, Message


@pytest.fixture
def server():
    """The serving part of a handler's process, and the provider's end of its pipe."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield child._Server(theirs, {}), ours


def limits_of(server, request):
    state = types.SimpleNamespace(headroom=(), limit_names=["vendor"])
    return child._Limits(state, lambda kind, value: server.send_for(request, kind, value))


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
