"""Logging the handler that blocks the event loop, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.waiting import TIMEOUT

from arbprov import ProviderApp
from arbprov.clock import SystemClock
from arbprov.executors import watchdog
from arbprov.executors.executor import Executor, ThreadPool
from arbprov.executors.watchdog import Watchdog
from arbprov.logs.current import current_task
from arbprov.task import Task


class Blocking:
    """An app with handlers that block until the test releases `go_on`."""

    def __init__(self):
        self.app = ProviderApp("test", auth_token="token-of-the-hub", execution_timeout=60)
        self.blocks, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

        @self.app.action
        async def block(times: int = 1):
            for _ in range(times):
                self.wait_here("hunter22", "token-of-the-hub")
                await asyncio.sleep(0)

        @self.app.action
        async def block_in_a_task():
            async def part():
                self.wait_here()

            await asyncio.create_task(part())

        @self.app.action
        async def wait():
            """Wait on a thread, which leaves the loop free."""
            await asyncio.to_thread(self.wait_here)

    def wait_here(self, *_):
        self.blocks.release()
        assert self.go_on.acquire(timeout=TIMEOUT)


class Watched:
    """A loop in a thread that runs calls of `Blocking`, and a watchdog that the test drives."""

    def __init__(self):
        self.blocking = Blocking()
        self.now = 0.0
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.thread.start()
        assert self.ready.wait(TIMEOUT)

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.dispatcher = self.blocking.app._dispatcher(SystemClock())
        self.watchdog = Watchdog(self.dispatcher, lambda: self.now)
        # The test calls `check` itself, so no thread is started.
        self.watchdog._thread = threading.current_thread()
        self.ready.set()
        await self.ended.wait()

    def start(self, *actions, payload=b"{}"):
        """Start a call of each action; return a function that waits until all have ended."""

        def begin(action):
            call = self.dispatcher.prepare(Task("t1", action, payload, b'{"key": "hunter22"}'))
            inner = asyncio.create_task(self.dispatcher.perform(call))
            self.watchdog.calls[inner] = call
            inner.add_done_callback(self.watchdog.calls.pop)
            return inner

        async def run():
            await asyncio.gather(*[begin(action) for action in actions])

        future = asyncio.run_coroutine_threadsafe(run(), self.loop)
        return lambda: future.result(TIMEOUT)

    def advance(self, seconds):
        """Call `check` every tenth of a second, as the thread does, while the clock moves on."""
        for _ in range(round(seconds / 0.1)):
            self.watchdog.check()
            self.now += 0.1

    def run_loop_once(self):
        """Wait until the loop has left the step that it is in."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(TIMEOUT)

    def end(self):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(TIMEOUT)


@pytest.fixture
def watched():
    watched = Watched()
    yield watched
    watched.end()


def block(watched, actions, *waits, payload=b"{}"):
    """Run actions that block for these numbers of seconds, one block after the other."""
    wait = watched.start(*actions.split(), payload=payload)
    for seconds in waits:
        assert watched.blocking.blocks.acquire(timeout=TIMEOUT)
        watched.advance(seconds)
        watched.blocking.go_on.release()
    wait()


def test_a_handler_that_blocks_the_loop_is_logged_with_its_task(watched, caplog):
    block(watched, "block", 2.0)
    assert caplog.messages[0].startswith(
        "action 'block' (task 't1') has blocked the event loop, and with it every other task, for "
        "more than 1 s; await slow operations, or make the handler a plain def\n"
    )


def test_the_line_about_a_blocked_loop_belongs_to_the_task_that_blocks(watched, caplog):
    tasks = []
    with caplog.filtering(lambda record: tasks.append(current_task.get()) or True):
        block(watched, "block", 2.0)
    assert ([task.id for task in tasks], current_task.get()) == (["t1"], None)


def test_the_stack_is_logged_from_the_handler_on(watched, caplog):
    block(watched, "block", 2.0)
    first, _, second = caplog.messages[0].splitlines()[1:4]
    assert first.endswith("in block")
    assert second.endswith("in wait_here")


def test_secrets_in_the_stack_are_redacted(watched, caplog):
    block(watched, "block", 2.0)
    assert 'self.wait_here("[redacted]", "[redacted]")' in caplog.text


def test_each_block_is_logged_once(watched, caplog):
    block(watched, "block", 5.0, 5.0, payload=b'{"times": 2}')
    assert len(caplog.messages) == 2


def test_a_block_of_less_than_a_second_is_not_logged(watched, caplog):
    block(watched, "block", 0.9, 0.9, payload=b'{"times": 2}')
    assert caplog.messages == []


def test_two_handlers_that_block_for_a_second_only_together_are_not_logged(watched, caplog):
    block(watched, "block block", 0.7, 0.7)
    assert caplog.messages == []


def test_a_handler_that_awaits_is_not_logged(watched, caplog):
    wait = watched.start("wait")
    assert watched.blocking.blocks.acquire(timeout=TIMEOUT)
    # The loop may still be starting the thread.
    watched.run_loop_once()
    watched.advance(5.0)
    watched.blocking.go_on.release()
    wait()
    assert caplog.messages == []


def test_a_task_that_a_handler_created_is_logged_by_its_name(watched, caplog):
    block(watched, "block_in_a_task", 2.0)
    assert "block_in_a_task.<locals>.part has blocked the event loop" in caplog.text


def test_a_task_that_goes_on_while_its_stack_is_read_is_not_logged(watched, caplog, monkeypatch):
    read = watchdog.format_user_stack

    def read_slowly(frame):
        watched.watchdog._answered.set()
        return read(frame)

    monkeypatch.setattr(watchdog, "format_user_stack", read_slowly)
    block(watched, "block", 1.5)
    assert caplog.messages == []


# The thread itself.


def run_with_executor(main):
    """Run a coroutine function with an executor of `Blocking`'s app."""
    blocking = Blocking()

    async def run():
        loop = asyncio.get_running_loop()
        dispatcher = blocking.app._dispatcher(SystemClock())
        executor = Executor(dispatcher, ThreadPool(loop, "test"))
        try:
            await main(blocking, dispatcher, executor)
        finally:
            executor.close()
        return executor

    return asyncio.run(run())


def test_there_is_no_thread_before_the_first_async_handler():
    async def main(blocking, dispatcher, executor):
        assert executor._watchdog._thread is None

    run_with_executor(main)


def test_the_thread_sleeps_while_no_call_runs_and_ends_with_the_executor():
    async def main(blocking, dispatcher, executor):
        call = dispatcher.prepare(Task("t1", "wait"))
        outcome = asyncio.get_running_loop().create_future()
        executor.start(call, outcome)
        await asyncio.to_thread(blocking.blocks.acquire)
        blocking.go_on.release()
        await outcome
        while executor._watchdog.awake.is_set():
            await asyncio.sleep(0)
        assert executor._watchdog._thread.is_alive()

    executor = run_with_executor(main)
    executor._watchdog._thread.join(TIMEOUT)
    assert not executor._watchdog._thread.is_alive()


def test_a_closed_loop_ends_the_thread():
    async def main():
        return Watchdog(ProviderApp("test")._dispatcher(SystemClock()))

    watchdog = asyncio.run(main())
    watchdog.check()
    assert watchdog._closed.is_set()


@pytest.mark.slow
def test_a_worker_logs_a_handler_that_blocks_its_loop(hub, serve, log_line):
    app = ProviderApp("test")

    @app.action
    async def block() -> str:
        # The mistake under test.
        return log_line("has blocked the event loop")

    serve(app)
    result = hub.call("block")
    assert f"action 'block' (task '{result.id}') has blocked the event loop" in result.data
