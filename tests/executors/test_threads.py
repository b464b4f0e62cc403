"""The threads that plain functions run on."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov.executors.threads import ThreadPool


def with_pool(main):
    """Run a coroutine function with a new pool."""

    async def run():
        pool = ThreadPool(asyncio.get_running_loop(), "test")
        try:
            return await main(pool)
        finally:
            pool.close()

    return asyncio.run(run())


def names(pool, count):
    """Return the name of the thread that each of `count` calls in a row runs on."""

    async def main():
        return [await pool.run(lambda: threading.current_thread().name) for _ in range(count)]

    return main()


def test_the_future_has_what_the_work_returns():
    assert with_pool(lambda pool: asyncio.wait_for(pool.run(lambda: 5), TIMEOUT)) == 5


def test_the_future_raises_what_the_work_raises():
    with pytest.raises(ZeroDivisionError):
        with_pool(lambda pool: asyncio.wait_for(pool.run(lambda: 1 / 0), TIMEOUT))


def test_an_idle_thread_is_reused():
    assert set(with_pool(lambda pool: names(pool, 5))) == {"test-1"}


def test_work_in_parallel_has_a_thread_each():
    barrier = threading.Barrier(8)

    async def main(pool):
        return await asyncio.gather(*(pool.run(lambda: barrier.wait(TIMEOUT)) for _ in range(8)))

    assert sorted(with_pool(main)) == list(range(8))


def test_an_idle_thread_holds_no_reference_to_its_last_work():
    class Payload:
        pass

    async def main(pool):
        payload = Payload()
        seen = weakref.ref(payload)
        await pool.run(lambda payload=payload: payload)
        del payload
        # The thread drops it after the loop has the result.
        await asyncio.to_thread(wait_until, lambda: seen() is None)

    with_pool(main)


def test_a_thread_is_a_daemon():
    async def main(pool):
        return await pool.run(lambda: threading.current_thread().daemon)

    assert with_pool(main) is True


def test_the_result_of_work_whose_future_was_cancelled_is_dropped():
    go_on, done = threading.Event(), threading.Event()

    async def main(pool):
        future = pool.run(lambda: go_on.wait(TIMEOUT))
        future.cancel()
        go_on.set()
        # The next work on this thread runs after the cancelled work.
        await asyncio.sleep(0)
        await pool.run(done.set)
        return future.cancelled()

    assert with_pool(main) is True
    assert done.is_set()


def test_work_that_outlives_the_loop_ends_its_thread():
    go_on, started = threading.Event(), queue.SimpleQueue()

    def work():
        started.put(threading.current_thread())
        go_on.wait(TIMEOUT)

    async def main(pool):
        pool.run(work)
        return await asyncio.to_thread(started.get, timeout=TIMEOUT)

    thread = with_pool(main)
    go_on.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_a_closed_pool_ends_its_threads():
    async def main(pool):
        return await pool.run(threading.current_thread)

    thread = with_pool(main)
    thread.join(TIMEOUT)
    assert not thread.is_alive()
