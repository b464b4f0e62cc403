"""The threads that plain functions run on."""

from __future__ import annotations

import asyncio
import threading
import weakref

import pytest
from support.waiting import wait_until

from arbprov.executors.executor import ThreadPool


def with_pool(main):
    """Run a coroutine function with a pool of its own."""

    async def run():
        pool = ThreadPool(asyncio.get_running_loop(), "test")
        try:
            return await main(pool)
        finally:
            pool.close()

    return asyncio.run(run())


def names(pool, count):
    """Return the names of the threads of calls that run one after the other."""

    async def main():
        return [await pool.run(lambda: threading.current_thread().name) for _ in range(count)]

    return main()


def test_what_the_work_returns_is_the_result():
    assert with_pool(lambda pool: asyncio.wait_for(pool.run(lambda: 5), 10)) == 5


def test_what_the_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        with_pool(lambda pool: asyncio.wait_for(pool.run(lambda: 1 / 0), 10))


def test_a_thread_that_is_free_is_used_again():
    assert set(with_pool(lambda pool: names(pool, 5))) == {"test-1"}


def test_work_that_has_to_run_at_once_has_threads_of_its_own():
    everybody = threading.Barrier(8)

    async def main(pool):
        return await asyncio.gather(*(pool.run(lambda: everybody.wait(10)) for _ in range(8)))

    assert sorted(with_pool(main)) == list(range(8))


def test_a_thread_that_is_free_holds_nothing_of_its_last_work():
    class Payload:
        pass

    async def main(pool):
        payload = Payload()
        seen = weakref.ref(payload)
        await pool.run(lambda payload=payload: payload)
        del payload
        # The thread goes on by itself once the loop has heard of the result.
        await asyncio.to_thread(wait_until, lambda: seen() is None, 10)

    with_pool(main)


def test_a_thread_keeps_nobody_from_ending_the_process():
    async def main(pool):
        return await pool.run(lambda: threading.current_thread().daemon)

    assert with_pool(main) is True


def test_the_result_of_work_that_was_given_up_goes_nowhere():
    go_on, done = threading.Event(), threading.Event()

    async def main(pool):
        future = pool.run(lambda: go_on.wait(10))
        future.cancel()
        go_on.set()
        # The next work on this thread runs behind the one that was given up.
        await asyncio.sleep(0)
        await pool.run(done.set)
        return future.cancelled()

    assert with_pool(main) is True
    assert done.is_set()


def test_work_that_outlives_the_loop_ends_its_thread():
    go_on, threads = threading.Event(), []

    def work():
        threads.append(threading.current_thread())
        go_on.wait(10)

    async def main(pool):
        pool.run(work)
        await pool.run(lambda: None)

    with_pool(main)
    go_on.set()
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_a_closed_pool_ends_its_threads():
    async def main(pool):
        return await pool.run(threading.current_thread)

    thread = with_pool(main)
    thread.join(10)
    assert not thread.is_alive()
