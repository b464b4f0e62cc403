"""Tasks that a person cancels, with a provider at work."""

from __future__ import annotations

import time

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov import ProviderApp, TaskContext
from arbprov.localhub import LocalHub
from arbprov.localhub.tasks import State
from arbprov.testing import serving


@pytest.fixture
def hub():
    # Providers renew their leases three times as often, and a busy machine may miss one renewal.
    with LocalHub(hold=0.05, lease=3.0) as hub:
        yield hub


def stored(hub, id):
    return hub._run(lambda: hub._queue.store.get(id))


def cancel(hub, id):
    return hub.cancel(id, reason="not needed any more")


def test_a_waiting_task_that_is_cancelled_never_runs(hub):
    ticket = hub.put("work", id="t1")
    assert cancel(hub, "t1") == ["t1"]
    result = ticket.result(TIMEOUT)
    assert (result.status, result.message) == (
        "error",
        "the task is cancelled: not needed any more",
    )


def test_a_running_handler_sees_that_its_task_is_cancelled(hub):
    app = ProviderApp("work", execution_timeout=TIMEOUT)
    seen = []

    @app.action
    def work(ctx: TaskContext) -> dict:
        while not ctx.cancelled:
            time.sleep(0.01)
        seen.append(ctx.id)
        return {"done": "half"}

    with serving(app, hub):
        hub.put("work", id="t1")
        wait_until(lambda: stored(hub, "t1").state is State.RUNNING)
        cancel(hub, "t1")
        wait_until(lambda: hub.submissions)
        task = stored(hub, "t1")
    assert seen == ["t1"]
    assert (task.state, task.result) == (State.CANCELLED, "")


@pytest.mark.slow
def test_a_lease_that_is_renewed_keeps_a_long_task_with_its_provider(hub):
    app = ProviderApp("work", execution_timeout=TIMEOUT)
    runs = []

    @app.action
    def work(ctx: TaskContext) -> dict:
        runs.append(ctx.id)
        time.sleep(3.5)
        return {"run": len(runs)}

    with serving(app, hub):
        assert hub.call("work").data == {"run": 1}


def test_the_result_of_a_cancelled_task_is_kept_with_its_attempt(hub):
    app = ProviderApp("work", execution_timeout=TIMEOUT)

    @app.action
    def work(ctx: TaskContext) -> dict:
        while not ctx.cancelled:
            time.sleep(0.01)
        return {"done": "half"}

    with serving(app, hub):
        hub.put("work", id="t1")
        wait_until(lambda: stored(hub, "t1").state is State.RUNNING)
        cancel(hub, "t1")
        wait_until(lambda: hub.submissions)
        (attempt,) = hub._run(lambda: hub._queue.store.attempts("t1"))
    assert (attempt.end, attempt.status) == ("cancelled", "success")
