"""What a worker says about itself, in an event loop whose time jumps."""

from __future__ import annotations

import pytest
from support.hubs import Held
from support.loops import BEGIN
from support.running import Running, away, tasks

from arbprov import ProviderApp
from arbprov.worker.worker import Worker


@pytest.fixture
def look(monkeypatch):
    """Return a function that runs a worker, and returns its status at some moments."""
    run = Worker.run

    def look(*moments, app=None, concurrency=4, is_connected=True, **script):
        found = {}

        async def watched(worker):
            loop = worker._loop
            for moment in moments:
                ask = lambda moment=moment: found.update({moment: worker.status()})
                loop.call_at(BEGIN + moment, ask)
            await run(worker)

        monkeypatch.setattr(Worker, "run", watched)
        running = Running(app, **script)
        running.hub.is_connected = is_connected
        running.until(100.0, concurrency=concurrency)
        return [found[moment] for moment in moments]

    return look


def test_a_poll_that_the_hub_holds_on_a_connection_counts_as_an_answer(look):
    (status,) = look(5, polls=[Held(60)] * 4)
    assert (status.is_connected, status.unready, status.since_poll) == (True, "", None)


def test_a_poll_without_a_connection_counts_as_nothing(look):
    (status,) = look(5, polls=[Held(60)] * 4, is_connected=False)
    assert (status.is_connected, status.unready) == (False, "the hub does not answer")


def test_a_poll_counts_once_no_other_has_failed_for_a_second(look):
    # It fails after 3 s, and the next poll begins half a second later at most.
    early, late = look(3.7, 5, polls=[Held(1), Held(2, away()), *[Held(60)] * 9], concurrency=1)
    assert (early.is_connected, late.is_connected) == (False, True)


def test_the_age_of_the_last_answer_and_of_the_oldest_result(look):
    app = ProviderApp("test")

    @app.action
    async def work():
        return None

    script = {"polls": [*tasks(1), *[Held(1000)] * 10], "submits": [Held(40)]}
    (status,) = look(30, app=app, **script)
    assert status.since_poll == pytest.approx(30, abs=0.1)
    assert status.oldest_undelivered == pytest.approx(30, abs=0.1)
    assert (status.undelivered, status.in_flight) == (1, 0)
    assert status.undelivered_bytes > 0
