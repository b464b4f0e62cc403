"""The outbox in a worker: results reach the hub, and no task runs twice; time jumps."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import sqlite3

import attrs
import pytest
from support.hubs import Held
from support.loops import JumpingLoop, run_jumping
from support.running import Running, away, tasks
from support.spools import Inline, crash_image, fill, relieve

from arbprov import AuthenticationError, HubConnectionError, ProviderApp, ProviderError
from arbprov.backoff import Backoff
from arbprov.outbox.journal import MemoryJournal
from arbprov.outbox.outbox import Outbox, OutboxEvents
from arbprov.outbox.spool import Spool
from arbprov.outbox.sqlite import read_spool
from arbprov.task import Status, Task, TaskResult
from arbprov.wire.hub import ResultRefused, ResultTooLarge


@pytest.fixture
def runs():
    """Return a list that gets the number of each task that runs."""
    return []


@pytest.fixture
def app(runs):
    app = ProviderApp("test", execution_timeout=60)

    @app.action
    async def work(n: int = 0, seconds: float = 0.0) -> dict:
        runs.append(n)
        await asyncio.sleep(seconds)
        return {"n": n, "run": len(runs)}

    @app.action
    async def large() -> dict:
        return {"rows": "x" * 100_000}

    return app


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool"


@pytest.fixture(params=["memory", "spool"])
def journal(request, path):
    """Return a function that makes a journal, in memory or on disk."""
    return MemoryJournal if request.param == "memory" else lambda: inline(path)


def inline(path):
    return Spool(path, executor=Inline())


def running(app, journal=MemoryJournal, **script):
    """Return an app on a scripted hub, with a journal."""
    one = Running(app, **script)
    one.make_journal = journal
    return one


def spooled(app, path, **script):
    return running(app, lambda: inline(path), **script)


def no_jitter(monkeypatch):
    monkeypatch.setattr(
        "arbprov.outbox.outbox.Backoff", functools.partial(Backoff, jitter=lambda: 1.0)
    )


def numbered(*numbers, **payload):
    return [Task(f"t{n}", "work", json.dumps({"n": n} | payload).encode()) for n in numbers]


# Capacity.


def most_waiting(one):
    """Return the largest number of results that waited for the hub at a time."""
    waiting, most = 0, 0
    first = {}
    for at, result in one.results:
        first.setdefault(result.id, at)
    last = {result.id: at for at, result in one.results}
    for _, change in sorted([(t, 1) for t in first.values()] + [(t, -1) for t in last.values()]):
        waiting += change
        most = max(most, waiting)
    return most


def test_a_slot_is_free_while_a_result_waits_for_the_hub(app, journal, runs):
    one = running(app, journal, polls=numbered(*range(100)), submits=[away()] * 500)
    one.until(60, drain_timeout=600.0)
    assert sorted(runs) == list(range(100))
    assert len(set(one.hub.messages)) == 100


def test_no_more_is_polled_when_256_results_wait(app, journal, runs):
    one = running(app, journal, polls=numbered(*range(1000)), submits=[away()] * 100_000)
    # In memory, waiting results are lost at the end.
    with contextlib.suppress(ProviderError):
        one.until(300)
    assert 256 <= len(runs) <= 256 + 4


def test_as_many_results_may_wait_as_tasks_may_be_in_flight(app, caplog):
    one = running(app, polls=numbered(*range(2000)), submits=[away()] * 100_000)
    with contextlib.suppress(ProviderError):
        one.until(300, concurrency=400)
    (lines,) = [
        text for text in caplog.messages if "polling stops until the hub accepts results" in text
    ]
    assert ": 400 results wait" in lines


def test_polling_goes_on_when_the_hub_accepts_results_and_nothing_is_dropped(app, journal, runs):
    one = running(app, journal, polls=numbered(*range(1000)), submits=[away()] * 3000)
    one.until(1000, drain_timeout=600.0)
    assert sorted(runs) == list(range(1000))
    assert 256 <= most_waiting(one) <= 256 + 4
    assert {result.id for _, result in one.results} == {f"t{n}" for n in range(1000)}


def test_a_full_outbox_is_logged_once(app, caplog):
    running(app, polls=numbered(*range(1000)), submits=[away()] * 3000).until(
        1000, drain_timeout=600.0
    )
    lines = [
        text for text in caplog.messages if "polling stops until the hub accepts results" in text
    ]
    assert len(lines) == 1


class Alone:
    """An outbox without a worker."""

    def __init__(self, hub, journal=None, **bounds):
        self.capacity = []
        self.refused = []
        self.troubles = []
        loop = asyncio.get_running_loop()
        events = OutboxEvents(
            on_refused=lambda result, error: self.refused.append((result, error)),
            on_error=self.troubles.append,
            on_capacity=self.capacity.append,
            spawn=loop.create_task,
        )
        self.outbox = Outbox(hub, journal or MemoryJournal(), "test", self.fail, events, **bounds)

    def fail(self, task, error):
        body = json.dumps({"message": str(error), "data": {"response": {}}})
        return TaskResult(task, Status.ERROR, str(error), {}, body=body)

    async def done(self, id, size=0):
        """Begin a task and put its result."""
        task = Task(id, "work")
        assert await self.outbox.begin(task)
        body = json.dumps({"message": "fine", "data": {"response": "x" * size}})
        await self.outbox.put(TaskResult(task, Status.SUCCESS, "fine", {}, body=body))


def alone(main, **script):
    """Run a coroutine function with an outbox."""
    bounds = {key: script.pop(key) for key in ("max_results", "max_bytes") if key in script}
    bounds.setdefault("max_results", 256)
    journal = script.pop("journal", None)
    hub = Running(**script).hub

    async def run():
        return await main(Alone(hub, journal, **bounds))

    return run_jumping(run(), JumpingLoop())


def test_the_capacity_in_bytes_is_limited():
    async def main(one):
        await one.done("a", 600)
        assert one.capacity == []
        await one.done("b", 600)
        assert one.capacity == [False]
        await one.outbox.flush(60)
        return one.capacity

    assert alone(main, max_bytes=1000, submits=[Held(5), Held(5)]) == [False, True]


def test_the_capacity_in_results_is_limited():
    async def main(one):
        for name in "ab":
            await one.done(name)
        assert one.capacity == [False]
        await one.outbox.flush(60)
        return one.capacity

    assert alone(main, max_results=2, submits=[Held(5), Held(9)]) == [False, True]


def test_the_outbox_has_a_capacity_of_64_mebibytes():
    async def main(one):
        return one.outbox._capacity._max_bytes

    assert alone(main) == 64 * 1024 * 1024


def test_a_task_that_is_there_is_not_begun_again():
    async def main(one):
        return [await one.outbox.begin(Task("a", "work")) for _ in range(2)]

    assert alone(main) == [True, False]


# Each result is sent until the hub has it.


def test_a_submit_that_fails_makes_no_error_of_a_finished_result(app, journal):
    one = running(app, journal, polls=numbered(1), submits=[away()] * 9)
    one.until(900, drain_timeout=900.0)
    assert one.statuses == ["success"] * 10


def test_a_result_is_the_same_bytes_however_often_it_is_sent(app, journal):
    one = running(app, journal, polls=numbered(1), submits=[away()] * 9)
    one.until(900, drain_timeout=900.0)
    assert len(one.hub.messages) == 10
    assert len(set(one.hub.messages)) == 1


def test_a_result_is_sent_for_as_long_as_the_process_runs(app, journal):
    one = running(app, journal, polls=numbered(1), submits=[away()] * 6000)
    one.hub.afterwards = Held(50)
    one.until(200_000)
    assert len(one.hub.messages) == 6001


def test_the_pauses_between_tries_have_full_jitter(app):
    one = running(app, polls=numbered(1), submits=[away()] * 300).until(1, drain_timeout=9000.0)
    times = [at for at, _ in one.results]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)][20:]
    assert min(pauses) < 3
    assert 12 < sum(pauses) / len(pauses) < 18


# Each id runs once.


def test_a_task_that_comes_again_while_it_runs_is_not_run_again(app, journal, runs):
    polls = [*numbered(1, seconds=5), *numbered(1, seconds=5)]
    one = running(app, journal, polls=polls).until(20)
    assert runs == [1]
    assert len(one.results) == 1


def test_a_task_that_comes_again_while_its_result_waits_is_not_run_again(app, journal, runs):
    polls = [*numbered(1), Held(0.2, *numbered(1))]
    one = running(app, journal, polls=polls, submits=[away()] * 5).until(60)
    assert runs == [1]
    assert len(set(one.hub.messages)) == 1


def test_a_task_that_comes_again_while_its_result_is_sent_has_it_sent_after_that(
    app, journal, runs
):
    polls = [*numbered(1), Held(0.2, *numbered(1))]
    one = running(app, journal, polls=polls, submits=[Held(5.0)]).until(60)
    assert [at for at, _ in one.results] == [0.0, 5.0]
    assert len(set(one.hub.messages)) == 1
    assert runs == [1]


def test_a_task_that_comes_again_later_has_its_result_sent_again(app, journal, runs):
    polls = [*numbered(1), Held(5, *numbered(1)), Held(9, *numbered(1))]
    one = running(app, journal, polls=polls).until(60)
    assert runs == [1]
    assert len(one.hub.messages) == 3
    assert len(set(one.hub.messages)) == 1


def test_a_task_that_comes_again_is_charged_to_no_limit(app, journal):
    @app.action
    @app.rate_limit("1/hour")
    async def scarce() -> dict:
        return {}

    polls = [*tasks(1, "scarce"), Held(5, *tasks(1, "scarce"))]
    assert running(app, journal, polls=polls).until(60).statuses == ["success"] * 2


def test_a_refused_result_is_tried_again_when_its_task_comes_again(app, journal, runs):
    polls = [*numbered(1), Held(5, *numbered(1))]
    one = running(app, journal, polls=polls, submits=[ResultRefused("no")]).until(60)
    assert len(one.hub.messages) == 2
    assert runs == [1]


def test_a_hub_that_hands_out_the_same_task_for_ever_is_polled_in_pauses(app):
    again = Held(0.001, *numbered(1))
    one = running(app, polls=numbered(1, seconds=50), afterwards=again).until(40)
    assert len(one.polled_at) < 1000


def test_a_task_that_was_refused_for_its_payload_is_not_judged_again(app, journal):
    bad = Task("t1", "work", b'{"n": "one"}')
    one = running(app, journal, polls=[bad, Held(5, *numbered(1))]).until(60)
    assert one.statuses == ["error", "error"]


# Refused.


def test_a_result_that_is_too_large_goes_as_a_small_error(app, journal):
    one = running(app, journal, polls=tasks(1, "large"), submits=[ResultTooLarge("no")]).until(60)
    (_, large), (_, small) = one.results
    assert (large.status, small.status) == (Status.SUCCESS, Status.ERROR)
    assert small.envelope["data"]["response"] == {
        "error": "the result is too large for the hub",
        "type": "ResultTooLargeError",
    }
    assert (small.id, small.action, small.task.payload) == ("t0", "large", b"{}")
    assert len(one.hub.messages[1]) < 500


def test_a_task_that_is_too_large_to_be_repeated_ends_as_a_small_error(app, monkeypatch):
    monkeypatch.setattr("arbprov.outbox.outbox._MAX_ECHO", 50_000)
    task = Task("t1", "work", b'{"text": "%s"}' % (b"x" * 50_000))
    one = running(app, polls=[task]).until(5)
    [(_, result)] = one.results
    assert result.data["error"] == "the task is too large to be sent back with its result"
    assert result.task.payload == b""


def test_the_small_error_goes_without_a_large_payload(app):
    account = b'{"key": "sample"}'
    task = Task("t", "large", json.dumps({"n": "x" * 50_000}).encode(), account)
    one = running(app, polls=[task], submits=[ResultTooLarge("no")]).until(60)
    assert one.results[1][1].task == Task("t", "large", b"", account)


def test_the_small_error_is_sent_until_the_hub_has_it(app, journal):
    submits = [away(), ResultTooLarge("no"), away(), away()]
    one = running(app, journal, polls=tasks(1, "large"), submits=submits).until(200)
    assert one.statuses == ["success"] * 2 + ["error"] * 3


def test_a_small_error_that_is_too_large_itself_is_refused_for_good(app, journal):
    submits = [ResultTooLarge("no")] * 5
    one = running(app, journal, polls=tasks(1, "large"), submits=submits).until(60)
    assert one.statuses == ["success", "error"]


def test_a_redelivery_has_the_small_error_sent_again(app, journal):
    polls = [*tasks(1, "large"), Held(5, *tasks(1, "large"))]
    one = running(app, journal, polls=polls, submits=[ResultTooLarge("no")]).until(60)
    assert one.hub.messages[1] == one.hub.messages[2]


def test_the_hook_gets_a_result_that_is_too_large(app, journal):
    refused = []

    @app.on_submit_failed
    def note(result, error):
        refused.append((len(result.data["rows"]), str(error)))

    running(app, journal, polls=tasks(1, "large"), submits=[ResultTooLarge("no")]).until(60)
    assert refused == [(100_000, "no")]


def test_a_hook_for_a_refused_result_has_its_time_at_the_end(app):
    refused = []

    @app.on_submit_failed
    async def note(result, error):
        await asyncio.sleep(3)
        refused.append(result.id)

    running(app, polls=numbered(1), submits=[Held(2.0, ResultRefused("no"))]).until(1)
    assert refused == ["t1"]


def test_a_refused_result_is_a_dead_letter_of_the_spool(app, path):
    submits = [ResultRefused("PERMISSION_DENIED, no"), ResultTooLarge("RESOURCE_EXHAUSTED, no")]
    polls = [*numbered(1), Held(1, *tasks(1, "large"))]
    one = spooled(app, path, polls=polls, submits=submits).until(60)
    letters = read_spool(path)
    assert [letter.reason for letter in letters] == [
        str(error) for error in ("PERMISSION_DENIED, no", "RESOURCE_EXHAUSTED, no")
    ]
    assert [letter.message for letter in letters] == one.hub.messages[:2]


# The end.


def test_a_stop_sends_a_result_at_once_though_its_pause_is_long(app, monkeypatch):
    no_jitter(monkeypatch)
    one = running(app, polls=numbered(1), submits=[away()] * 6).until(20)
    assert [at for at, _ in one.results] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 20]
    assert one.ended_at == 20


def test_a_stop_tries_again_from_short_pauses_on(app, monkeypatch):
    no_jitter(monkeypatch)
    one = running(app, polls=numbered(1), submits=[away()] * 8).until(20)
    assert [at for at, _ in one.results][6:] == [20, 20.5, 21.5]


def test_a_stop_during_a_backoff_ends_at_once(app):
    one = running(app, polls=[None], afterwards=away()).until(300)
    assert one.ended_at == 300


def test_results_that_wait_in_the_spool_at_the_end_are_no_failure(app, path, caplog):
    one = spooled(app, path, polls=numbered(1, 2), submits=[away()] * 1000).until(10)
    assert one.ended_at == 12
    assert "the spool keeps 2 results for the next start to send" in caplog.text


def test_a_stop_waits_for_results_in_the_spool_while_the_hub_accepts_some(app, path):
    one = spooled(app, path, polls=numbered(*range(4)), submits=[Held(n + 3.5) for n in range(4)])
    one.until(2)
    assert one.ended_at == 6.5
    assert read_spool(path) == []


def test_a_stop_tries_results_in_the_spool_just_once_without_a_connection(app, path):
    one = spooled(app, path, polls=numbered(1), submits=[away()] * 1000, is_connected=False)
    one.until(10)
    assert one.ended_at == 10.25
    assert one.results[-1][0] == pytest.approx(10, abs=0.3)


def test_results_that_could_not_be_spooled_are_a_failure(app, path):
    def full():
        spool = inline(path)
        fill(spool)
        return spool

    one = running(app, full, polls=tasks(1, "large"), submits=[away()] * 1000)
    with pytest.raises(ProviderError, match=r"results that the hub never took: \['t0'\]"):
        one.until(10)


def test_a_task_that_a_stop_has_no_time_for_ends_as_interrupted(app, journal):
    one = running(app, journal, polls=numbered(1, seconds=50))
    with pytest.raises(ProviderError, match="with 1 task unfinished"):
        one.until(1, drain_timeout=5.0)
    assert [(r.id, r.status, r.message) for _, r in one.results] == [
        ("t1", Status.ERROR, "interrupted, outcome unknown")
    ]
    assert one.ended_at <= 6


def test_a_task_that_is_not_begun_yet_is_not_interrupted():
    class Slow(MemoryJournal):
        async def begin(self, task):
            await asyncio.sleep(60)

    async def main(one):
        beginning = asyncio.ensure_future(one.outbox.begin(Task("a", "work")))
        await asyncio.sleep(1)
        beginning.cancel()
        await one.outbox.interrupt()
        return one.outbox.undelivered

    assert alone(main, journal=Slow()) == []


def test_a_task_that_a_stop_has_interrupted_is_reported_at_the_next_start(app, path):
    one = spooled(app, path, polls=numbered(1, seconds=50), submits=[away()] * 50)
    with pytest.raises(ProviderError, match="unfinished; results that the hub never took: \\[\\]"):
        one.until(1, drain_timeout=5.0)
    after = spooled(app, path, polls=[Held(1, *numbered(1))]).until(10)
    assert set(after.hub.messages) == set(one.hub.messages)
    assert after.results[0][1].message == "interrupted, outcome unknown"


def test_the_spool_is_closed_though_a_startup_hook_fails(app, path):
    @app.on_startup
    def fail():
        raise LookupError("no database")

    with pytest.raises(LookupError):
        spooled(app, path).until(1)
    inline(path)._file.close()


@pytest.mark.parametrize(
    ("error", "ends_at"), [(AuthenticationError("no"), 0), (HubConnectionError("away"), 30)]
)
def test_spooled_results_are_not_tried_again_for_a_hub_that_is_given_up(app, path, error, ends_at):
    spooled(app, path, polls=numbered(1), submits=[away()] * 500).until(10)
    one = spooled(app, path, afterwards=error, submits=[error] * 500)
    with pytest.raises(type(error)):
        one.until(100)
    assert one.ended_at == pytest.approx(ends_at)


# The next start.


def test_the_next_start_sends_what_the_hub_has_not_taken_the_same_bytes(app, path, runs):
    before = spooled(app, path, polls=numbered(*range(100)), submits=[away()] * 5000).until(10)
    after = spooled(app, path).until(10)
    assert sorted(after.hub.messages) == sorted(set(before.hub.messages))
    assert len(runs) == 100


def test_results_of_before_go_a_few_at_a_time(app, path):
    spooled(app, path, polls=numbered(*range(100)), submits=[away()] * 5000).until(10)
    after = spooled(app, path, submits=[Held(5.0)] * 100).until(3)
    assert len(after.results) == 32


def test_results_that_a_stop_has_no_time_for_are_sent_at_the_next_start(app, path):
    spooled(app, path, polls=numbered(*range(100)), submits=[away()] * 5000).until(10)
    first = spooled(app, path, submits=[Held(5.0)] * 100).until(3)
    second = spooled(app, path).until(10)
    assert sorted(r.id for _, r in [*first.results, *second.results]) == sorted(
        f"t{n}" for n in range(100)
    )


def test_tasks_are_run_while_results_of_before_are_sent(app, path, runs):
    spooled(app, path, polls=numbered(*range(100)), submits=[away()] * 5000).until(10)
    spooled(app, path, polls=numbered(200), submits=[Held(5.0)] * 100).until(3)
    assert runs[-1] == 200


def test_a_task_that_comes_again_after_a_restart_is_not_run_again(app, path, runs):
    first = spooled(app, path, polls=numbered(1)).until(10)
    second = spooled(app, path, polls=numbered(1)).until(10)
    assert first.hub.messages == second.hub.messages
    assert runs == [1]


def test_a_task_whose_result_waits_from_before_is_not_run_again(app, path, runs):
    first = spooled(app, path, polls=numbered(1), submits=[away()] * 500).until(10)
    second = spooled(app, path, polls=numbered(1), submits=[Held(5.0)]).until(10)
    assert set(second.hub.messages) == set(first.hub.messages)
    assert runs == [1]


@pytest.fixture
def crashed(app, path, tmp_path):
    """Return a spool as a crash during a handler leaves it."""

    @app.action
    async def crash() -> dict:
        crash_image(path, tmp_path / "crashed")
        return {"survived": True}

    spooled(app, path, polls=[Task("c", "crash", b'{"n": 1}', b'{"key": "sample"}')]).until(5)
    return tmp_path / "crashed"


def test_a_task_that_a_crash_has_cut_off_ends_as_interrupted(app, crashed):
    one = spooled(app, crashed).until(10)
    [(_, result)] = one.results
    assert (result.status, result.message) == (Status.ERROR, "interrupted, outcome unknown")
    assert result.task == Task("c", "crash", b'{"n": 1}', b'{"key": "sample"}')
    assert result.envelope["data"] | {"now": "", "now_utc": ""} == {
        "provider": "test",
        "action": "crash",
        "timezone": "UTC",
        "now": "",
        "now_utc": "",
        "response": {"error": "interrupted, outcome unknown", "type": "TaskInterruptedError"},
    }


def test_a_task_that_a_crash_has_cut_off_is_not_run_again(app, crashed):
    polls = [Held(1, Task("c", "crash")), Held(1, Task("c", "crash"))]
    one = spooled(app, crashed, polls=polls).until(10)
    assert len(one.hub.messages) == 3
    assert len(set(one.hub.messages)) == 1


def test_an_interrupted_task_keeps_its_result_over_restarts(app, crashed):
    first = spooled(app, crashed, submits=[away()] * 500).until(10)
    second = spooled(app, crashed).until(10)
    assert set(second.hub.messages) == set(first.hub.messages)


def test_the_log_says_how_many_tasks_were_interrupted(app, crashed, caplog):
    spooled(app, crashed).until(10)
    assert "an earlier run left 1 task unfinished" in caplog.text


def test_a_task_of_a_removed_action_is_interrupted_too(crashed):
    one = spooled(ProviderApp("test"), crashed).until(10)
    assert one.results[0][1].message == "interrupted, outcome unknown"


# A full disk.


def test_polling_stops_while_the_disk_is_full_and_goes_on_after(app, path):
    made = []

    def making():
        made.append(inline(path))
        return made[0]

    @app.on_startup
    def plan():
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, lambda: fill(made[0]))
        loop.call_later(100, lambda: relieve(made[0]))

    # The hub must not accept the result: it would need no space in the spool any more.
    polls = [Held(1, tasks(1, "large")[0])]
    one = running(app, making, polls=polls, submits=[away()] * 500).until(120)
    assert set(one.statuses) == {"success"}
    assert [at for at in one.polled_at if 1 < at < 100] == []
    assert [at for at in one.polled_at if 100 < at < 115] != []


def test_interrupted_tasks_are_reported_though_the_disk_is_full_at_the_start(app, crashed):
    def full():
        spool = inline(crashed)
        fill(spool)
        return spool

    # More than fits on the page that the task's payload has left.
    task = Task("c", "crash", b'{"text": "%s"}' % (b"x" * 100_000))
    spool = inline(crashed)
    asyncio.run(spool.begin(attrs.evolve(task, id="large")))
    asyncio.run(spool.close())
    one = running(app, full).until(10)
    assert sorted(result.id for _, result in one.results) == ["c", "large"]
    assert {result.message for _, result in one.results} == {"interrupted, outcome unknown"}


# A damaged result.


def damage(path, change):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(change)


@pytest.mark.parametrize(
    "change",
    [
        "message = x'ffff'",
        "message = 'text'",
        # As version 1 stored it, without a checksum.
        "message = x'ffff', crc = NULL",
        "message = substr(message, 1, 10), crc = NULL",
        "id = 'other', crc = NULL",
    ],
)
def test_a_damaged_result_is_a_dead_letter_and_its_task_ends_as_an_error(app, path, change):
    spooled(app, path, polls=numbered(1, 2), submits=[away()] * 100).until(5)
    damage(path, f"UPDATE task SET {change} WHERE id = 't1'")
    one = spooled(app, path).until(10)
    found = {result.message for _, result in one.results}
    assert found == {
        "the task has run, but its stored result is damaged",
        "Action completed successfully",
    }
    assert [(entry.state, entry.reason) for entry in read_spool(path)] == [
        ("dead", "damaged on the disk, never sent")
    ]


def test_a_redelivered_task_with_a_damaged_result_is_not_run_again(app, path, runs):
    spooled(app, path, polls=numbered(1)).until(5)
    damage(path, "UPDATE task SET message = x'ffff'")
    one = spooled(app, path, polls=numbered(1)).until(5)
    assert runs == [1]
    assert [result.message for _, result in one.results] == [
        "the task has run, but its stored result is damaged"
    ]


# Secrets.


@pytest.mark.parametrize(
    ("account", "reason"),
    [(b'{"key": "hunter22"}', "no, [redacted]"), (b"no JSON", "no, hunter22")],
)
def test_a_refusal_that_repeats_the_account_does_not_show_it(app, path, caplog, account, reason):
    task = Task("t1", "work", b"{}", account)
    spooled(app, path, polls=[task], submits=[ResultRefused("no, hunter22")]).until(60)
    assert read_spool(path)[0].reason == reason
    assert f"the result of task 't1' for good: {reason}" in caplog.text


def test_a_log_tells_nothing_of_a_result(app, path, caplog):
    caplog.set_level(logging.DEBUG)
    task = Task("t1", "work", b'{"n": 31337}', b'{"key": "hunter22"}')
    spooled(app, path, polls=[task, Held(1, task)], submits=[ResultRefused("no")]).until(60)
    assert "hunter22" not in caplog.text
    assert "31337" not in caplog.text


# Attempts.


def attempts(*numbers, n=1, **payload):
    return [attrs.evolve(numbered(n, **payload)[0], attempt=number) for number in numbers]


def sent(one):
    """Return the ids and attempts of the results that were sent, in order."""
    return [result.task.key for _, result in one.results]


def test_a_new_attempt_of_a_task_is_run(app, journal, runs):
    polls = [*attempts(1), Held(5, *attempts(2))]
    one = running(app, journal, polls=polls).until(60)
    assert runs == [1, 1]
    assert sent(one) == [("t1", 1), ("t1", 2)]


def test_the_same_attempt_that_comes_again_later_has_its_own_result_sent_again(app, journal, runs):
    polls = [*attempts(1), Held(5, *attempts(2)), Held(9, *attempts(1))]
    one = running(app, journal, polls=polls).until(60)
    assert len(runs) == 2
    assert sent(one) == [("t1", 1), ("t1", 2), ("t1", 1)]
    assert one.hub.messages[2] == one.hub.messages[0] != one.hub.messages[1]


def test_a_new_attempt_runs_while_the_last_one_runs(app, journal, runs):
    polls = [*attempts(1, seconds=9), Held(1, *attempts(2, seconds=2))]
    one = running(app, journal, polls=polls).until(60)
    assert sent(one) == [("t1", 2), ("t1", 1)]


def test_a_new_attempt_runs_while_the_result_of_the_last_one_waits(app, journal, runs):
    polls = [*attempts(1), Held(1, *attempts(2))]
    one = running(app, journal, polls=polls, submits=[Held(5), Held(1)]).until(60)
    assert runs == [1, 1]
    assert sent(one) == [("t1", 1), ("t1", 2)]


def test_the_same_attempt_that_comes_again_while_it_runs_is_not_run_again(app, journal, runs):
    one = running(app, journal, polls=attempts(2, 2, seconds=5)).until(20)
    assert (runs, sent(one)) == ([1], [("t1", 2)])


def test_a_hub_that_hands_out_the_same_attempt_for_ever_is_polled_in_pauses(app):
    again = Held(0.001, *attempts(2))
    one = running(app, polls=attempts(2, seconds=50), afterwards=again).until(40)
    assert len(one.polled_at) < 1000


def test_a_task_without_a_number_is_another_than_one_with_a_number(app, journal, runs):
    running(app, journal, polls=[*numbered(1), Held(5, *attempts(1))]).until(20)
    assert runs == [1, 1]


def test_both_attempts_that_a_crash_interrupts_are_reported(app, path, tmp_path):
    image = tmp_path / "image"

    @app.action
    async def crash() -> dict:
        await asyncio.sleep(3)
        if not image.exists():
            crash_image(path, image)
        return {}

    tries = [Task("c", "crash", attempt=number) for number in (1, 2)]
    spooled(app, path, polls=tries).until(10)
    one = spooled(app, image).until(10)
    assert sorted(sent(one)) == [("c", 1), ("c", 2)]
    assert {result.message for _, result in one.results} == {"interrupted, outcome unknown"}


def test_the_next_start_sends_the_results_of_both_attempts(app, path):
    spooled(app, path, polls=attempts(1, 2), submits=[away()] * 500).until(10)
    assert sorted(sent(spooled(app, path).until(10))) == [("t1", 1), ("t1", 2)]


def test_an_attempt_that_comes_again_after_a_restart_is_not_run_again(app, path, runs):
    spooled(app, path, polls=attempts(1, 2)).until(10)
    one = spooled(app, path, polls=[*attempts(2), Held(1, *attempts(3))]).until(10)
    assert len(runs) == 3
    assert sent(one) == [("t1", 2), ("t1", 3)]


def test_a_refused_result_is_a_dead_letter_of_its_attempt(app, path):
    refused = []
    app.on_submit_failed(lambda result, error: refused.append(result.task.key))
    polls = [*attempts(1), Held(1, *attempts(2))]
    spooled(app, path, polls=polls, submits=[ResultRefused("no")] * 2).until(10)
    assert [(entry.id, entry.attempt) for entry in read_spool(path)] == [("t1", 1), ("t1", 2)]
    assert refused == [("t1", 1), ("t1", 2)]


def test_a_small_error_belongs_to_the_attempt_that_was_too_large(app, journal):
    polls = [Task("t1", "large", attempt=3)]
    one = running(app, journal, polls=polls, submits=[ResultTooLarge("no")]).until(60)
    assert sent(one) == [("t1", 3), ("t1", 3)]


def test_an_error_in_place_of_a_damaged_result_belongs_to_its_attempt(app, path):
    spooled(app, path, polls=attempts(1, 2), submits=[away()] * 500).until(10)
    damage(path, "UPDATE task SET message = x'ffff' WHERE attempt = 2")
    one = spooled(app, path).until(10)
    statuses = {result.task.attempt: result.status.value for _, result in one.results}
    assert statuses == {1: "success", 2: "error"}
