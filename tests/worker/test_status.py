"""What a worker says of itself."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.hubs import Held
from support.running import Running, away, tasks

from arbprov import ProviderApp


@pytest.fixture
def app():
    app = ProviderApp("test")

    @app.action
    async def work(seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)

    @app.action
    @app.rate_limit("1/minute", max_wait=100)
    async def limited() -> None: ...

    return app


def status(app, at, until=20.0, **script):
    """Return the worker's status at a moment."""
    running = Running(app, **script)
    running.look_at = (at,)
    running.until(until)
    return running.statuses_at[at]


def test_a_worker_has_not_started_before_its_startup_hooks_have_run(app):
    @app.on_startup
    async def slow() -> None:
        await asyncio.sleep(2.0)

    assert not status(app, 1.0).has_started
    assert status(app, 3.0).has_started


def test_a_worker_whose_hub_holds_the_first_poll_is_connected(app):
    assert status(app, 1.0, afterwards=Held(50)).is_connected


def test_a_worker_without_a_connection_is_connected_after_the_first_answer(app):
    script = {"polls": [Held(2.0)], "afterwards": Held(50), "is_connected": False}
    assert not status(app, 1.0, **script).is_connected
    assert status(app, 3.0, **script).is_connected


def test_a_worker_is_not_connected_while_polls_fail(app):
    assert not status(app, 3.0, polls=[*tasks(1), away()], afterwards=away()).is_connected


def test_the_time_since_the_last_answer_of_a_poll(app):
    assert status(app, 3.0, polls=[Held(1.0)], afterwards=Held(50)).since_poll == 2.0


def test_there_is_no_such_time_before_the_first_answer(app):
    assert status(app, 3.0, afterwards=Held(50)).since_poll is None


def test_tasks_in_flight_and_slots_are_counted(app):
    seen = status(app, 1.0, polls=[*tasks(3, payload=b'{"seconds": 0.9}'), Held(50)])
    assert seen.in_flight == 0
    running = status(app, 0.5, polls=tasks(3, payload=b'{"seconds": 0.9}'), afterwards=Held(50))
    assert (running.in_flight, running.slots) == (3, 4)


def test_calls_that_wait_for_limits_are_counted(app):
    seen = status(app, 1.0, polls=tasks(2, "limited"), afterwards=Held(50))
    assert (seen.waiting, seen.in_flight) == (1, 1)


def test_handlers_that_outlive_their_timeouts_are_stuck():
    app = ProviderApp("test")

    @app.action(timeout=1.0)
    async def stubborn() -> None:
        for _ in range(5):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1.0)

    assert status(app, 2.5, polls=tasks(1, "stubborn"), afterwards=Held(50)).stuck == 1


def test_results_that_wait_for_the_hub_are_counted_with_their_bytes_and_age(app):
    seen = status(app, 5.0, polls=tasks(2), afterwards=Held(50), submits=[Held(6.0)] * 2)
    assert seen.undelivered == 2
    assert seen.undelivered_bytes > 100
    assert seen.oldest_undelivered == 5.0


def test_without_results_the_oldest_has_no_age(app):
    assert status(app, 5.0, polls=tasks(2), afterwards=Held(50)).oldest_undelivered == 0.0


def test_a_worker_that_stops_is_draining(app):
    script = {"polls": tasks(1, payload=b'{"seconds": 0.9}'), "afterwards": Held(50)}
    assert not status(app, 0.4, until=0.5, **script).is_draining
    assert status(app, 0.6, until=0.5, **script).is_draining
