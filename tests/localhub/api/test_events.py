"""Server-sent events."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from support.waiting import TIMEOUT, wait_until

from arbprov.localhub.api import events
from arbprov.localhub.api.events import EventEndpoints
from arbprov.localhub.api.problems import ApiProblem


class Stream:
    """A stream of events that is read part by part."""

    def __init__(self, api, **options):
        self.api, self.endpoints = api, EventEndpoints(api.hub, **options)
        self.parts = api.run(self.open()).body_iterator

    async def open(self, method="GET"):
        return await self.endpoints.stream(Request({"type": "http", "method": method}))

    async def _next(self):
        return await anext_(self.parts)

    def next(self):
        return self.api.run(self._next())

    def close(self):
        self.api.run(self.parts.aclose())


async def anext_(iterator):
    # `anext` of Python 3.10 and later is fine too; this returns None at the end.
    async for item in iterator:
        return item
    return None


@pytest.fixture
def stream(api):
    stream = Stream(api)
    assert stream.next() == b": open\n\n"
    yield stream
    stream.close()


def test_each_change_of_a_task_is_an_event(api, stream):
    task_id = api.submit(id="t1")
    api.finish()
    assert [stream.next() for _ in range(3)] == [
        f'event: task\ndata: {{"id":"{task_id}","state":"{state}"}}\n\n'.encode()
        for state in ("waiting", "running", "done")
    ]


def test_any_change_is_an_event_of_its_own(api, stream):
    api.loop.call_soon_threadsafe(api.queue.wake)
    assert stream.next() == b"event: all\ndata: {}\n\n"


def test_a_quiet_stream_has_a_comment_now_and_then(api):
    stream = Stream(api, heartbeat=0.01)
    assert [stream.next() for _ in range(3)] == [b": open\n\n", b": quiet\n\n", b": quiet\n\n"]
    stream.close()


def test_a_stream_ends_when_the_hub_stops(api, stream):
    # It waits for a change by then.
    following = asyncio.run_coroutine_threadsafe(stream._next(), api.loop)
    wait_until(lambda: api.run(waits_for_a_change(api)))
    api.loop.call_soon_threadsafe(api.hub.stopping.set)
    assert following.result(TIMEOUT) is None


async def waits_for_a_change(api):
    (listener,) = api.queue._listeners
    return bool(listener._getters)


def test_a_closed_stream_leaves_nothing_behind(api):
    async def count():
        return len(api.queue._listeners), len(asyncio.all_tasks())

    api.submit()
    before = api.run(count())
    stream = Stream(api)
    stream.next()
    api.submit()
    stream.next()
    assert api.run(count())[0] == 1
    stream.close()
    wait_until(lambda: api.run(count()) == before)


def test_the_number_of_streams_is_bounded(api, monkeypatch):
    monkeypatch.setattr(events, "_MAX_STREAMS", 1)
    stream = Stream(api)
    stream.next()
    with pytest.raises(ApiProblem, match="1 streams of events are open; close a stream"):
        api.run(stream.open())
    stream.close()
    api.run(stream.open())


def test_a_head_request_gets_no_stream(api):
    answer = api.ask("HEAD", "/api/v1/events")
    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
