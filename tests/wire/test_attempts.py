"""The metadata of attempts and leases, and `/arbprov.Leases/Renew`, over real gRPC."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from support.leasing_hub import LeasingHub
from support.waiting import TIMEOUT

from arbprov import HubConnectionError, ProviderApp, TaskContext, TaskResult
from arbprov.clock import SystemClock
from arbprov.task import Task
from arbprov.wire.hub import Renewal
from arbprov.wire.messages import encode_result, with_token
from arbprov.worker.worker import Worker, WorkerSettings

RENEW = (("arbprov-renew", "20"),)
RESULT = encode_result(TaskResult(Task("t1", "work"), "success", "", {}, body="{}"), "weather")


def asked(hub, main, **options):
    """Run a coroutine function with a client of a hub."""

    async def run():
        async with hub.running(**options) as client:
            return await asyncio.wait_for(main(client), TIMEOUT)

    return asyncio.run(run())


async def fetch(client):
    return await client.fetch()


# Attempts.


@pytest.mark.parametrize(
    ("metadata", "attempt"),
    [
        ((), 0),
        ((("arbprov-attempt", "1"),), 1),
        ((("other", "5"), ("arbprov-attempt", "12")), 12),
        ((("arbprov-attempt", "0"),), 0),
        ((("arbprov-attempt", "-1"),), 0),
        ((("arbprov-attempt", "1.5"),), 0),
        ((("arbprov-attempt", "two"),), 0),
        ((("arbprov-attempt", ""),), 0),
        ((("arbprov-attempt", "9" * 40),), 0),
        ((("arbprov-attempt-bin", b"1"),), 0),
    ],
)
def test_a_task_has_the_attempt_that_the_hub_sends(metadata, attempt):
    assert asked(LeasingHub(tasks=[("t1", metadata)]), fetch) == Task(
        "t1", "work", b"", attempt=attempt
    )


def test_the_attempt_and_the_trace_come_together():
    metadata = (("traceparent", "00-1"), ("arbprov-attempt", "3"))
    task = asked(LeasingHub(tasks=[("t1", metadata)]), fetch, reads_traces=True)
    assert (task.traceparent, task.attempt) == ("00-1", 3)


@pytest.mark.parametrize(("attempt", "sent"), [(0, {}), (3, {"arbprov-attempt": "3"})])
def test_a_result_is_sent_with_its_attempt_beside_the_same_bytes(attempt, sent):
    hub = LeasingHub()
    asked(hub, lambda client: client.submit(RESULT, attempt))
    assert hub.submitted == [("t1", sent)]
    assert hub.messages == [with_token(RESULT, "sample-token")]


# The interval of renewals.


def interval_after(*hubs):
    """Return the interval after a poll with each of some answers."""

    async def main(client):
        found = []
        for always, refusals in hubs:
            hub.always, hub.refusals = always, refusals
            await client.fetch()
            found.append(client.renew_interval)
        return found

    hub = LeasingHub()
    return asked(hub, main)


@pytest.mark.parametrize("text", ["", "0", "0.0", "-5", "nan", "inf", "1e3", "soon", "9" * 40])
def test_an_interval_that_is_not_valid_is_none(text):
    assert interval_after(((("arbprov-renew", text),), {})) == [0.0]


def test_the_last_answer_of_the_hub_has_the_interval():
    answers = [(), RENEW, (("arbprov-renew", "2.5"),), ()]
    assert interval_after(*((answer, {}) for answer in answers)) == [0.0, 20.0, 2.5, 0.0]


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_status_in_place_of_a_task_can_bring_the_interval_and_does_not_end_it(code):
    refusals = {"GetTask": code}
    assert interval_after((RENEW, refusals), ((), refusals)) == [20.0, 20.0]


def test_polls_tell_that_leases_are_renewed_once_the_hub_has_shown_them():
    hub = LeasingHub(RENEW)

    async def main(client):
        await client.fetch()
        await client.fetch()
        hub.always = ()
        await client.fetch()
        await client.fetch()

    asked(hub, main)
    renews = {"arbprov-renews": "1"}
    assert hub.polled_with == [{}, renews, renews, {}]


# Renewals.


async def renew(client):
    await client.fetch()
    return await client.renew([("t1", 0), ("ü", 2)])


def test_a_renewal_has_the_token_the_provider_and_the_keys_of_tasks():
    hub = LeasingHub(RENEW)
    assert asked(hub, renew) == Renewal()
    tasks = [["t1", 0], ["ü", 2]]
    assert hub.renewed == [{"token": "sample-token", "provider": "weather", "tasks": tasks}]


def test_the_answer_to_a_renewal_has_the_keys_of_cancelled_and_lost_tasks():
    answer = b'{"cancelled": [["t1", 0], ["t1", 0]], "lost": [["u", 2]], "more": 1}'
    renewal = asked(LeasingHub(RENEW, renewals=[answer]), renew)
    assert renewal == Renewal(frozenset({("t1", 0)}), frozenset({("u", 2)}))


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        b"[]",
        b'{"cancelled": 1}',
        b'{"cancelled": ["t1"]}',
        b'{"lost": [["t1"]]}',
        b'{"lost": [["t1", "1"]]}',
        b'{"lost": [["t1", true]]}',
        b'{"lost": [[1, 1]]}',
        b'{"lost": [["t1", 1, 2]]}',
    ],
)
def test_an_answer_that_is_not_a_renewal_is_a_connection_error(answer):
    with pytest.raises(HubConnectionError, match="sent an answer that is not a renewal"):
        asked(LeasingHub(RENEW, renewals=[answer]), renew)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_a_renewal_that_fails_is_a_connection_error_after_one_call(code):
    hub = LeasingHub(RENEW, refusals={"Renew": code})
    with pytest.raises(HubConnectionError, match=f"{code.name}, because of the test"):
        asked(hub, renew)
    assert len(hub.renewed) == 1


def test_a_hub_without_the_method_is_a_connection_error():
    with pytest.raises(HubConnectionError, match="UNIMPLEMENTED"):
        asked(LeasingHub(RENEW, has_leases=False), renew)


def test_a_renewal_that_fails_leaves_the_connection_healthy():
    async def main(client):
        with pytest.raises(HubConnectionError):
            await renew(client)
        return client._healthy

    assert asked(LeasingHub(RENEW, has_leases=False), main)


# A whole worker.


def work(app, hub, until):
    """Run an app on a hub until a condition holds and it has drained."""

    async def main(client):
        settings = WorkerSettings(
            concurrency=4, drain_timeout=TIMEOUT, start_timeout=TIMEOUT, max_task_timeout=TIMEOUT
        )
        worker = Worker(app._dispatcher(SystemClock()), client, app._life_hooks(), settings)
        running = asyncio.ensure_future(worker.run())
        while not (until() or running.done()):
            await asyncio.sleep(0.005)
        worker.stop()
        await running

    asked(hub, main)


def numbered(*attempts):
    return [("t1", (("arbprov-attempt", str(number)),)) for number in attempts]


@pytest.fixture
def app():
    return ProviderApp("weather")


def test_a_retried_task_runs_again_and_a_redelivered_attempt_does_not(app):
    runs = []
    app.action("work")(lambda: runs.append(1))
    hub = LeasingHub(tasks=numbered(1, 2, 2, 1))
    work(app, hub, lambda: len(hub.submitted) >= 3 and not hub.tasks)
    assert len(runs) == 2
    assert {sent["arbprov-attempt"] for _, sent in hub.submitted} == {"1", "2"}


def test_a_hub_that_sends_no_metadata_gets_none_and_is_never_asked_to_renew(app):
    app.action("work")(lambda: None)
    hub = LeasingHub(tasks=[("t1", ()), ("t1", ())])
    # The result is sent once or twice: the task may come again while it still runs.
    work(app, hub, lambda: hub.submitted and len(hub.polled_with) > 2)
    assert hub.submitted[0] == hub.submitted[-1] == ("t1", {})
    assert len(set(hub.messages)) == 1
    assert {str(sent) for sent in hub.polled_with} == {"{}"}
    assert hub.renewed == []


def test_a_plain_handler_sees_that_its_task_was_cancelled_and_its_result_is_kept(app):
    @app.action
    def work_long(ctx: TaskContext) -> dict:
        while not ctx.cancelled:
            never.wait(0.005)
        return {"rows": 2}

    never = threading.Event()
    app.action("work")(work_long)
    hub = LeasingHub(
        (("arbprov-renew", "0.1"),), numbered(4), renewals=[b'{"cancelled": [["t1", 4]]}']
    )
    work(app, hub, lambda: hub.submitted)
    assert hub.renewed[0]["tasks"] == [["t1", 4]]
    assert hub.submitted == [("t1", {"arbprov-attempt": "4"})]
    assert b'"rows":2' in hub.messages[0].replace(b" ", b"")


def test_a_hub_that_shows_leases_and_lacks_the_method_gets_its_results(app, caplog):
    @app.action("work")
    async def wait() -> None:
        await asyncio.sleep(0.5)

    hub = LeasingHub((("arbprov-renew", "0.1"),), numbered(1), has_leases=False)
    work(app, hub, lambda: hub.submitted)
    lines = [line for line in caplog.messages if "were not renewed" in line]
    assert len(lines) == 1
    assert "UNIMPLEMENTED" in lines[0]
