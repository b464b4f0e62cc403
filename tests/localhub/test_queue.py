"""The queue of a hub: who waits for what, and what is due."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.waiting import TIMEOUT

from arbprov.errors import HubError
from arbprov.localhub import HubStopped, queue
from arbprov.localhub.queue import Change, QueueSettings, TaskQueue
from arbprov.localhub.store import Due
from arbprov.localhub.stores.sqlite import SqliteStore
from arbprov.localhub.submitting import make_task, read_result
from arbprov.localhub.tasks import Outcome, State, TaskFilter

pytestmark = pytest.mark.anyio

ENVELOPE = '{"message": "fine", "data": {"response": 1}}'
LIMIT = '{"message": "no", "data": {"response": {"wait_time": 0.01, "limit": "1/second"}}}'


class Store(SqliteStore):
    """A store in memory whose methods can fail, and that may be shared."""

    def __init__(self):
        super().__init__(None)
        self.failing = set()
        self.failed = asyncio.Event()
        self.on_change = None

    async def open(self, on_change):
        self.on_change = on_change
        await super().open(on_change)

    def check(self, name):
        if name in self.failing:
            self.failed.set()
            raise HubError(f"{name} fails")

    async def claim(self, *arguments):
        self.check("claim")
        return await super().claim(*arguments)

    async def upkeep(self):
        self.check("upkeep")
        return await super().upkeep()

    async def prune(self, *arguments):
        self.check("prune")
        return await super().prune(*arguments)


@pytest.fixture
async def store(anyio_backend):
    return Store()


@pytest.fixture
async def tasks(store):
    """A queue that runs."""
    tasks = TaskQueue(store, QueueSettings(hold=0.0))
    await tasks.start()
    yield tasks
    await tasks.answer_held_calls()
    await tasks.stop()


async def patient(awaitable):
    """Return what an awaitable returns; fail, instead of hanging, if it never does."""
    return await asyncio.wait_for(awaitable, TIMEOUT)


async def put(tasks, id="t1", **values):
    await tasks.submit([make_task("work", id=id, **values)])


async def run(tasks, id="t1", status="success", result=ENVELOPE):
    """Take a task, and record a result of it."""
    delivery = await tasks.take("worker", renews=False)
    assert delivery.id == id
    return await tasks.record(read_result(id, status, result, attempt=delivery.attempt))


async def test_a_task_goes_in_and_out_and_ends(tasks):
    await put(tasks)
    assert await run(tasks) is Outcome.RECORDED
    assert (await tasks.store.get("t1")).state is State.DONE


@pytest.mark.parametrize(("renews", "lease"), [(False, 600.0), (True, 60.0)])
async def test_a_provider_that_renews_has_a_shorter_lease(tasks, renews, lease):
    await put(tasks)
    assert (await tasks.take("worker", renews=renews)).lease == lease


async def test_no_lease_is_longer_than_the_hub_s(store):
    tasks = TaskQueue(store, QueueSettings(hold=0.0, lease=5.0))
    await tasks.start()
    await put(tasks)
    assert (await tasks.take("worker", renews=True)).lease == 5.0
    await tasks.answer_held_calls()
    await tasks.stop()


# Waiting for the end of tasks.


async def test_a_wait_returns_what_has_ended_already(tasks):
    await put(tasks)
    await run(tasks)
    (task,) = await patient(tasks.wait(["t1", "t2"], TIMEOUT))
    assert task.id == "t1"


async def test_a_wait_ends_with_the_first_result(tasks):
    for name in ("t1", "t2"):
        await put(tasks, name)
    waiting = asyncio.ensure_future(tasks.wait(["t1", "t2"], TIMEOUT))
    await asyncio.sleep(0)
    await run(tasks)
    assert [task.id for task in await patient(waiting)] == ["t1"]


async def test_a_wait_ends_though_the_provider_left_while_its_result_was_recorded(
    tasks, monkeypatch
):
    await put(tasks)
    waiting = asyncio.ensure_future(tasks.wait(["t1"], TIMEOUT))
    record, recording, gate = tasks.store.record, asyncio.Event(), asyncio.Event()

    async def record_slowly(results):
        outcomes = await record(results)
        recording.set()
        await gate.wait()
        return outcomes

    monkeypatch.setattr(tasks.store, "record", record_slowly)
    running = asyncio.ensure_future(run(tasks))
    await patient(recording.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    assert [task.id for task in await patient(waiting)] == ["t1"]


async def test_a_task_is_handed_out_at_once_though_its_submitter_left(store, monkeypatch):
    tasks = TaskQueue(store, QueueSettings(hold=TIMEOUT))
    await tasks.start()
    polling = asyncio.ensure_future(tasks.take("worker", renews=False))
    submit, storing, gate = store.submit, asyncio.Event(), asyncio.Event()

    async def submit_slowly(new):
        accepted = await submit(new)
        storing.set()
        await gate.wait()
        return accepted

    monkeypatch.setattr(store, "submit", submit_slowly)
    submitting = asyncio.ensure_future(put(tasks))
    await patient(storing.wait())
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    gate.set()
    assert (await patient(polling)).id == "t1"
    await tasks.answer_held_calls()
    await tasks.stop()


async def test_a_wait_for_nothing_ends_at_once(tasks):
    assert await patient(tasks.wait([], TIMEOUT)) == []


async def test_a_wait_in_vain_returns_nothing_and_is_forgotten(tasks):
    await put(tasks)
    assert await tasks.wait(["t1"], 0.0) == []
    assert not tasks._watchers


async def test_a_wait_ends_when_its_task_is_cancelled(tasks):
    await put(tasks)
    waiting = asyncio.ensure_future(tasks.wait(["t1"], TIMEOUT))
    await asyncio.sleep(0)
    await tasks.cancel(["t1"])
    assert [task.state for task in await patient(waiting)] == [State.CANCELLED]


async def test_a_wait_ends_when_its_task_is_dead(tasks, store, monkeypatch):
    await put(tasks)
    waiting = asyncio.ensure_future(tasks.wait(["t1"], TIMEOUT))
    await asyncio.sleep(0)
    # As if its time had run out.
    await store.cancel(["t1"], "too late")

    async def upkeep():
        monkeypatch.undo()
        return Due(ready=True, ended=("t1",))

    monkeypatch.setattr(store, "upkeep", upkeep)
    tasks.wake()
    assert [task.id for task in await patient(waiting)] == ["t1"]


async def test_a_wait_ends_once_when_several_tasks_end_at_once(tasks):
    for name in ("t1", "t2"):
        await put(tasks, name)
    waiting = asyncio.ensure_future(tasks.wait(["t1", "t2"], TIMEOUT))
    await asyncio.sleep(0)
    await tasks.cancel(["t1", "t2"])
    # A hub that stops now has nothing to add.
    await tasks.answer_held_calls()
    assert {task.id for task in await patient(waiting)} == {"t1", "t2"}


async def test_a_wait_ends_with_the_hub(tasks):
    waiting = asyncio.ensure_future(tasks.wait(["t1"], TIMEOUT))
    await asyncio.sleep(0)
    await tasks.answer_held_calls()
    with pytest.raises(HubStopped):
        await patient(waiting)


async def test_a_result_that_another_hub_has_recorded_is_seen(store):
    store.is_shared = True
    tasks = TaskQueue(store, QueueSettings(hold=0.0))
    await tasks.start()
    await put(tasks)
    waiting = asyncio.ensure_future(tasks.wait(["t1"], TIMEOUT))
    await asyncio.sleep(0)
    (delivery,) = await store.claim("worker", 1, 60.0)
    await store.record([read_result(delivery.id, "success", ENVELOPE)])
    store.on_change()
    assert [task.id for task in await patient(waiting)] == ["t1"]
    await tasks.answer_held_calls()
    await tasks.stop()


async def test_the_end_of_one_watch_leaves_the_others(tasks):
    seen = []
    tasks.watch("t1", seen.append)
    tasks.watch("t1", print)
    tasks.unwatch("t1", print)
    tasks.unwatch("t1", print)
    await put(tasks)
    await run(tasks)
    assert [task.id for task in seen] == ["t1"]
    tasks.unwatch("t1", seen.append)
    tasks.unwatch("t1", seen.append)
    assert "t1" not in tasks._watchers


# Polls.


async def test_a_poll_is_held_until_a_task_comes(store):
    tasks = TaskQueue(store, QueueSettings(hold=TIMEOUT))
    await tasks.start()
    polling = asyncio.ensure_future(tasks.take("worker", renews=False))
    await asyncio.sleep(0.01)
    await put(tasks)
    assert (await patient(polling)).id == "t1"
    await tasks.answer_held_calls()
    await tasks.stop()


async def test_a_store_that_fails_fails_the_polls(tasks, store):
    store.failing.add("claim")
    with pytest.raises(HubError, match="claim fails"):
        await patient(tasks.take("worker", renews=False))
    store.failing.clear()
    await put(tasks)
    await run(tasks)


async def test_polls_that_have_left_are_not_told_of_an_error(tasks, monkeypatch):
    leaving = asyncio.ensure_future(tasks.take("worker", renews=False))
    staying = asyncio.ensure_future(tasks.take("worker", renews=False))

    async def leave_and_fail(*arguments):
        leaving.cancel()
        raise HubError("claim fails")

    monkeypatch.setattr(tasks.store, "claim", leave_and_fail)
    with pytest.raises(HubError):
        await patient(staying)
    with pytest.raises(asyncio.CancelledError):
        await leaving
    monkeypatch.undo()


async def test_a_task_whose_poll_left_with_it_is_handed_out_next(tasks, monkeypatch):
    await put(tasks)
    leaving = asyncio.ensure_future(tasks.take("worker", renews=False))
    claim = tasks.store.claim

    async def claim_and_leave(*arguments):
        deliveries = await claim(*arguments)
        leaving.cancel()
        return deliveries

    monkeypatch.setattr(tasks.store, "claim", claim_and_leave)
    with contextlib.suppress(asyncio.CancelledError):
        await patient(leaving)
    monkeypatch.undo()
    delivery = await patient(tasks.take("worker", renews=False))
    assert (delivery.id, delivery.attempt) == ("t1", 2)
    assert (await tasks.store.get("t1")).deliveries == 1


async def test_a_poll_that_is_cancelled_as_it_gets_a_task_gives_it_back(tasks, monkeypatch):
    await put(tasks)
    polls = tasks._polls
    claim = polls._claim
    polling = asyncio.ensure_future(polls.take("worker", 60.0))

    async def claim_and_leave(*arguments):
        await claim(*arguments)
        polling.cancel()

    monkeypatch.setattr(polls, "_claim", claim_and_leave)
    with pytest.raises(asyncio.CancelledError):
        await patient(polling)
    monkeypatch.undo()
    assert (await patient(tasks.take("worker", renews=False))).attempt == 2


async def test_more_polls_than_one_claim_serves_all_get_a_task(tasks, monkeypatch):
    monkeypatch.setattr("arbprov.localhub.polls._MOST", 2)
    for number in range(5):
        await put(tasks, f"t{number}")
    polls = [asyncio.ensure_future(tasks.take("worker", renews=False)) for _ in range(5)]
    deliveries = [await patient(poll) for poll in polls]
    assert [delivery.id for delivery in deliveries] == ["t0", "t1", "t2", "t3", "t4"]


async def test_a_poll_of_a_hub_that_stops_gets_nothing(tasks):
    await put(tasks)
    await tasks.answer_held_calls()
    assert await patient(tasks.take("worker", renews=False)) is None


async def test_a_task_that_is_handed_out_as_the_hub_stops_goes_back(store, monkeypatch):
    tasks = TaskQueue(store, QueueSettings(hold=TIMEOUT))
    await tasks.start()
    await put(tasks)
    claim, claimed, gate = store.claim, asyncio.Event(), asyncio.Event()

    async def claim_slowly(*arguments):
        deliveries = await claim(*arguments)
        claimed.set()
        await gate.wait()
        return deliveries

    monkeypatch.setattr(store, "claim", claim_slowly)
    polling = asyncio.ensure_future(tasks.take("worker", renews=False))
    await patient(claimed.wait())
    stopping = asyncio.ensure_future(tasks.answer_held_calls())
    assert await patient(polling) is None
    gate.set()
    await patient(stopping)
    task = await store.get("t1")
    assert (task.state, task.deliveries) == (State.WAITING, 0)
    await tasks.stop()


async def test_polls_pause_for_as_long_as_the_hub_asks(tasks):
    tasks.pause_polls(1000)
    assert 999 < tasks.pause_left <= 1000


# What is due.


async def test_a_task_over_a_limit_is_handed_out_again_after_its_wait(store):
    tasks = TaskQueue(store, QueueSettings(hold=TIMEOUT))
    await tasks.start()
    await put(tasks)
    await run(tasks, status="limit", result=LIMIT)
    assert (await patient(tasks.take("worker", renews=False))).attempt == 2
    await tasks.answer_held_calls()
    await tasks.stop()


@pytest.mark.parametrize("method", ["upkeep", "prune"])
async def test_a_store_that_fails_is_tried_again(store, caplog, monkeypatch, method):
    monkeypatch.setattr(queue, "_LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(queue, "_PRUNE_INTERVAL", 0.01)
    store.failing.add(method)
    tasks = TaskQueue(store, QueueSettings(hold=TIMEOUT))
    await tasks.start()
    await patient(store.failed.wait())
    store.failed.clear()
    await patient(store.failed.wait())
    await tasks.answer_held_calls()
    await tasks.stop()
    assert f"{method} fails" in caplog.text


async def test_old_tasks_are_removed(store, monkeypatch):
    monkeypatch.setattr(queue, "_PRUNE_INTERVAL", 0.01)
    tasks = TaskQueue(store, QueueSettings(hold=0.0, max_age=0.0))
    await tasks.start()
    await put(tasks)
    await run(tasks)
    while await store.get("t1"):
        await asyncio.sleep(0.01)
    await tasks.answer_held_calls()
    await tasks.stop()


# What people do.


async def test_a_task_that_is_retried_runs_again(tasks):
    await put(tasks)
    await run(tasks, status="error")
    assert await tasks.retry(["t1"]) == ["t1"]
    await run(tasks)
    assert (await tasks.store.get("t1")).attempt == 2


async def test_a_selection_goes_over_all_pages(tasks, monkeypatch):
    for number in range(5):
        await put(tasks, f"t{number}")
    search = tasks.store.search
    monkeypatch.setattr(
        tasks.store, "search", lambda where, **page: search(where, **page | {"limit": 2})
    )
    assert await tasks.select(TaskFilter(), 10) == ["t4", "t3", "t2", "t1", "t0"]
    assert await tasks.select(TaskFilter(), 2) == ["t4", "t3"]


# Changes.


def seen(listener):
    return [listener.get_nowait() for _ in range(listener.qsize())]


async def test_each_change_is_told(tasks):
    with tasks.changes() as listener:
        await put(tasks)
        await run(tasks, status="limit", result=LIMIT)
        await put(tasks, "t1")
        await tasks.cancel(["t1"])
        await tasks.retry(["t1"])
        tasks.wake()
    states = ["waiting", "running", "waiting", "cancelled", "waiting"]
    assert seen(listener) == [*(Change("t1", state) for state in states), Change("", "")]


async def test_a_listener_that_is_slow_misses_the_oldest_changes(tasks, monkeypatch):
    monkeypatch.setattr(queue, "_MAX_CHANGES", 2)
    with tasks.changes() as listener:
        for number in range(3):
            await put(tasks, f"t{number}")
    assert [change.id for change in seen(listener)] == ["t1", "t2"]


async def test_nothing_is_told_after_the_end(tasks):
    with tasks.changes() as listener:
        pass
    await put(tasks)
    assert seen(listener) == []
