"""How calls run, beyond what the worker's tests show."""

from __future__ import annotations

import asyncio
import threading

import pytest

from arbprov import ProviderApp, TaskContext, TaskTimeoutError
from arbprov.clock import SystemClock
from arbprov.dispatcher import Dispatcher
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.task import Task

TIMEOUT = 20.0


class Blocking:
    """An app with a handler on a thread that waits until the test lets it go on."""

    def __init__(self):
        self.app = ProviderApp("test")
        self.started, self.go_on = threading.Event(), threading.Event()

        @self.app.action
        def on_a_thread(block: bool = False):
            self.started.set()
            if block:
                assert self.go_on.wait(TIMEOUT)

        @self.app.action
        async def on_the_loop():
            return None

    def run(self, main):
        """Run ``main(executor, prepare)``, a coroutine function, and return its result."""

        async def run():
            dispatcher = self.app._dispatcher(SystemClock())
            executor = Executor(dispatcher, ThreadPool(asyncio.get_running_loop(), "test"))
            try:
                return await asyncio.wait_for(main(executor, dispatcher.prepare), TIMEOUT)
            finally:
                self.go_on.set()
                executor.close()

        return asyncio.run(run())


@pytest.mark.parametrize("action", ["on_a_thread", "on_the_loop"])
def test_a_bug_of_arbprov_in_a_call_is_its_outcome(monkeypatch, action):
    async def broken(self, call, wait=None):
        raise ValueError("a bug")

    async def main(executor, prepare):
        return await executor.run(prepare(Task("t", action)), TIMEOUT)

    monkeypatch.setattr(Dispatcher, "perform", broken)
    with pytest.raises(ValueError, match="a bug"):
        Blocking().run(main)


def test_a_cancelled_call_does_not_wait_for_its_thread():
    blocking = Blocking()

    async def main(executor, prepare):
        call = prepare(Task("t", "on_a_thread", b'{"block": true}'))
        running = asyncio.ensure_future(executor.run(call, TIMEOUT))
        await asyncio.to_thread(blocking.started.wait, TIMEOUT)
        running.cancel()
        await asyncio.wait([running])
        ended_before = call.ended.done()
        blocking.go_on.set()
        await call.ended
        return running.cancelled(), ended_before

    assert blocking.run(main) == (True, False)


def test_a_plain_handler_notices_that_the_worker_ends():
    blocking, noticed = Blocking(), threading.Event()

    @blocking.app.action
    def loops(ctx: TaskContext):
        blocking.started.set()
        while not ctx.cancelled:
            assert not blocking.go_on.wait(0.005)
        noticed.set()

    async def main(executor, prepare):
        running = asyncio.ensure_future(executor.run(prepare(Task("t", "loops")), TIMEOUT))
        await asyncio.to_thread(blocking.started.wait, TIMEOUT)
        running.cancel()
        await asyncio.wait([running])
        return await asyncio.to_thread(noticed.wait, TIMEOUT)

    assert blocking.run(main)


def test_a_call_has_ended_when_its_thread_has():
    blocking = Blocking()

    async def main(executor, prepare):
        call = prepare(Task("t", "on_a_thread", b'{"block": true}'))
        with pytest.raises(TaskTimeoutError):
            await executor.run(call, 0.01)
        ended_before = call.ended.done()
        blocking.go_on.set()
        await call.ended
        return ended_before

    assert blocking.run(main) is False
