"""The renewal of leases, on a scripted hub and in an event loop whose time jumps."""

from __future__ import annotations

import asyncio
import logging

import attrs
import pytest
from support.hubs import Held
from support.loops import BEGIN, JumpingLoop, run_jumping
from support.running import Running, away, tasks
from support.spools import Inline

from arbprov import Concurrency, ProviderApp, TaskContext
from arbprov.outbox.spool import Spool
from arbprov.task import Task
from arbprov.wire.hub import Renewal

CANCELLED = Renewal(cancelled=frozenset({("t0", 2)}))
LOST = Renewal(lost=frozenset({("t0", 2)}))


@pytest.fixture
def app():
    app = ProviderApp("test", execution_timeout=600)

    @app.action
    async def work(seconds: float = 0.0) -> dict:
        await asyncio.sleep(seconds)
        return {"slept": seconds}

    return app


@pytest.fixture
def seen(app):
    """What `ctx.cancelled` is each second, in the handler `watch`."""
    seen = []

    @app.action
    async def watch(ctx: TaskContext) -> str:
        for _ in range(30):
            await asyncio.sleep(1)
            seen.append(ctx.cancelled)
        return "done"

    return seen


def attempt(number, action="work", seconds=0.0):
    return Task("t0", action, b'{"seconds": %g}' % seconds, attempt=number)


def leasing(app, **script):
    """Return an app on a hub whose leases are to be renewed every 20 seconds."""
    one = Running(app, **script)
    one.hub.renew_interval = 20.0
    return one


def renewed(one):
    return [(at - BEGIN, keys) for at, keys in one.hub.renewed]


# When, and of which tasks.


def test_the_leases_of_tasks_at_work_are_renewed_as_often_as_the_hub_asks(app):
    one = leasing(app, polls=[attempt(2, seconds=50), Held(30, Task("t1", "work"))]).until(90)
    assert [(round(at), keys) for at, keys in renewed(one)] == [
        (20, [("t0", 2)]),
        (40, [("t0", 2)]),
    ]


def test_the_lease_of_a_result_that_waits_is_renewed(app):
    one = leasing(app, polls=[attempt(2)], submits=[Held(25, away())]).until(90)
    assert [(round(at), keys) for at, keys in renewed(one)] == [(20, [("t0", 2)])]


def test_the_lease_of_a_result_of_an_earlier_run_is_renewed(app, tmp_path):
    def journal():
        return Spool(tmp_path / "spool", executor=Inline())

    first = Running(app, polls=[attempt(2)], submits=[away()] * 500)
    first.make_journal = journal
    first.until(10)
    second = leasing(app, submits=[Held(25)])
    second.make_journal = journal
    assert renewed(second.until(50)) == [(pytest.approx(20, abs=1), [("t0", 2)])]


def test_without_tasks_nothing_is_renewed(app):
    assert leasing(app).until(90).hub.renewed == []


def test_a_hub_without_leases_is_never_asked_to_renew_any(app):
    one = Running(app, polls=tasks(1, payload=b'{"seconds": 80}')).until(90)
    assert one.hub.renewed == []


def test_renewals_end_when_the_hub_asks_for_none_any_more_and_begin_when_it_asks_again(app):
    one = leasing(app, polls=[attempt(2, seconds=145)])

    @app.on_startup
    def plan():
        loop = asyncio.get_running_loop()
        for at, interval in [(30, 0.0), (100, 10.0)]:
            loop.call_later(at, setattr, one.hub, "renew_interval", interval)

    times = [at for at, _ in renewed(one.until(125, drain_timeout=100.0))]
    assert times == [pytest.approx(at, abs=1) for at in (20, 110, 120, 130, 140)]


def test_a_shorter_interval_counts_at_once(app):
    one = leasing(app, polls=[attempt(2, seconds=60)])
    one.hub.renew_interval = 3600.0
    app.on_startup(
        lambda: asyncio.get_running_loop().call_later(30, setattr, one.hub, "renew_interval", 20.0)
    )
    assert [at for at, _ in renewed(one.until(70))] == [pytest.approx(at, abs=5) for at in (32, 52)]


def test_a_slow_answer_does_not_delay_the_next_renewal(app):
    one = leasing(app, polls=[attempt(2, seconds=50)], renewals=[Held(15, Renewal())])
    assert [round(at) for at, _ in renewed(one.until(70))] == [20, 40]


def test_leases_are_renewed_until_the_drain_has_ended(app):
    one = leasing(app, polls=[attempt(2, seconds=75)]).until(10, drain_timeout=100.0)
    assert [round(at) for at, _ in renewed(one)] == [20, 40, 60]
    assert one.statuses == ["success"]


def test_a_renewal_that_hangs_does_not_hold_up_the_end(app):
    one = leasing(app, polls=[attempt(2, seconds=25)], renewals=[Held(1000, Renewal())])
    assert one.until(24).ended_at == pytest.approx(25, abs=1)


def test_nothing_is_renewed_after_the_end_though_the_spool_keeps_results(app, tmp_path):
    one = leasing(app, polls=[attempt(2)], submits=[away()] * 500)
    one.make_journal = lambda: Spool(tmp_path / "spool", executor=Inline())
    one.loop = JumpingLoop()

    async def main():
        await one._work(50, one.settings)
        await asyncio.sleep(100)

    run_jumping(main(), one.loop)
    assert [round(at) for at, _ in renewed(one)] == [20, 40]


# The hub's answer.


def test_a_cancelled_task_s_handler_sees_it_and_runs_on(app, seen):
    one = leasing(app, polls=[attempt(2, "watch")], renewals=[CANCELLED]).until(90)
    assert seen == [False] * 20 + [True] * 10
    assert [result.data for _, result in one.results] == ["done"]


def test_a_cancelled_task_s_handler_that_ends_is_not_late(app, seen, caplog):
    leasing(app, polls=[attempt(2, "watch")], renewals=[CANCELLED]).until(90)
    assert "its result is dropped" not in caplog.text


def test_the_error_of_a_cancelled_task_s_handler_is_logged_and_sent(app, caplog):
    @app.action
    async def fail() -> None:
        await asyncio.sleep(30)
        raise KeyError("city")

    one = leasing(app, polls=[attempt(2, "fail")], renewals=[CANCELLED]).until(90)
    assert [result.data["type"] for _, result in one.results] == ["KeyError"]
    assert "KeyError: 'city'" in caplog.text


def test_a_cancelled_task_s_error_handler_is_called(app):
    @app.action
    async def fail() -> None:
        await asyncio.sleep(30)
        raise KeyError("city")

    app.errorhandler(KeyError)(lambda error, ctx: "handled")
    one = leasing(app, polls=[attempt(2, "fail")], renewals=[CANCELLED]).until(90)
    assert [result.data for _, result in one.results] == ["handled"]


def test_a_cancelled_task_frees_its_place_when_it_ends(app):
    @app.action
    @app.rate_limit(Concurrency(1), max_wait=100)
    async def one_by_one() -> None:
        await asyncio.sleep(30)

    polls = [attempt(2, "one_by_one"), Held(1, Task("t1", "one_by_one"))]
    one = leasing(app, polls=polls, renewals=[CANCELLED]).until(90)
    assert one.statuses == ["success", "success"]


def test_a_cancelled_task_has_its_hooks(app, seen):
    ended = []
    app.after_task(lambda result, ctx: attrs.evolve(result, data="changed"))
    app.teardown_task(lambda error, ctx: ended.append(error))
    one = leasing(app, polls=[attempt(2, "watch")], renewals=[CANCELLED]).until(90)
    assert ([result.data for _, result in one.results], ended) == (["changed"], [None])


def test_another_attempt_of_a_cancelled_task_is_not_cancelled(app, seen):
    leasing(app, polls=[attempt(3, "watch")], renewals=[CANCELLED]).until(90)
    assert True not in seen


def test_a_cancelled_task_is_cancelled_once_in_the_log(app, seen, caplog):
    caplog.set_level(logging.INFO)
    one = leasing(app, polls=[attempt(2, "watch")], renewals=[CANCELLED] * 9)
    one.hub.renew_interval = 5.0
    one.until(90)
    lines = [line for line in caplog.messages if "cancelled" in line]
    assert lines == ["the hub has cancelled task 't0'"]


def test_a_cancelled_task_that_has_timed_out_still_has_its_timeout(app):
    @app.action(timeout=30)
    async def hang() -> None:
        await asyncio.sleep(3600)

    one = leasing(app, polls=[attempt(2, "hang")], renewals=[CANCELLED]).until(90)
    (result,) = [result for _, result in one.results]
    assert result.message == "The action ran longer than its timeout of 30 s"


def test_a_cancelled_task_is_not_tried_again_after_an_error(app, caplog):
    caplog.set_level(logging.INFO)
    tried = []

    @app.action
    @app.retry(on=ConnectionError, timeout=None)
    async def call() -> None:
        tried.append(1)
        await asyncio.sleep(30)
        raise ConnectionError

    leasing(app, polls=[attempt(2, "call")], renewals=[CANCELLED]).until(200)
    assert tried == [1]
    assert "the next is in" not in caplog.text


def test_a_task_that_is_cancelled_between_two_tries_is_not_tried_again(app):
    tried = []

    @app.action
    @app.retry(on=ConnectionError, timeout=None, wait_initial=30, wait_max=30, wait_jitter=0)
    async def call() -> None:
        tried.append(1)
        raise ConnectionError

    one = leasing(app, polls=[attempt(2, "call")], renewals=[CANCELLED]).until(200)
    assert tried == [1]
    assert [result.data["type"] for _, result in one.results] == ["ConnectionError"]


def test_a_lost_task_is_logged_once_and_its_result_is_sent(app, caplog):
    one = leasing(app, polls=[attempt(2, seconds=70)], renewals=[LOST] * 9).until(90)
    lines = [line for line in caplog.messages if "another provider" in line]
    assert lines == [
        "the hub has given task 't0' to another provider; its result is sent nevertheless"
    ]
    assert one.statuses == ["success"]


def test_a_task_whose_result_the_hub_may_have_just_recorded_is_not_logged_as_lost(app, caplog):
    leasing(app, polls=[attempt(2, seconds=70)], renewals=[LOST, Renewal(), LOST]).until(90)
    assert "another provider" not in caplog.text


def test_a_lost_task_that_is_not_here_is_not_logged(app, caplog):
    leasing(app, polls=[attempt(3, seconds=70)], renewals=[LOST] * 9).until(90)
    assert "another provider" not in caplog.text


def test_renewals_that_fail_are_logged_once_until_a_renewal_works(app, caplog):
    caplog.set_level(logging.INFO)
    script = [away(), away(), Renewal(), away()]
    one = leasing(app, polls=[attempt(2, seconds=90)], renewals=script).until(95)
    lines = [line for line in caplog.messages if "leases" in line]
    assert lines == ["the leases of tasks were not renewed, retrying: away"] * 2
    assert len(one.hub.renewed) == 4
    assert one.statuses == ["success"]


def test_a_renewal_that_fails_is_not_the_end_of_the_connection(app, caplog):
    leasing(app, polls=[attempt(2, seconds=50)], renewals=[away()] * 9).until(70)
    assert "lost the hub" not in caplog.text
