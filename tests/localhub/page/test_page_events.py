"""A browser is told of changes, at most once in a while."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.page import events
from arbprov.localhub.page.events import PageEvents
from arbprov.localhub.queue import Change


def stream(api, **options):
    hub = Mock(queue=api.queue, api=api.hub)
    return PageEvents(hub, **options)


def collect(api, page_events, count, act):
    """Return what a browser gets: so many parts after the first."""

    async def read():
        response = await page_events.stream(Mock())
        parts = response.body_iterator
        assert await anext(parts) == b"retry: 2000\n\n"
        act()
        found = [await anext(parts) for _ in range(count)]
        await parts.aclose()
        return found

    return api.run(read())


def tell(api, count):
    for number in range(count):
        api.queue._tell(Change(str(number), "done"))


def test_a_change_is_told(api):
    found = collect(api, stream(api), 1, lambda: tell(api, 1))
    assert found == [b"event: change\ndata: 1\n\n"]


def test_many_changes_are_one_event_and_one_more_after_the_pause(api):
    page_events = stream(api, pause=0.01, heartbeat=0.05)
    found = collect(api, page_events, 4, lambda: tell(api, 500))
    change = b"event: change\ndata: 1\n\n"
    assert found == [change, change, b": quiet\n\n", b": quiet\n\n"]


def test_a_stream_ends_when_the_hub_stops(api):
    async def read():
        response = await stream(api).stream(Mock())
        parts = response.body_iterator
        await anext(parts)
        asyncio.get_running_loop().call_later(0.01, api.hub.stopping.set)
        return [part async for part in parts]

    assert api.run(read()) in ([], [b": quiet\n\n"])


def test_a_stream_in_its_pause_ends_when_the_hub_stops(api):
    async def read():
        response = await stream(api, pause=60.0).stream(Mock())
        parts = response.body_iterator
        await anext(parts)
        tell(api, 2)
        await anext(parts)
        api.hub.stopping.set()
        return [part async for part in parts]

    assert api.run(read()) == []


def test_more_streams_than_the_hub_takes_are_refused(api, monkeypatch):
    monkeypatch.setattr(events, "_MAX_STREAMS", 1)
    page_events = stream(api)

    async def open_two():
        first = (await page_events.stream(Mock())).body_iterator
        await anext(first)
        with pytest.raises(ApiProblem, match="1 pages are open"):
            await page_events.stream(Mock())
        await first.aclose()
        await page_events.stream(Mock())

    api.run(open_two())


def test_the_page_of_a_hub_over_http_has_events(api):
    import http.client
    from urllib.parse import urlsplit

    from support.api_hubs import ADMIN

    with api.serving() as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("GET", "/events", headers={"authorization": f"Bearer {ADMIN}"})
        response = connection.getresponse()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.readline() == b"retry: 2000\n"
        connection.close()
