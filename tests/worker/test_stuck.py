"""Handlers that outlive their deadlines, and the end of a worker when they take all slots."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading

import attrs
import pytest
from support.hubs import ScriptedHub
from support.loops import BEGIN, JumpingLoop, run_jumping
from support.waiting import TIMEOUT

from arbprov import ProviderApp, ProviderError
from arbprov.clock import SystemClock
from arbprov.localhub import LocalHub
from arbprov.task import Task
from arbprov.worker.stuck import StuckHandlers
from arbprov.worker.worker import Worker, WorkerSettings

SETTINGS = WorkerSettings(
    concurrency=2, drain_timeout=25.0, start_timeout=30.0, max_task_timeout=1.0
)


@pytest.fixture
def app():
    app = ProviderApp("test", execution_timeout=1)

    async def outlive(seconds):
        """Ignore cancellation, as threads do."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        return {}

    @app.action
    async def crunch(seconds: float = 50.0):
        return await outlive(seconds)

    @app.action
    async def fetch(seconds: float = 50.0):
        return await outlive(seconds)

    return app


@attrs.define(slots=False)
class Running:
    """A worker with two slots and some tasks, when it ended, and why it was unready when."""

    app: ProviderApp
    tasks: list[Task]
    ended_at: float | None = None
    unready: dict[float, str] = attrs.field(factory=dict)

    def until(self, seconds, *moments):
        """Run the worker, stop it after `seconds`, and note its `unready` at some moments."""
        self.loop = JumpingLoop()
        run_jumping(self._work(seconds, moments), self.loop)
        return self

    async def _work(self, seconds, moments):
        hub = ScriptedHub(polls=self.tasks)
        worker = Worker(self.app._dispatcher(self.loop), hub, self.app._life_hooks(), SETTINGS)
        self.loop.call_at(BEGIN + seconds, worker.stop)
        for moment in moments:
            self.loop.call_at(BEGIN + moment, self._ask, worker, moment)
        try:
            await worker.run()
        finally:
            self.ended_at = self.loop.time() - BEGIN

    def _ask(self, worker, moment):
        self.unready[moment] = worker.status().unready


def tasks(*actions, payload=b"{}"):
    return [Task(f"t{number}", action, payload) for number, action in enumerate(actions)]


def test_a_worker_without_a_slot_left_ends(app):
    running = Running(app, tasks("crunch", "fetch"))
    with pytest.raises(ProviderError):
        running.until(100)
    assert running.ended_at == 11.0


def test_the_error_names_the_stuck_actions_and_for_how_long(app):
    with pytest.raises(ProviderError) as caught:
        Running(app, tasks("crunch", "fetch")).until(100)
    assert str(caught.value) == (
        "no slot is left of 2: handlers have outlived their time: 'crunch' (1, for up to 10 s), "
        "'fetch' (1, for up to 10 s); they can't be ended, so the provider ends, for its "
        'supervisor to start it again; with isolation="process" they could be killed'
    )


def test_a_stuck_action_is_named_once(app):
    with pytest.raises(ProviderError, match=r"time: 'crunch' \(2, for up to 10 s\);"):
        Running(app, tasks("crunch", "crunch")).until(100)


def test_a_worker_with_a_slot_left_goes_on(app):
    running = Running(app, tasks("crunch")).until(100, 30)
    assert running.unready == {30: ""}
    assert running.ended_at == 100


def test_a_worker_goes_on_if_a_slot_comes_back_in_time(app):
    script = [*tasks("crunch"), Task("another", "fetch", b'{"seconds": 10}')]
    running = Running(app, script).until(100, 9, 11)
    assert "no slot is left of 2" in running.unready[9]
    assert running.unready[11] == ""


def test_a_worker_whose_slots_are_lost_is_not_ready(app):
    running = Running(app, tasks("crunch", "fetch"))
    with pytest.raises(ProviderError):
        running.until(100, 0.5, 1.5)
    assert running.unready[0.5] == ""
    assert running.unready[1.5].startswith("no slot is left of 2: handlers")


def test_a_worker_that_stops_is_not_ready(app):
    app.config = app.config.override(execution_timeout=5.0)
    assert Running(app, tasks("crunch")).until(1, 2).unready == {2: "it is draining"}


def test_a_worker_whose_slots_are_lost_stops_at_once(app):
    assert Running(app, tasks("crunch", "fetch")).until(5).ended_at == 5


def test_stuck_threads_count_too(hub, monkeypatch):
    monkeypatch.setattr("arbprov.worker.stuck._GIVE_UP_AFTER", 0.01)
    app, go_on = ProviderApp("test", execution_timeout=0.05, concurrency=1), threading.Event()

    @app.action
    def hang():
        go_on.wait(TIMEOUT)
        return {}

    hub.put("hang")
    with pytest.raises(ProviderError, match="no slot is left of 1"):
        app.run(hub_url=hub.address, auth_token=hub.token)
    go_on.set()


def test_a_handler_that_was_cancelled_before_it_began_is_not_late(app, caplog):
    async def main():
        loop = asyncio.get_running_loop()
        stuck = StuckHandlers(1, loop.create_future(), pytest.fail)
        (task,) = tasks("crunch")
        call = app._dispatcher(SystemClock()).prepare(task)
        call.ended = loop.create_task(asyncio.sleep(60))
        call.ended.cancel()
        await stuck.wait_for(call)

    asyncio.run(main())
    assert caplog.messages == []


@pytest.mark.slow
def test_a_provider_whose_threads_all_hang_exits_with_1(tmp_path):
    (tmp_path / "stuck.py").write_text(
        "import threading\n"
        "import arbprov.worker.stuck\n"
        "from arbprov import ProviderApp\n"
        "arbprov.worker.stuck._GIVE_UP_AFTER = 0.1\n"
        "app = ProviderApp(execution_timeout=0.05, concurrency=2)\n"
        "@app.action\n"
        "def hang(): threading.Event().wait()\n"
    )
    with LocalHub(hold=0.05) as hub:
        (tmp_path / "token").write_text(hub.token)
        command = [sys.executable, "-m", "arbprov", "run", "stuck", "--hub-url", hub.address]
        hub.put("hang")
        hub.put("hang")
        ended = subprocess.run(
            [*command, "--auth-token-file", "token"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    assert ended.returncode == 1
    assert "Error: no slot is left of 2: handlers" in ended.stderr
