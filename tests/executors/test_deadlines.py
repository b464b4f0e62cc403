"""Deadlines that share a timer."""

from __future__ import annotations

import asyncio

import pytest
from support.loops import BEGIN, JumpingLoop, run_jumping

from arbprov.executors.executor import Deadlines


@pytest.fixture
def run():
    """Return a function that runs ``main(deadlines, expire)``; returns what expired when."""

    def run(main):
        loop, expired = JumpingLoop(), []

        def expire(name):
            expired.append((name, round(loop.time() - BEGIN, 3)))

        run_jumping(main(Deadlines(loop), expire), loop)
        return expired

    return run


def test_a_call_that_does_not_end_expires_at_its_deadline(run):
    async def main(deadlines, expire):
        deadlines.start(5.0, "a", expire, "a")
        await asyncio.sleep(60)

    assert run(main) == [("a", 5.0)]


def test_a_call_that_has_ended_does_not_expire(run):
    async def main(deadlines, expire):
        deadlines.start(5.0, "a", expire, "a")
        deadlines.start(5.0, "b", expire, "b")
        deadlines.stop(5.0, "a")
        await asyncio.sleep(60)

    assert run(main) == [("b", 5.0)]


def test_each_call_expires_at_its_own_deadline(run):
    async def main(deadlines, expire):
        deadlines.start(5.0, "a", expire, "a")
        await asyncio.sleep(1)
        deadlines.start(5.0, "b", expire, "b")
        deadlines.start(0.5, "c", expire, "c")
        await asyncio.sleep(2)
        deadlines.stop(5.0, "a")
        deadlines.start(5.0, "d", expire, "d")
        await asyncio.sleep(60)

    assert run(main) == [("c", 1.5), ("b", 6.0), ("d", 8.0)]


def test_a_call_that_starts_after_all_others_have_ended_expires_too(run):
    async def main(deadlines, expire):
        deadlines.start(5.0, "a", expire, "a")
        deadlines.stop(5.0, "a")
        await asyncio.sleep(60)
        deadlines.start(5.0, "b", expire, "b")
        await asyncio.sleep(60)

    assert run(main) == [("b", 65.0)]


def test_a_call_that_has_expired_can_be_stopped(run):
    async def main(deadlines, expire):
        deadlines.start(5.0, "a", expire, "a")
        await asyncio.sleep(60)
        deadlines.stop(5.0, "a")

    assert run(main) == [("a", 5.0)]


def test_an_expiring_call_may_stop_and_start_others(run):
    async def main(deadlines, expire):
        deadlines.start(5.0, "a", deadlines.stop, 5.0, "b")
        deadlines.start(5.0, "b", expire, "b")
        deadlines.start(5.0, "c", deadlines.start, 5.0, "d", expire, "d")
        await asyncio.sleep(60)

    assert run(main) == [("d", 10.0)]


def test_calls_of_the_same_timeout_share_a_timer():
    loop = JumpingLoop()

    async def main():
        deadlines = Deadlines(loop)
        for number in range(1000):
            deadlines.start(5.0, number, print)
        timers = len(loop._scheduled)
        for number in range(1000):
            deadlines.stop(5.0, number)
        return timers

    assert run_jumping(main(), loop) == 1
