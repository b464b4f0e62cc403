"""The worker's promises, on a scripted hub and in an event loop whose time jumps."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import math
import types
import weakref

import pytest
from support.hubs import Held
from support.loops import BEGIN
from support.running import Running, away, tasks

from arbprov import (
    AuthenticationError,
    HubConnectionError,
    HubError,
    ProviderApp,
    ProviderError,
    ProviderResponse,
    RateLimited,
    TaskContext,
    TaskResult,
    TaskTimeoutError,
)
from arbprov.dispatcher import Dispatcher
from arbprov.executors.executor import Executor
from arbprov.outbox.journal import MemoryJournal
from arbprov.task import Task
from arbprov.wire.hub import Pause, ResultRefused


@pytest.fixture
def app():
    app = ProviderApp("test")

    @app.action
    async def work(seconds: float = 0.0) -> dict:
        await asyncio.sleep(seconds)
        return {"slept": seconds}

    return app


# Polling.


def test_an_idle_worker_pauses_at_most_a_second_between_polls():
    assert max(Running().until(120).pauses) <= 1.0


def test_an_idle_worker_polls_once_at_a_time():
    assert Running(afterwards=Held(0.05)).until(60).hub.most_polling == 1


def test_the_first_pauses_of_an_idle_worker_are_within_a_doubling_ceiling():
    ceilings = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    pauses = Running().until(60).pauses
    assert all(pause <= ceiling for pause, ceiling in zip(pauses, ceilings, strict=False))


def test_the_pauses_of_an_idle_worker_grow():
    pauses = Running().until(600).pauses
    assert sum(pauses) / len(pauses) > 0.3


def test_pauses_stay_short_for_five_seconds_after_a_task(app):
    running = Running(app, polls=tasks(1)).until(5)
    assert max(running.pauses) <= 0.025


def test_a_hub_that_holds_its_polls_is_polled_without_any_pause():
    running = Running(afterwards=Held(20.0)).until(119)
    assert running.polled_at == [0, 20, 40, 60, 80, 100]


def test_a_slot_polls_at_once_after_a_task(app):
    running = Running(app, polls=[*tasks(3)], afterwards=Held(50)).until(10)
    assert running.polled_at[:4] == [0, 0, 0, 0]


def test_all_slots_poll_while_tasks_flow(app):
    running = Running(app, polls=tasks(100), afterwards=Held(50)).until(1)
    assert running.hub.most_polling == 4


def test_no_more_tasks_are_taken_than_there_are_slots(app):
    running = Running(app, polls=tasks(9, payload=b'{"seconds": 0.5}')).until(0.4)
    assert len(running.hub.polled_at) == 4


def test_every_task_gets_exactly_one_result(app):
    running = Running(app, polls=tasks(500)).until(10)
    assert sorted(r.id for _, r in running.results) == sorted(task.id for task in tasks(500))


def test_the_pause_that_a_hub_asks_for_is_kept():
    running = Running(polls=[Pause(7.0)]).until(20)
    assert running.polled_at[1] == 7.0


@pytest.mark.parametrize("seconds", [3601.0, 1e308, math.inf])
def test_a_pause_that_a_hub_asks_for_is_an_hour_at_most(seconds, caplog):
    running = Running(polls=[Pause(seconds)]).until(3700)
    assert running.polled_at[1] == 3600.0
    message = f"the hub asks for no polls for {seconds:g} s; it is polled again after 3600 s"
    assert message in caplog.messages


@pytest.mark.parametrize(("is_connected", "ended_at"), [(True, 27.5), (False, 5.0)])
def test_a_stop_gives_up_a_poll_without_a_connection_at_once(is_connected, ended_at):
    running = Running(afterwards=Held(1000), is_connected=is_connected).until(5)
    assert running.ended_at == ended_at


def test_no_slot_polls_during_the_pause_that_a_hub_asks_for(app):
    script = [*tasks(20), Pause(7.0)]
    running = Running(app, polls=script).until(20)
    asked_at = running.polled_at[20]
    assert not [at for at in running.polled_at[24:] if asked_at < at < asked_at + 7]


# A hub that fails.


def test_a_hub_that_was_reached_once_is_polled_for_ever():
    running = Running(polls=[None, *(away() for _ in range(500))]).until(4000)
    assert len(running.polled_at) > 501


def test_the_pauses_after_failed_polls_are_at_most_ten_seconds():
    running = Running(polls=[None], afterwards=away()).until(600)
    assert 5 < max(running.pauses) <= 10.0


def test_a_hub_that_is_never_reached_ends_the_worker_after_start_timeout():
    running = Running(afterwards=away())
    with pytest.raises(
        HubConnectionError, match=r"^the hub was not reached within 30 s, last error: away; .*"
    ):
        running.until(100)
    assert running.ended_at == pytest.approx(30)


def test_a_hub_that_answers_before_start_timeout_is_worked_for(app):
    polls = [*(away() for _ in range(3)), *tasks(1)]
    assert Running(app, polls=polls).until(20).statuses == ["success"]


def test_polls_that_fail_together_are_one_failure(app):
    script = [*tasks(20), *(Held(1.0, away()) for _ in range(4))]
    running = Running(app, polls=script, afterwards=Held(50)).until(20)
    # All four polls were out; the next poll follows after the first pause for failed polls.
    assert running.polled_at[24] - running.polled_at[23] <= 1.0 + 0.5


def test_the_first_failure_to_reach_the_hub_is_logged_once(caplog):
    Running(polls=[away(), away(), None, away(), None]).until(60)
    told = [message for message in caplog.messages if "cannot reach" in message]
    assert told == ["cannot reach the hub yet, retrying: away"]


def test_a_hub_that_has_answered_is_lost_rather_than_not_reached_yet(caplog):
    Running(polls=[None, away(), None]).until(60)
    assert "cannot reach" not in caplog.text


def test_a_token_that_is_refused_at_the_first_poll_ends_the_worker_at_once():
    running = Running(polls=[AuthenticationError("no")])
    with pytest.raises(AuthenticationError):
        running.until(100)
    assert running.ended_at == 0


def test_a_token_that_is_refused_later_has_a_minute():
    running = Running(polls=[None], afterwards=AuthenticationError("no"))
    with pytest.raises(AuthenticationError):
        running.until(200)
    assert 60 <= running.ended_at <= 71


def test_a_token_that_is_accepted_again_has_another_minute():
    refused = [AuthenticationError("no")] * 3
    Running(polls=[None, *refused, None, *refused]).until(200)


def test_an_unexpected_error_ends_the_worker():
    with pytest.raises(ZeroDivisionError):
        Running(polls=[ZeroDivisionError()]).until(10)


# Results.


def test_a_result_is_sent_until_the_hub_has_it(app):
    running = Running(app, polls=tasks(1), submits=[away()] * 20).until(1, drain_timeout=900.0)
    assert len(running.results) == 21


def test_a_result_is_the_same_however_often_it_is_sent(app):
    running = Running(app, polls=tasks(1), submits=[away()] * 5).until(1, drain_timeout=900.0)
    assert len({result.body for _, result in running.results}) == 1


def test_the_pauses_between_attempts_to_send_a_result_are_at_most_thirty_seconds(app):
    running = Running(app, polls=tasks(1), submits=[away()] * 50).until(1, drain_timeout=9000.0)
    times = [at for at, _ in running.results]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 15 < max(pauses) <= 30


def test_a_result_that_is_refused_for_good_is_sent_once(app):
    running = Running(app, polls=tasks(1), submits=[ResultRefused("no")]).until(60)
    assert len(running.results) == 1


def test_a_result_that_is_refused_for_good_is_given_to_the_hook(app):
    told = []

    @app.on_submit_failed
    def note(result, error):
        told.append((result.id, str(error)))

    Running(app, polls=tasks(1), submits=[ResultRefused("no")]).until(60)
    assert told == [("t0", "no")]


# Timeouts.


@pytest.fixture
def slow_app():
    app = ProviderApp("test", execution_timeout=2)

    @app.action
    async def hang() -> dict:
        await asyncio.sleep(3600)
        return {}

    @app.action
    async def swallow() -> dict:
        """Ignore cancellation for 10 s."""
        deadline = asyncio.get_running_loop().time() + 10
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        return {}

    return app


@pytest.mark.parametrize("action", ["hang", "swallow"])
def test_a_timeout_is_sent_at_the_deadline(slow_app, action):
    running = Running(slow_app, polls=tasks(1, action)).until(60)
    assert [(at, result.data) for at, result in running.results] == [
        (2.0, {"error": "The action ran longer than its timeout of 2 s", "timeout": 2.0})
    ]


def test_an_action_s_timeout_overrides_the_app_s(slow_app):
    @slow_app.action(timeout=0.5)
    async def impatient() -> dict:
        await asyncio.sleep(3600)
        return {}

    running = Running(slow_app, polls=tasks(1, "impatient")).until(60)
    assert running.results[0][0] == 0.5


def test_a_handler_is_cancelled_at_its_deadline(slow_app):
    cancelled = []

    @slow_app.action
    async def careful() -> dict:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.append(asyncio.get_running_loop().time() - BEGIN)
        return {}

    Running(slow_app, polls=tasks(1, "careful")).until(60)
    assert cancelled == [2.0]


def test_a_handler_that_blocks_the_loop_past_its_deadline_has_timed_out(slow_app, caplog):
    @slow_app.action
    async def keep() -> dict:
        asyncio.get_running_loop().keep(3.0)
        return {}

    running = Running(slow_app, polls=tasks(1, "keep")).until(60)
    assert [result.data for _, result in running.results] == [
        {"error": "The action ran longer than its timeout of 2 s", "timeout": 2.0}
    ]
    assert "'t0' of action 'keep' ended after its timeout of 2 s" in caplog.text


def test_a_thread_s_result_in_time_counts_though_a_blocked_loop_gets_it_late(monkeypatch):
    def start(self, call, outcome):
        loop = asyncio.get_running_loop()
        result = TaskResult(call.task, "success", "done", {})
        loop.call_later(0.75, loop.keep, 1.0)
        loop.call_later(0.875, outcome.set_result, result)
        return outcome

    monkeypatch.setattr(Executor, "start", start)
    app = ProviderApp("test", execution_timeout=1)
    app.action("work")(lambda: None)
    running = Running(app, polls=tasks(1)).until(60)
    assert [(at, result.message) for at, result in running.results] == [(1.75, "done")]


def test_a_late_result_is_dropped_and_logged(slow_app, caplog):
    running = Running(slow_app, polls=tasks(1, "swallow")).until(60)
    assert len(running.results) == 1
    assert "'t0' of action 'swallow' ended after its timeout of 2 s" in caplog.text


def test_a_handler_that_outlives_its_deadline_keeps_its_slot(slow_app):
    running = Running(slow_app, polls=tasks(4, "swallow")).until(9)
    assert len(running.polled_at) == 4


def test_a_slot_works_again_once_its_late_handler_has_ended(slow_app):
    running = Running(slow_app, polls=tasks(4, "swallow")).until(12)
    assert len(running.polled_at) > 4


def test_an_errorhandler_may_replace_a_timeout(slow_app):
    @slow_app.errorhandler(TaskTimeoutError)
    async def answer(error):
        return ProviderResponse("warning", message=f"gave up after {error.timeout:g} s")

    running = Running(slow_app, polls=tasks(1, "hang")).until(60)
    assert running.results[0][1].message == "gave up after 2 s"


def test_a_hook_that_hangs_after_a_timeout_delays_the_result_by_one_second(slow_app):
    @slow_app.after_task
    async def hang_too(result):
        await asyncio.sleep(3600)
        return result

    running = Running(slow_app, polls=tasks(1, "hang")).until(60)
    assert [(at, result.status.value) for at, result in running.results] == [(3.0, "error")]


def test_a_task_is_torn_down_once_though_it_timed_out(slow_app):
    torn_down = []

    @slow_app.teardown_task
    async def note(error):
        torn_down.append(type(error).__name__)

    Running(slow_app, polls=tasks(1, "hang")).until(60)
    assert torn_down == ["CancelledError"]


def test_the_context_is_cancelled_at_the_deadline(slow_app):
    seen = []

    @slow_app.action
    async def watch(ctx: TaskContext) -> dict:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append(ctx.cancelled)
        return {}

    Running(slow_app, polls=tasks(1, "watch")).until(60)
    assert seen == [True]


# Stopping.


def test_a_stopped_worker_polls_no_more(app):
    running = Running(app).until(30)
    assert max(running.polled_at) <= 30


def test_a_stopping_worker_finishes_its_tasks(app):
    app.config = app.config.override(execution_timeout=60.0)
    running = Running(app, polls=tasks(4, payload=b'{"seconds": 10}')).until(1)
    assert running.statuses == ["success"] * 4
    assert running.ended_at == 10


def test_a_stopping_worker_waits_for_the_poll_that_the_hub_holds(app):
    running = Running(app, polls=[Held(5.0, tasks(1)[0])]).until(1)
    assert running.statuses == ["success"]


def test_a_stop_ends_within_its_time_though_the_hub_holds_a_poll():
    running = Running(afterwards=Held(3600)).until(1)
    assert running.ended_at <= 26


def test_a_stop_ends_within_its_time_though_a_result_can_not_be_sent(app):
    running = Running(app, polls=tasks(1), submits=[away()] * 500)
    with pytest.raises(ProviderError, match=r"results that the hub never took: \['t0'\]"):
        running.until(1)
    # The rest is for shutdown hooks and for the end of the process.
    assert running.ended_at <= 25.75


def test_a_stop_ends_at_once_when_there_is_nothing_to_do():
    assert Running().until(30.5).ended_at == pytest.approx(30.5, abs=1e-6)


def test_a_poll_that_takes_long_to_give_up_is_not_an_unfinished_task():
    running = Running(afterwards=Held(1000))
    fetch = running.hub.fetch

    async def linger():
        try:
            return await fetch()
        finally:
            await asyncio.sleep(60)

    running.hub = types.SimpleNamespace(
        fetch=linger, close=running.hub.close, is_connected=True, submit=running.hub.submit
    )
    assert running.until(5, drain_timeout=5.0).ended_at <= 11


def test_the_connection_is_closed_at_the_end():
    assert Running().until(1).hub.closed


def test_a_handler_that_a_stop_interrupts_may_clean_up():
    app, cleaned_at = ProviderApp("test", execution_timeout=3600), []

    @app.action
    async def careful():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.25)
            cleaned_at.append(asyncio.get_running_loop().time() - BEGIN)

    running = Running(app, polls=tasks(1, "careful"))
    with pytest.raises(ProviderError, match="stopped after 5 s with 1 task unfinished"):
        running.until(1, drain_timeout=5.0)
    assert cleaned_at == [5.75]


# Hooks around the worker's life.


@pytest.fixture
def noted(app):
    notes = []
    for kind in ("on_startup", "on_shutdown", "on_connect", "on_disconnect"):

        def note(*arguments, kind=kind):
            notes.append((kind, *map(str, arguments)))

        getattr(app, kind)(note)
    return notes


def test_hooks_see_the_life_of_a_worker_in_order(app, noted):
    Running(app, polls=[None, away(), None]).until(60)
    assert noted == [
        ("on_startup",),
        ("on_connect",),
        ("on_disconnect", "away"),
        ("on_connect",),
        ("on_shutdown",),
    ]


def test_startup_hooks_run_before_the_first_poll(app):
    @app.on_startup
    async def wait():
        await asyncio.sleep(5)

    assert Running(app).until(10).polled_at[0] == 5


def test_a_startup_hook_that_fails_ends_the_worker_before_the_first_poll(app):
    @app.on_startup
    def fail():
        raise LookupError("no database")

    running = Running(app)
    with pytest.raises(LookupError):
        running.until(10)
    assert running.polled_at == []


def test_shutdown_hooks_run_though_a_startup_hook_failed(app, noted):
    @app.on_startup
    def fail():
        raise LookupError("no database")

    with pytest.raises(LookupError):
        Running(app).until(10)
    assert noted == [("on_startup",), ("on_shutdown",)]


def test_a_connect_hook_that_fails_ends_the_worker(app):
    @app.on_connect
    async def fail():
        raise LookupError("no database")

    with pytest.raises(LookupError):
        Running(app).until(10)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_connect_hook_that_exits_ends_the_worker_after_its_tasks(app, error):
    @app.on_connect
    async def leave():
        await asyncio.sleep(0.5)
        raise error

    running = Running(app, polls=tasks(1, payload=b'{"seconds": 0.9}'))
    with pytest.raises(error):
        running.until(10)
    assert [result.status for _, result in running.results] == ["success"]


# The log.


def test_a_handler_s_error_is_logged_with_its_traceback(app, caplog):
    @app.action
    async def fail():
        raise LookupError("nowhere")

    Running(app, polls=tasks(1, "fail")).until(1)
    assert "LookupError: nowhere" in caplog.text
    assert "in fail" in caplog.text


def test_no_value_of_the_account_is_in_the_log(app, caplog):
    @app.action
    async def fail(account: dict):
        raise LookupError(account["key"])

    caplog.set_level(logging.DEBUG)
    Running(app, polls=[Task("t", "fail", b"{}", b'{"key": "hunter22"}')]).until(1)
    assert "LookupError: [redacted]" in caplog.text
    assert "hunter22" not in caplog.text


def test_each_task_is_logged_with_its_status(app, caplog):
    caplog.set_level(logging.INFO)
    Running(app, polls=tasks(1)).until(1)
    assert "task 't0' of action 'work': success" in caplog.messages


def test_hub_errors_are_hub_errors():
    assert issubclass(ResultRefused, HubError)


def test_a_slot_that_waits_for_a_task_holds_nothing_of_its_last_task():
    seen, alive = [], []
    app = ProviderApp("test")

    @app.action
    async def work(ctx: TaskContext) -> dict:
        seen.append(weakref.ref(ctx))
        asyncio.get_running_loop().call_later(5, lambda: alive.append(seen[0]()))
        return {}

    Running(app, polls=tasks(1)).until(10)
    assert alive == [None]


def test_a_slot_that_waits_for_a_task_holds_nothing_of_its_last_task_on_a_thread(monkeypatch):
    seen, alive = [], []

    def start(self, call, outcome):
        loop = asyncio.get_running_loop()
        seen.append(weakref.ref(call.ctx))
        loop.call_later(0.5, outcome.set_result, TaskResult(call.task, "success", "done", {}))
        loop.call_later(5, lambda: alive.append(seen[0]()))
        return outcome

    monkeypatch.setattr(Executor, "start", start)
    app = ProviderApp("test")
    app.action("work")(lambda: None)
    Running(app, polls=tasks(1)).until(10)
    assert alive == [None]


# Bugs of arbprov itself.


def test_a_bug_of_arbprov_is_an_error_result_and_loses_no_task(app, monkeypatch):
    async def broken(self, call, wait=None):
        raise AssertionError("a bug")

    monkeypatch.setattr(Dispatcher, "perform", broken)
    running = Running(app, polls=tasks(1)).until(1)
    assert [result.data["error"] for _, result in running.results] == ["a bug"]


def test_a_handler_that_cancels_its_own_task_has_its_result_sent(app):
    @app.action
    async def give_up():
        asyncio.current_task().cancel()
        return {"done": True}

    running = Running(app, polls=tasks(1, "give_up")).until(5)
    assert [result.data for _, result in running.results] == [{"done": True}]


class SlowJournal(MemoryJournal):
    async def finish(self, id, message):
        await asyncio.sleep(1)


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_a_late_cancellation_of_a_handler_loses_neither_result_nor_slot(app, late):
    @app.action
    async def give_up_later():
        asyncio.get_running_loop().call_later(late, asyncio.current_task().cancel)
        return {"done": True}

    running = Running(app, polls=tasks(3, "give_up_later"))
    running.make_journal = SlowJournal
    running.until(30, concurrency=1)
    assert [result.data for _, result in running.results] == [{"done": True}] * 3


def test_rate_limited_from_a_late_handler_starts_the_cooldown(app):
    @app.action(timeout=1)
    @app.rate_limit("100/hour")
    async def throttled():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            raise RateLimited(3000) from None

    first, second = tasks(2, "throttled")
    running = Running(app, polls=[first, Held(10, second)])
    running.make_journal = SlowJournal
    running.until(30, concurrency=1)
    assert running.statuses == ["error", "limit"]


def test_a_context_variable_that_a_handler_sets_is_not_seen_by_other_tasks(app):
    seen = contextvars.ContextVar("seen", default="nothing")

    @app.action
    async def leave():
        before = seen.get()
        seen.set("something")
        return {"before": before}

    running = Running(app, polls=tasks(3, "leave")).until(30, concurrency=1)
    assert [result.data for _, result in running.results] == [{"before": "nothing"}] * 3
