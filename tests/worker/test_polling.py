"""When the hub is asked, beyond what the worker's tests show."""

from __future__ import annotations

import asyncio

import pytest
from support.loops import JumpingLoop, run_jumping

from arbprov.backoff import Backoff
from arbprov.worker.polling import PollThrottle


def gated(main, most=4):
    """Run a coroutine function with a gate, and return what it returns."""
    loop = JumpingLoop()

    async def run():
        return await main(PollThrottle(most, Backoff(1.0, 1.0, jitter=lambda: 1.0)), loop)

    return run_jumping(run(), loop)


async def entered_at(gate, loop):
    """Return the seconds until the gate let a poll through."""
    began = loop.time()
    assert await gate.acquire()
    return loop.time() - began


def after_pauses(*seconds):
    """Return how long a poll waits after others have left with pauses."""

    async def main(gate, loop):
        for _ in seconds:
            gate.task_received()
        for _ in seconds:
            await gate.acquire()
        for one in seconds:
            gate.pause(one)
        return await entered_at(gate, loop)

    return gated(main)


@pytest.mark.parametrize("pauses", [(5, 2), (2, 5), (5,)])
def test_the_longest_of_several_pauses_counts(pauses):
    assert after_pauses(*pauses) == 5


@pytest.mark.fast
def test_pauses_of_almost_nothing_end_on_uvloop_too():
    import uvloop

    async def main():
        gate = PollThrottle(4, Backoff(1.0, 1.0))
        gate.task_received()
        assert await gate.acquire()
        assert await gate.acquire()
        gate.pause(1e-5)
        gate.pause(2e-5)
        return await gate.acquire()

    loop = uvloop.new_event_loop()
    assert loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()


def test_one_poll_after_the_other_while_idle():
    async def main(gate, loop):
        await gate.acquire()
        second = asyncio.ensure_future(entered_at(gate, loop))
        await asyncio.sleep(3)
        gate.poll_empty(held=3.0)
        return await second

    assert gated(main) == 3


def test_tasks_double_the_polls_up_to_the_most():
    async def main(gate, loop):
        allowed = []
        for _ in range(4):
            await gate.acquire()
            gate.task_received()
            allowed.append(gate._allowed)
        return allowed

    assert gated(main) == [2, 4, 4, 4]


def test_a_poll_that_is_given_up_while_it_waits_takes_no_turn():
    async def main(gate, loop):
        await gate.acquire()
        first, second = (asyncio.ensure_future(entered_at(gate, loop)) for _ in range(2))
        await asyncio.sleep(1)
        first.cancel()
        gate.poll_empty(held=1.0)
        return await second

    assert gated(main) == 1


def test_a_closed_gate_lets_nobody_through():
    async def main(gate, loop):
        await gate.acquire()
        waiting = asyncio.ensure_future(gate.acquire())
        await asyncio.sleep(1)
        gate.close()
        return [await waiting, await gate.acquire()]

    assert gated(main) == [False, False]
