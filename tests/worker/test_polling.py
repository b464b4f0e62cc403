"""When the hub is polled, beyond what the worker's tests show."""

from __future__ import annotations

import asyncio

import pytest
from support.loops import JumpingLoop, run_jumping
from support.waiting import TIMEOUT

from arbprov.backoff import Backoff
from arbprov.worker.polling import PollThrottle


def throttled(main, max_polls=4):
    """Return the result of a coroutine function that is given a throttle and its loop."""
    loop = JumpingLoop()

    async def run():
        return await main(PollThrottle(max_polls, Backoff(1.0, 1.0, jitter=lambda: 1.0)), loop)

    return run_jumping(run(), loop)


async def seconds_until_acquired(throttle, loop):
    """Return the seconds until a poll may go out."""
    started_at = loop.time()
    assert await throttle.acquire()
    return loop.time() - started_at


def after_pauses(*seconds):
    """Return the seconds that a poll waits while pauses of some lengths go on at once."""

    async def main(throttle, loop):
        for _ in seconds:
            throttle.task_received()
        for _ in seconds:
            await throttle.acquire()
        for one in seconds:
            throttle.pause(one)
        return await seconds_until_acquired(throttle, loop)

    return throttled(main)


@pytest.mark.parametrize("pauses", [(5, 2), (2, 5), (5,)])
def test_the_longest_of_several_pauses_counts(pauses):
    assert after_pauses(*pauses) == 5


@pytest.mark.fast
def test_pauses_of_almost_nothing_end_on_uvloop_too():
    import uvloop

    async def main():
        throttle = PollThrottle(4, Backoff(1.0, 1.0))
        throttle.task_received()
        assert await throttle.acquire()
        assert await throttle.acquire()
        throttle.pause(1e-5)
        throttle.pause(2e-5)
        return await throttle.acquire()

    loop = uvloop.new_event_loop()
    assert loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
    loop.close()


def test_one_poll_after_the_other_while_idle():
    async def main(throttle, loop):
        await throttle.acquire()
        second = asyncio.ensure_future(seconds_until_acquired(throttle, loop))
        await asyncio.sleep(3)
        throttle.poll_empty(held=3.0)
        return await second

    assert throttled(main) == 3


def test_tasks_double_the_polls_up_to_the_maximum():
    async def main(throttle, loop):
        allowed = []
        for _ in range(4):
            await throttle.acquire()
            throttle.task_received()
            allowed.append(throttle._allowed)
        return allowed

    assert throttled(main) == [2, 4, 4, 4]


def test_a_cancelled_poll_takes_no_turn():
    async def main(throttle, loop):
        await throttle.acquire()
        first = asyncio.ensure_future(seconds_until_acquired(throttle, loop))
        second = asyncio.ensure_future(seconds_until_acquired(throttle, loop))
        await asyncio.sleep(1)
        first.cancel()
        throttle.poll_empty(held=1.0)
        return await second

    assert throttled(main) == 1


def test_a_closed_throttle_allows_no_poll():
    async def main(throttle, loop):
        await throttle.acquire()
        waiting = asyncio.ensure_future(throttle.acquire())
        await asyncio.sleep(1)
        throttle.close()
        return [await waiting, await throttle.acquire()]

    assert throttled(main) == [False, False]
