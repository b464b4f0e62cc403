"""What threads can see of a worker's event loop."""

from __future__ import annotations

import asyncio

from support.loops import JumpingLoop, run_jumping

from arbprov.instrumentation.loop_watch import LoopWatch


def watch(main):
    """Run ``main(loop, watch)``, where the watch counts its looks."""
    loop = JumpingLoop()

    async def run():
        looks = iter(range(1000))
        watching = LoopWatch(lambda: next(looks), loop.time)
        try:
            return await main(loop, watching)
        finally:
            watching.close()

    return run_jumping(run(), loop)


def test_the_state_is_seen_at_once_and_each_half_second():
    async def main(loop, watching):
        seen = [watching.seen]
        for _ in range(3):
            await asyncio.sleep(0.5001)
            seen.append(watching.seen)
        return seen

    assert watch(main) == [0, 1, 2, 3]


def test_a_loop_that_turns_is_not_silent():
    async def main(loop, watching):
        await asyncio.sleep(3.2)
        return watching.silent_for, watching.lag

    assert watch(main) == (0.0, 0.0)


def test_a_loop_that_is_blocked_is_silent_from_the_next_look_on():
    async def main(loop, watching):
        loop._jumping.now += 5.5  # code that blocks the loop
        return watching.silent_for

    assert watch(main) == 5.0


def test_the_lag_is_how_late_the_last_look_was():
    async def main(loop, watching):
        loop._jumping.now += 2.0
        await asyncio.sleep(0.01)
        return watching.lag

    assert watch(main) == 1.5


def test_nothing_is_seen_after_the_end():
    async def main(loop, watching):
        watching.close()
        await asyncio.sleep(5)
        return watching.seen

    assert watch(main) == 0
