"""How calls run, beyond what the worker's tests show."""

from __future__ import annotations

import asyncio

import pytest

from arbprov import ProviderApp
from arbprov.clock import SystemClock
from arbprov.dispatcher import Dispatcher
from arbprov.executors.executor import Executor
from arbprov.executors.threads import ThreadPool
from arbprov.task import Task


@pytest.fixture
def app():
    app = ProviderApp("test")
    app.action("on_a_thread")(lambda: None)

    @app.action
    async def on_the_loop():
        return None

    return app


@pytest.mark.parametrize("action", ["on_a_thread", "on_the_loop"])
def test_a_bug_of_arbprov_in_a_call_is_its_outcome(app, monkeypatch, action):
    async def broken(self, call, wait=None):
        raise ValueError("a bug")

    monkeypatch.setattr(Dispatcher, "perform", broken)

    async def main():
        loop = asyncio.get_running_loop()
        dispatcher = app._dispatcher(SystemClock())
        executor = Executor(dispatcher, ThreadPool(loop, "test"))
        outcome = loop.create_future()
        executor.start(dispatcher.prepare(Task("t", action)), outcome)
        try:
            return await asyncio.wait_for(outcome, 20)
        finally:
            executor.close()

    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(main())
