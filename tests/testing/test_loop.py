"""The event loop whose time jumps, or really passes while anything real is under way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.stopwatch import Stopwatch
from support.waiting import TIMEOUT

from arbprov.testing import VirtualClock
from arbprov.testing.loop import SkippingLoop

HOUR = 3600.0
# Real seconds of a work, and the seconds that the clock may show.
SHORT = 0.15


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def loop(clock):
    with contextlib.closing(SkippingLoop(clock)) as loop:
        yield loop
        loop.run_until_complete(loop.shutdown_default_executor())


def elapsed(clock, loop, work):
    """Return the clock's seconds that a coroutine takes."""
    started_at = clock.monotonic()
    loop.run_until_complete(work)
    return clock.monotonic() - started_at


def test_a_sleep_takes_its_time_by_the_clock_and_none_really(clock, loop):
    stopwatch = Stopwatch()
    assert elapsed(clock, loop, asyncio.sleep(HOUR)) == HOUR
    assert stopwatch.seconds < 5


def test_a_sleep_of_days_ends_on_time(clock, loop):
    assert elapsed(clock, loop, asyncio.sleep(100.5 * 24 * HOUR)) == 100.5 * 24 * HOUR


def test_sleeps_end_in_their_order(loop):
    ended = []

    async def sleep(seconds):
        await asyncio.sleep(seconds)
        ended.append((seconds, loop.time()))

    async def main():
        await asyncio.gather(*(sleep(seconds) for seconds in (3, 1, 2)))

    loop.run_until_complete(main())
    assert ended == [(1, 1), (2, 2), (3, 3)]


def test_a_timeout_ends_a_wait_without_end(clock, loop):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), HOUR)

    assert elapsed(clock, loop, main()) == HOUR


def test_the_clock_stands_still_while_code_runs(clock, loop):
    async def main():
        slow()

    def slow():
        time.sleep(0.01)

    assert elapsed(clock, loop, main()) == 0


def test_the_clock_advances_in_the_loop(clock, loop):
    async def main():
        sleeping = asyncio.ensure_future(asyncio.sleep(HOUR))
        await asyncio.sleep(0)
        clock.advance(HOUR)
        await sleeping

    assert elapsed(clock, loop, main()) == HOUR


def test_another_thread_may_advance_the_clock(clock, loop):
    done = threading.Event()

    def advance():
        clock.advance(HOUR)
        done.wait(TIMEOUT)

    async def main():
        thread = threading.Thread(target=advance)
        sleeping = asyncio.ensure_future(asyncio.sleep(HOUR))
        await asyncio.sleep(0)
        thread.start()
        await sleeping
        done.set()
        thread.join()

    assert HOUR <= elapsed(clock, loop, main()) < HOUR + 5


def test_between_runs_the_clock_wakes_tasks_that_sleep_till_then(clock, loop):
    woken = []

    async def tick():
        while True:
            await asyncio.sleep(10)
            woken.append(loop.time())
            await asyncio.sleep(0)  # goes on, as far as it gets

    async def start():
        return asyncio.ensure_future(tick())

    ticking = loop.run_until_complete(start())
    clock.advance(9)
    assert woken == []
    clock.advance(21)
    assert (woken, clock.monotonic()) == ([10, 20, 30], 30)
    ticking.cancel()
    loop.run_until_complete(asyncio.wait([ticking]))


def test_a_task_that_never_rests_does_not_keep_the_clock_from_advancing(clock, loop):
    async def spin():
        while True:
            await asyncio.sleep(0)

    async def start():
        return asyncio.ensure_future(spin())

    spinning = loop.run_until_complete(start())
    clock.advance(5)
    assert clock.monotonic() == 5
    spinning.cancel()
    loop.run_until_complete(asyncio.wait([spinning]))


def test_a_loop_that_has_nothing_to_do_does_not_run_when_the_clock_advances(clock, loop):
    clock.advance(5)
    assert (loop.is_running(), clock.monotonic()) == (False, 5)


def test_in_another_loop_the_clock_just_advances(clock, loop):
    loop.call_later(5, print)

    async def main():
        clock.advance(10)

    asyncio.run(main())
    assert clock.monotonic() == 10


def test_a_closed_loop_may_be_closed_again(clock):
    loop = SkippingLoop(clock)
    loop.close()
    loop.close()
    clock.advance(1)


# Threads.


@pytest.mark.parametrize("of_its_own", [True, False])
def test_time_passes_really_while_an_executor_works(clock, loop, of_its_own):
    async def main(pool):
        work = loop.run_in_executor(pool, time.sleep, SHORT)
        await asyncio.wait([work], timeout=HOUR)
        assert work.done()

    with ThreadPoolExecutor() as pool:
        assert SHORT / 2 < elapsed(clock, loop, main(pool if of_its_own else None)) < HOUR


def test_time_jumps_again_when_the_executor_is_idle(clock, loop):
    async def main():
        await asyncio.to_thread(time.sleep, SHORT)
        await asyncio.sleep(HOUR)

    stopwatch = Stopwatch()
    assert elapsed(clock, loop, main()) > HOUR
    assert stopwatch.seconds < 60


def test_a_task_that_sleeps_beside_a_thread_sleeps_on_after_its_end(clock, loop):
    async def main():
        await asyncio.gather(asyncio.to_thread(time.sleep, SHORT), asyncio.sleep(HOUR))

    assert HOUR <= elapsed(clock, loop, main()) < HOUR + 1


def test_time_passes_really_while_work_of_another_pool_is_polled(clock, loop):
    async def main(pool):
        work = pool.submit(time.sleep, SHORT)
        while not work.done():
            await asyncio.sleep(0.01)

    with ThreadPoolExecutor() as pool:
        pool.submit(int).result()
        assert SHORT / 2 < elapsed(clock, loop, main(pool)) < 30


def test_time_passes_really_while_a_new_thread_runs(clock, loop):
    async def main():
        called = asyncio.Event()

        def call():
            time.sleep(SHORT)
            loop.call_soon_threadsafe(called.set)

        thread = threading.Thread(target=call)
        thread.start()
        await asyncio.wait_for(called.wait(), HOUR)
        thread.join()

    assert SHORT / 2 < elapsed(clock, loop, main()) < HOUR


def test_a_thread_that_was_there_before_does_not_count(clock):
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with contextlib.closing(SkippingLoop(clock)) as loop:
        assert elapsed(clock, loop, asyncio.sleep(HOUR)) == HOUR
    done.set()
    thread.join()


# IO.


class Server:
    """Answers each line after a while, from a thread that is there before the loop."""

    def __init__(self, delay):
        self.delay = delay
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.socket.close()

    def serve(self):
        connection, _ = self.socket.accept()
        with connection:
            while connection.recv(100):
                time.sleep(self.delay)
                connection.sendall(b"answer\n")


@contextlib.asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def test_time_passes_really_while_an_answer_is_awaited(clock):
    async def main():
        async with connected(server) as (reader, writer):
            writer.write(b"question\n")
            return await asyncio.wait_for(reader.readline(), HOUR)

    with Server(SHORT) as server, contextlib.closing(SkippingLoop(clock)) as loop:
        assert loop.run_until_complete(main()) == b"answer\n"
    assert SHORT / 2 < clock.monotonic() < HOUR


def test_time_really_passes_for_a_sleep_beside_an_awaited_answer(clock):
    async def main():
        async with connected(server) as (reader, writer):
            writer.write(b"question\n")
            sleeping = asyncio.ensure_future(asyncio.sleep(HOUR))
            await reader.readline()
            assert not sleeping.done()
            await sleeping

    with Server(SHORT) as server, contextlib.closing(SkippingLoop(clock)) as loop:
        loop.run_until_complete(main())


def test_a_timeout_ends_the_wait_for_an_answer_on_time(clock):
    async def main():
        async with connected(server) as (reader, writer):
            writer.write(b"question\n")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readline(), 0.05)

    with Server(SHORT) as server, contextlib.closing(SkippingLoop(clock)) as loop:
        loop.run_until_complete(main())
    assert clock.monotonic() >= 0.05


def test_time_jumps_beside_an_idle_connection(clock):
    async def main():
        async with connected(server) as (reader, writer):
            writer.write(b"question\n")
            await reader.readline()
            await asyncio.gather(asyncio.sleep(HOUR), asyncio.sleep(2 * HOUR))

    stopwatch = Stopwatch()
    with Server(0) as server, contextlib.closing(SkippingLoop(clock)) as loop:
        loop.run_until_complete(main())
    assert clock.monotonic() > 2 * HOUR
    assert stopwatch.seconds < 60


def test_time_passes_really_while_bytes_wait_to_be_sent(clock):
    async def main(ours):
        _, writer = await asyncio.open_connection(sock=ours)
        writer.write(bytes(10_000_000))
        await asyncio.sleep(SHORT)
        writer.transport.abort()

    ours, theirs = socket.socketpair()
    stopwatch = Stopwatch()
    with theirs, contextlib.closing(SkippingLoop(clock)) as loop:
        loop.run_until_complete(main(ours))
    assert stopwatch.seconds >= SHORT / 2


def test_time_passes_really_while_a_datagram_may_arrive(loop):
    async def main():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        await asyncio.sleep(SHORT)
        transport.abort()

    stopwatch = Stopwatch()
    loop.run_until_complete(main())
    assert stopwatch.seconds >= SHORT / 2


def test_time_passes_really_while_a_subprocess_runs(clock, loop):
    async def main():
        # It begins when the loop waits for it, however late that is.
        code = f"import time; input(); time.sleep({SHORT}); print('done')"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(b"\n"), HOUR)
        return output

    assert loop.run_until_complete(main()) == b"done\n"
    assert SHORT / 2 < clock.monotonic() < HOUR


def test_without_a_timer_the_loop_waits_for_other_threads(clock, loop):
    async def main():
        called = asyncio.Event()
        timer = threading.Timer(SHORT, lambda: loop.call_soon_threadsafe(called.set))
        timer.start()
        await called.wait()
        timer.join()

    assert SHORT / 2 < elapsed(clock, loop, main()) < HOUR


def test_bytes_that_have_arrived_are_read_before_time_jumps(clock):
    read_at = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            read_at.append(clock.monotonic())

    async def main():
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        theirs.sendall(b"hello")
        await asyncio.sleep(HOUR)
        transport.abort()

    ours, theirs = socket.socketpair()
    with theirs, contextlib.closing(SkippingLoop(clock)) as loop:
        loop.run_until_complete(main())
    assert read_at == [0]
