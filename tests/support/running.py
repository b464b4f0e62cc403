"""A worker that runs on a scripted hub, in an event loop whose time jumps."""

from __future__ import annotations

import itertools

from arbprov import HubConnectionError, ProviderApp
from arbprov.task import Task
from arbprov.worker.worker import Worker, WorkerSettings
from support.hubs import ScriptedHub
from support.loops import BEGIN, JumpingLoop, run_jumping


class Running:
    """An app whose worker runs on a scripted hub, until it is stopped or ends by itself."""

    def __init__(self, app: ProviderApp | None = None, **script):
        self.app = app or ProviderApp("test")
        self.hub = ScriptedHub(**script)
        self.settings = {
            "concurrency": 4,
            "drain_timeout": 25.0,
            "start_timeout": 30.0,
            "max_task_timeout": 1.0,
        }
        self.ended_at = None
        # Makes the worker's journal; by default, the worker has a journal in memory.
        self.make_journal = lambda: None
        self.observers = None
        # The worker's status at some moments, by the seconds from the start.
        self.look_at: tuple[float, ...] = ()
        self.statuses_at: dict[float, object] = {}

    def until(self, seconds: float, **settings):
        """Run the worker, stop it after `seconds`, and return self."""
        self.loop = JumpingLoop()
        run_jumping(self._work(seconds, self.settings | settings), self.loop)
        return self

    async def _work(self, seconds, settings):
        dispatcher = self.app._dispatcher(self.loop)
        worker = Worker(
            dispatcher,
            self.hub,
            self.app._life_hooks(),
            WorkerSettings(**settings),
            self.make_journal(),
            self.observers,
        )
        for moment in self.look_at:
            self.loop.call_at(BEGIN + moment, self._look, worker, moment)
        self.loop.call_at(BEGIN + seconds, worker.stop)
        try:
            await worker.run()
        finally:
            self.ended_at = self.loop.time() - BEGIN
            if self.observers is not None:
                self.observers.run_ended()

    def _look(self, worker, moment):
        self.statuses_at[moment] = worker.status()

    @property
    def polled_at(self):
        return [at - BEGIN for at in self.hub.polled_at]

    @property
    def pauses(self):
        times = self.polled_at
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    @property
    def results(self):
        return [(at - BEGIN, result) for at, result in self.hub.submitted]

    @property
    def statuses(self):
        return [result.status.value for _, result in self.results]


def tasks(count, action="work", payload=b"{}"):
    return [Task(f"t{number}", action, payload) for number in range(count)]


def away():
    return HubConnectionError("away")
