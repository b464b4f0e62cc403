"""What every store of a hub does: the rules of `arbprov.localhub.store`, one by one."""

from __future__ import annotations

import attrs
import pytest
from support.task_stores import new_task

from arbprov.localhub.store import StoredToken
from arbprov.localhub.stores import postgres_holds, sqlite_lanes
from arbprov.localhub.tasks import (
    Outcome,
    Pause,
    PauseKind,
    ReceivedResult,
    State,
    TaskFilter,
)

pytestmark = pytest.mark.anyio

LEASE = 600.0
# Less and more than a lease, a hold, a ttl or a `not_before` of 600 seconds, with time to spare for
# a store whose clock does not stand still.
SHORTER, LONGER = 300.0, 900.0
HOLD = 600.0


def result(id, attempt=1, status="success", text="{}", **values):
    return ReceivedResult(id=id, attempt=attempt, status=status, result=text, **values)


def limit(id, attempt=1, wait_time=HOLD, text='{"limit": 1}'):
    return result(id, attempt, "limit", text, wait_time=wait_time, limit="5/minute")


async def claim(store, count=1, provider="p"):
    """Return the ids of the tasks that a provider is given."""
    return [task.id for task in await store.claim(provider, count, LEASE)]


async def add(store, *ids, **values):
    return await store.submit([new_task(task_id, **values) for task_id in ids])


async def state(store, id):
    return (await store.get(id)).state


async def ends(store, id):
    return [attempt.end for attempt in await store.attempts(id)]


# Submitting.


async def test_a_submitted_task_is_new(store):
    accepted = await add(store, "t1")
    assert [(one.id, one.is_new) for one in accepted] == [("t1", True)]


async def test_a_submitted_task_is_stored_with_all_it_was_given(store):
    task = new_task(
        "t1",
        payload=b'{"n": 1}',
        account=b'{"key": "k"}',
        provider="p",
        priority=-3,
        max_deliveries=4,
        idempotency_key="once",
        traceparent="00-trace",
    )
    await store.submit([task])
    stored = await store.get("t1")
    kept = attrs.asdict(task)
    for name in ("fields", "not_before", "ttl"):
        del kept[name]
    assert {name: getattr(stored, name) for name in kept} == kept


async def test_a_new_task_waits_and_has_had_no_attempt(store):
    await add(store, "t1")
    task = await store.get("t1")
    assert (task.state, task.attempt, task.deliveries) == (State.WAITING, 0, 0)


async def test_a_task_without_values_of_its_own_is_stored_without_them(store):
    await add(store, "t1")
    task = await store.get("t1")
    assert (task.not_before, task.expires_at, task.lease_ends_at) == (None, None, None)
    assert (task.started_at, task.ended_at) == (None, None)
    assert (task.worker, task.status, task.result, task.reason) == ("", "", "", "")


async def test_a_known_id_adds_nothing(store):
    await add(store, "t1", payload=b'{"n": 1}')
    accepted = await add(store, "t1", payload=b'{"n": 2}')
    assert [(one.id, one.is_new) for one in accepted] == [("t1", False)]
    assert (await store.get("t1")).payload == b'{"n": 1}'


async def test_a_known_idempotency_key_adds_nothing_and_names_the_first_task(store):
    await add(store, "t1", idempotency_key="once")
    accepted = await add(store, "t2", idempotency_key="once")
    assert [(one.id, one.is_new) for one in accepted] == [("t1", False)]
    assert await store.get("t2") is None


async def test_a_key_that_comes_twice_in_a_batch_adds_one_task(store):
    accepted = await add(store, "t1", "t2", idempotency_key="once")
    assert [(one.id, one.is_new) for one in accepted] == [("t1", True), ("t1", False)]


async def test_an_id_that_comes_twice_in_a_batch_adds_one_task(store):
    accepted = await add(store, "t1", "t1")
    assert [(one.id, one.is_new) for one in accepted] == [("t1", True), ("t1", False)]
    assert await claim(store, 5) == ["t1"]


async def test_tasks_without_an_idempotency_key_are_different_tasks(store):
    accepted = await add(store, "t1", "t2")
    assert [one.is_new for one in accepted] == [True, True]


async def test_an_idempotency_key_of_an_ended_task_is_still_known(store):
    await add(store, "t1", idempotency_key="once")
    await claim(store)
    await store.record([result("t1")])
    assert [one.is_new for one in await add(store, "t2", idempotency_key="once")] == [False]


async def test_no_tasks_are_submitted_as_none(store):
    assert await store.submit([]) == []


# Handing out.


async def test_a_claimed_task_comes_with_what_was_submitted(store):
    await add(store, "t1", payload=b'{"n": 1}', account=b'{"k": 2}', traceparent="00-trace")
    [task] = await store.claim("p", 1, LEASE)
    assert (task.id, task.action, task.payload, task.account, task.traceparent) == (
        "t1",
        "act",
        b'{"n": 1}',
        b'{"k": 2}',
        "00-trace",
    )
    assert (task.attempt, task.lease) == (1, LEASE)


async def test_a_claimed_task_is_running_at_its_provider(store):
    await add(store, "t1")
    await claim(store, provider="p7")
    task = await store.get("t1")
    assert (task.state, task.worker, task.attempt, task.deliveries) == (
        State.RUNNING,
        "p7",
        1,
        1,
    )
    assert task.lease_ends_at - task.started_at == pytest.approx(LEASE, abs=1)


async def test_a_claim_begins_an_attempt(store):
    await add(store, "t1")
    await claim(store, provider="p7")
    [attempt] = await store.attempts("t1")
    assert (attempt.number, attempt.provider, attempt.ended_at, attempt.end) == (1, "p7", None, "")


async def test_a_task_is_handed_out_once(store):
    await add(store, "t1")
    assert await claim(store, 5) == ["t1"]
    assert await claim(store, 5) == []


async def test_no_more_tasks_are_handed_out_than_asked_for(store):
    await add(store, "t1", "t2", "t3")
    assert await claim(store, 2) == ["t1", "t2"]


async def test_a_claim_of_no_tasks_hands_out_none(store):
    await add(store, "t1")
    assert await claim(store, 0) == []


async def test_a_task_for_a_provider_goes_to_no_other(store):
    await add(store, "t1", provider="p1")
    assert await claim(store, provider="p2") == []
    assert await claim(store, provider="p1") == ["t1"]


async def test_a_provider_gets_its_own_tasks_and_those_for_any(store):
    await add(store, "t1", provider="p1")
    await add(store, "t2")
    assert sorted(await claim(store, 5, "p1")) == ["t1", "t2"]


# Order.


async def test_tasks_of_an_account_and_action_go_in_the_order_of_submission(store):
    await add(store, *"cab")
    assert await claim(store, 3) == ["c", "a", "b"]


async def test_a_higher_priority_goes_first(store):
    await add(store, "low", priority=-1)
    await add(store, "middle")
    await add(store, "high", priority=5, account_key="b")
    assert await claim(store, 3) == ["high", "middle", "low"]


async def test_a_higher_priority_goes_first_whether_the_provider_is_named_or_not(store):
    await add(store, "named", provider="p", priority=1)
    await add(store, "any", priority=2)
    assert await claim(store, 2) == ["any", "named"]


async def test_accounts_take_turns(store):
    await add(store, "a1", "a2", "a3")
    await add(store, "b1", "b2", "b3", account_key="b")
    assert await claim(store, 6) == ["a1", "b1", "a2", "b2", "a3", "b3"]


async def test_accounts_take_turns_over_several_claims(store):
    await add(store, "a1", "a2", "a3")
    await add(store, "b1", "b2", "b3", account_key="b")
    assert [await claim(store) for _ in range(4)] == [["a1"], ["b1"], ["a2"], ["b2"]]


async def test_many_waiting_tasks_delay_another_account_by_one_task(store):
    await add(store, *(f"a{n}" for n in range(100)))
    await claim(store, 50)
    await add(store, "b1", account_key="b")
    assert "b1" in await claim(store, 2)


async def test_an_account_with_several_actions_has_one_turn(store):
    for action in ("x", "y", "z"):
        await add(store, *(f"{action}{n}" for n in range(10)), action=action)
    await add(store, *(f"b{n}" for n in range(10)), account_key="b")
    given = await claim(store, 20)
    assert sum(name.startswith("b") for name in given) == 10


async def test_the_actions_of_an_account_take_turns(store):
    for action in ("x", "y"):
        await add(store, *(f"{action}{n}" for n in range(10)), action=action)
    given = await claim(store, 10)
    assert sum(name.startswith("x") for name in given) == 5


async def test_an_account_whose_tasks_name_a_provider_has_one_turn(store):
    await add(store, *(f"a{n}" for n in range(10)))
    await add(store, *(f"n{n}" for n in range(10)), provider="p")
    await add(store, *(f"b{n}" for n in range(10)), account_key="b")
    given = await claim(store, 20)
    assert sum(name.startswith("b") for name in given) == 10


async def test_an_account_that_was_served_before_is_not_behind_a_new_one(store):
    await add(store, *(f"a{n}" for n in range(50)))
    await claim(store, 50)
    await add(store, *(f"b{n}" for n in range(50)), account_key="b")
    await add(store, "again")
    assert "again" in await claim(store, 2)


async def test_new_accounts_cannot_hold_an_account_back(store):
    await add(store, "a1", "a2")
    await claim(store)
    for n in range(5):
        await add(store, f"new{n}", account_key=f"new{n}")
        if "a2" in await claim(store):
            break
    assert n <= 1


async def test_an_account_whose_pause_has_ended_starts_at_the_back(store):
    await store.pause(Pause(PauseKind.ACCOUNT, "a"))
    await add(store, "a1")
    await add(store, "b1", account_key="b")
    await store.resume(Pause(PauseKind.ACCOUNT, "a"))
    assert await claim(store, 2) == ["b1", "a1"]


async def test_tasks_for_an_absent_provider_do_not_let_new_accounts_overtake(store):
    await add(store, "absent", account_key="c", provider="elsewhere")
    await add(store, *(f"a{n}" for n in range(50)))
    await claim(store, 20)
    await add(store, *(f"b{n}" for n in range(50)), account_key="b")
    given = await claim(store, 10)
    assert sum(name.startswith("a") for name in given) == 5


async def test_a_provider_that_was_away_does_not_delay_others_for_long(store):
    await add(store, *(f"c{n}" for n in range(50)), account_key="c", provider="away")
    await add(store, *(f"a{n}" for n in range(50)))
    await claim(store, 30)
    given = await claim(store, 10, "away")
    assert sum(name.startswith("a") for name in given) == 5


async def test_the_position_is_the_number_of_tasks_before_it_in_its_lane(store):
    await add(store, "t1", "t2", "t3")
    await add(store, "other", account_key="b")
    assert [await store.position(name) for name in ("t1", "t3", "other")] == [0, 2, 0]


async def test_a_task_that_does_not_wait_has_position_0(store):
    await add(store, "t1", "t2")
    await claim(store, 2)
    assert [await store.position(name) for name in ("t2", "unknown")] == [0, 0]


# Leases and returns.


async def test_a_task_whose_lease_ran_out_is_handed_out_again_as_the_next_attempt(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    assert await ends(store, "t1") == ["lease"]
    [task] = await store.claim("p", 1, LEASE)
    assert (task.id, task.attempt) == ("t1", 2)


async def test_a_lease_that_has_not_run_out_keeps_its_task(bench):
    await add(bench.store, "t1")
    await claim(bench.store)
    await bench.pass_time(SHORTER)
    assert await claim(bench.store) == []


async def test_upkeep_says_that_tasks_became_ready(bench):
    await add(bench.store, "t1")
    await claim(bench.store)
    await bench.advance(LONGER)
    assert (await bench.store.upkeep()).ready


async def test_upkeep_without_anything_due_says_so(store):
    await add(store, "t1")
    due = await store.upkeep()
    assert (due.ready, due.ended, due.next_in) == (False, (), None)


async def test_upkeep_says_when_the_next_lease_ends(store):
    await add(store, "t1")
    await claim(store)
    assert (await store.upkeep()).next_in == pytest.approx(LEASE, abs=60)


async def test_a_task_is_dead_after_its_last_delivery(bench):
    store = bench.store
    await add(store, "t1", max_deliveries=2)
    for _ in range(2):
        assert await claim(store) == ["t1"]
        await bench.advance(LONGER)
        due = await store.upkeep()
    assert due.ended == ("t1",)
    task = await store.get("t1")
    assert (task.state, task.attempt, task.deliveries) == (State.DEAD, 2, 2)
    assert task.reason
    assert task.ended_at is not None
    assert await claim(store) == []


async def test_a_returned_task_goes_again_and_was_not_delivered(store):
    await add(store, "t1", max_deliveries=1)
    await claim(store)
    await store.give_back([("t1", 1)])
    assert await ends(store, "t1") == ["returned"]
    assert (await store.get("t1")).deliveries == 0
    [task] = await store.claim("p", 1, LEASE)
    assert task.attempt == 2


async def test_a_returned_task_goes_before_later_tasks_of_its_lane(store):
    await add(store, "t1", "t2")
    await claim(store)
    await store.give_back([("t1", 1)])
    assert await claim(store, 2) == ["t1", "t2"]


async def test_an_attempt_that_has_ended_is_not_returned(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    await claim(store)
    await store.give_back([("t1", 1), ("unknown", 1)])
    assert await state(store, "t1") == State.RUNNING


async def test_a_task_with_a_result_is_not_returned(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1")])
    await store.give_back([("t1", 1)])
    assert await state(store, "t1") == State.DONE


async def test_a_renewed_lease_ends_later(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(SHORTER)
    assert await store.renew("p", [("t1", 1)], LEASE) == ([], [])
    await bench.pass_time(SHORTER + 100)
    assert await state(store, "t1") == State.RUNNING
    await bench.pass_time(LONGER)
    assert await state(store, "t1") == State.WAITING


async def test_attempt_0_renews_the_latest_attempt(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(SHORTER)
    assert await store.renew("p", [("t1", 0)], LEASE) == ([], [])
    await bench.pass_time(SHORTER + 100)
    assert await state(store, "t1") == State.RUNNING


async def test_a_renewal_names_cancelled_tasks(store):
    await add(store, "t1")
    await claim(store)
    await store.cancel(["t1"], "enough")
    assert await store.renew("p", [("t1", 1)], LEASE) == ([("t1", 1)], [])


async def test_a_renewal_names_unknown_and_ended_tasks_as_lost(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1")])
    assert await store.renew("p", [("t1", 1), ("t2", 1)], LEASE) == ([], [("t1", 1), ("t2", 1)])


async def test_a_renewal_names_a_task_that_was_handed_out_again_as_lost(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    await claim(store)
    assert await store.renew("p", [("t1", 1), ("t1", 2)], LEASE) == ([], [("t1", 1)])


async def test_a_provider_does_not_renew_the_lease_of_another(store):
    await add(store, "t1")
    await claim(store, provider="p1")
    assert await store.renew("p2", [("t1", 1)], LEASE) == ([], [("t1", 1)])


async def test_a_task_that_waits_after_its_lease_is_neither_lost_nor_renewed(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    assert await store.renew("p", [("t1", 1)], LEASE) == ([], [])
    task = await store.get("t1")
    assert (task.state, task.lease_ends_at) == (State.WAITING, None)


# Results.


@pytest.mark.parametrize(
    ("status", "expected"),
    [("success", State.DONE), ("warning", State.DONE), ("error", State.FAILED)],
)
async def test_a_result_ends_the_task(store, status, expected):
    await add(store, "t1")
    await claim(store)
    assert await store.record([result("t1", status=status)]) == [Outcome.RECORDED]
    assert await state(store, "t1") == expected


async def test_a_result_is_stored_with_its_task(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1", 1, "error", '{"e": 1}', message="no", error_type="E")])
    task = await store.get("t1")
    assert (task.status, task.result, task.message, task.error_type) == (
        "error",
        '{"e": 1}',
        "no",
        "E",
    )
    assert (task.lease_ends_at, task.ended_at is None) == (None, False)


async def test_a_result_ends_its_attempt(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1", text='{"n": 1}')])
    [attempt] = await store.attempts("t1")
    assert (attempt.end, attempt.status, attempt.result, attempt.aside) == (
        "result",
        "success",
        '{"n": 1}',
        (),
    )
    assert attempt.ended_at is not None


async def test_the_outcomes_are_in_the_order_of_the_results(store):
    await add(store, "t1", "t2")
    await claim(store, 2)
    results = [result("t2"), result("unknown"), result("t1"), result("t2")]
    assert await store.record(results) == [
        Outcome.RECORDED,
        Outcome.UNKNOWN,
        Outcome.RECORDED,
        Outcome.REPEATED,
    ]


async def test_the_same_result_again_is_repeated(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1")])
    assert await store.record([result("t1")]) == [Outcome.REPEATED]


async def test_another_result_is_kept_aside(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1", text='{"n": 1}')])
    assert await store.record([result("t1", text='{"n": 2}')]) == [Outcome.KEPT_ASIDE]
    assert (await store.get("t1")).result == '{"n": 1}'
    [attempt] = await store.attempts("t1")
    assert attempt.aside == ('{"n": 2}',)


async def test_results_kept_aside_are_in_the_order_of_arrival_and_each_once(store):
    await add(store, "t1")
    await claim(store)
    for n in (1, 3, 2, 3):
        await store.record([result("t1", text=f'{{"n": {n}}}')])
    [attempt] = await store.attempts("t1")
    assert attempt.aside == ('{"n": 3}', '{"n": 2}')


async def test_the_same_envelope_with_another_status_is_another_result(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1")])
    assert await store.record([result("t1", status="error")]) == [Outcome.KEPT_ASIDE]
    assert await state(store, "t1") == State.DONE


async def test_a_result_after_the_lease_is_recorded_while_the_task_waits(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    assert await store.record([result("t1")]) == [Outcome.RECORDED]
    assert await state(store, "t1") == State.DONE
    assert await claim(store) == []


async def test_a_late_result_does_not_change_how_and_when_its_attempt_ended(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    before = await store.attempts("t1")
    await bench.pass_time(LONGER)
    await store.record([result("t1", text="late")])
    assert await store.attempts("t1") == [attrs.evolve(before[0], status="success", result="late")]
    assert before[0].end == "lease"


async def test_a_result_after_the_lease_is_recorded_while_a_later_attempt_runs(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    await claim(store)
    assert await store.record([result("t1", 1, "error", '{"n": 1}')]) == [Outcome.RECORDED]
    task = await store.get("t1")
    assert (task.state, task.result) == (State.FAILED, '{"n": 1}')
    await bench.pass_time(LONGER)
    assert await state(store, "t1") == State.FAILED


async def test_a_limit_after_the_lease_changes_no_state(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    assert await store.record([limit("t1")]) == [Outcome.RECORDED]
    assert await store.held() == []
    assert await claim(store) == ["t1"]


async def test_a_limit_of_an_attempt_before_a_retry_changes_no_state(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    await claim(store)
    await store.record([result("t1", 1)])
    await store.retry(["t1"])
    await store.record([limit("t1", 2)])
    assert await claim(store) == ["t1"]
    assert (await store.get("t1")).deliveries == 1


async def test_a_second_attempts_result_is_kept_with_it_after_the_first_ended_the_task(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    await claim(store)
    await store.record([result("t1", 1, text='{"n": 1}')])
    assert await store.record([result("t1", 2, text='{"n": 2}')]) == [Outcome.KEPT_ASIDE]
    assert [one.result for one in await store.attempts("t1")] == ['{"n": 1}', '{"n": 2}']
    assert (await store.get("t1")).result == '{"n": 1}'


async def test_a_result_of_a_cancelled_task_becomes_its_attempts(store):
    await add(store, "t1")
    await claim(store)
    await store.cancel(["t1"], "enough")
    assert await store.record([result("t1", text='{"n": 1}')]) == [Outcome.KEPT_ASIDE]
    assert await store.record([result("t1", text='{"n": 1}')]) == [Outcome.REPEATED]
    [attempt] = await store.attempts("t1")
    assert (attempt.end, attempt.result, attempt.aside) == ("cancelled", '{"n": 1}', ())
    task = await store.get("t1")
    assert (task.state, task.result) == (State.CANCELLED, "")


async def test_a_result_of_a_dead_task_changes_no_state(bench):
    store = bench.store
    await add(store, "t1", max_deliveries=1)
    await claim(store)
    await bench.pass_time(LONGER)
    assert await store.record([result("t1")]) == [Outcome.KEPT_ASIDE]
    assert await state(store, "t1") == State.DEAD


async def test_a_result_without_an_attempt_is_of_the_latest(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    await bench.pass_time(LONGER)
    await claim(store)
    assert await store.record([result("t1", 0)]) == [Outcome.RECORDED]
    assert [one.status for one in await store.attempts("t1")] == ["", "success"]


async def test_a_result_without_an_attempt_that_any_attempt_has_is_repeated(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1", text='{"n": 1}')])
    await store.retry(["t1"])
    await claim(store)
    assert await store.record([result("t1", 0, text='{"n": 1}')]) == [Outcome.REPEATED]
    assert await state(store, "t1") == State.RUNNING


@pytest.mark.parametrize("attempt", [0, 1])
async def test_a_result_of_a_task_that_was_never_handed_out_is_unknown(store, attempt):
    await add(store, "t1")
    assert await store.record([result("t1", attempt)]) == [Outcome.UNKNOWN]
    assert await claim(store) == ["t1"]


async def test_a_result_of_an_attempt_that_has_not_begun_is_unknown(store):
    await add(store, "t1")
    await claim(store)
    assert await store.record([result("t1", 2)]) == [Outcome.UNKNOWN]
    assert await state(store, "t1") == State.RUNNING


# Limits.


async def hold(store, *ids, **values):
    """Add tasks and have the first be answered with a limit."""
    await add(store, *ids, **values)
    [first] = await claim(store)
    await store.record([limit(first)])
    return first


async def test_a_limited_task_waits_again_and_was_not_delivered(store):
    await hold(store, "t1", max_deliveries=1)
    task = await store.get("t1")
    assert (task.state, task.deliveries, task.status, task.lease_ends_at) == (
        State.WAITING,
        0,
        "",
        None,
    )
    assert await ends(store, "t1") == ["limit"]


async def test_a_limit_is_the_result_of_its_attempt(store):
    await add(store, "t1")
    await claim(store)
    assert await store.record([limit("t1"), limit("t1")]) == [Outcome.RECORDED, Outcome.REPEATED]
    [attempt] = await store.attempts("t1")
    assert (attempt.status, attempt.result) == ("limit", '{"limit": 1}')


async def test_a_limit_holds_all_lanes_of_its_group(store):
    await add(store, "t0", "t1")
    await add(store, "urgent", priority=5)
    await add(store, "named", provider="p")
    await claim(store)
    await store.record([limit("urgent")])
    assert await claim(store, 5) == []


async def test_a_limit_holds_a_task_that_is_submitted_later(store):
    await hold(store, "t1")
    await add(store, "t2")
    await add(store, "t3", priority=5)
    assert await claim(store, 5) == []


async def test_a_limit_holds_no_other_action_or_account(store):
    await hold(store, "t1", "t2")
    await add(store, "action", action="other")
    await add(store, "account", account_key="b")
    assert sorted(await claim(store, 5)) == ["account", "action"]


async def test_a_held_group_is_listed(store):
    await hold(store, "t1")
    [scope] = await store.held()
    assert (scope.action, scope.account_key, scope.limit) == ("act", "a", "5/minute")
    assert scope.held_until - scope.since == pytest.approx(HOLD, abs=1)


# Episodes: what goes when a hold has ended.

# Shorter than a lease, so that tasks of an ended episode may still run in the next.
WAIT = 100.0


async def take(store, count=99, provider="p"):
    """Return the deliveries that a provider is given."""
    return await store.claim(provider, count, LEASE)


async def end(store, *deliveries, status="success"):
    """Record a result of each of some deliveries."""
    values = {"wait_time": WAIT, "limit": "5/minute"} if status == "limit" else {}
    await store.record([result(one.id, one.attempt, status, **values) for one in deliveries])


async def end_episode(bench):
    """Have a task be answered with a limit, and wait for the end of the hold."""
    [one] = await take(bench.store, 1)
    await end(bench.store, one, status="limit")
    await bench.pass_time(SHORTER)


@pytest.fixture
async def first(bench):
    """A bench whose group is in its first episode, and has 30 tasks."""
    await add(bench.store, *(f"t{n:02}" for n in range(30)))
    await end_episode(bench)
    return bench


@pytest.fixture
async def third(first):
    """A bench whose group is in an episode with a budget of three."""
    for _ in range(3):
        [one] = await take(first.store, 1)
        await end(first.store, one)
    await end_episode(first)
    return first


async def test_in_the_first_episode_one_task_goes(first):
    assert await claim(first.store, 99) == ["t00"]
    assert await claim(first.store, 99) == []


async def test_no_task_goes_before_the_hold_ends(bench):
    await hold(bench.store, "t1", "t2", "t3")
    await bench.pass_time(SHORTER)
    assert await claim(bench.store, 5) == []
    await bench.pass_time(LONGER)
    assert await claim(bench.store, 5) == ["t1"]


async def test_upkeep_says_that_a_hold_has_ended(bench):
    await hold(bench.store, "t1")
    assert (await bench.store.upkeep()).next_in == pytest.approx(HOLD, abs=60)
    await bench.advance(LONGER)
    assert (await bench.store.upkeep()).ready


async def test_with_each_task_that_passes_one_more_runs_at_the_same_time(first):
    store = first.store
    running = await take(store)
    for expected in (2, 3, 4, 5):
        await end(store, running.pop(0))
        running += await take(store)
        assert len(running) == expected


@pytest.mark.parametrize("status", ["success", "warning", "error"])
async def test_a_task_passes_with_any_result_but_a_limit(first, status):
    await end(first.store, *await take(first.store), status=status)
    assert len(await take(first.store)) == 2


async def test_a_limit_of_the_episode_holds_the_group_again(first):
    await end(first.store, *await take(first.store), status="limit")
    assert await take(first.store) == []
    await first.pass_time(SHORTER)
    assert len(await take(first.store)) == 1


async def test_as_many_go_at_once_as_were_let_through_before_and_one_more(third):
    assert len(await take(third.store)) == 4


async def test_what_was_let_through_before_goes_in_several_claims(third):
    assert len(await take(third.store, 2)) == 2
    assert len(await take(third.store)) == 2
    assert await take(third.store) == []


async def test_two_more_go_for_each_task_that_passes_beyond_the_budget(third):
    store = third.store
    *some, last = await take(store)
    await end(store, *some)
    assert await take(store) == []
    await end(store, last)
    more = await take(store)
    assert len(more) == 2
    await end(store, *more)
    assert len(await take(store)) == 4


async def test_a_claim_takes_no_more_than_the_room_from_all_lanes(third):
    await add(third.store, "u1", "u2", priority=5)
    await add(third.store, "n1", "n2", provider="p", priority=2)
    assert len(await claim(third.store, 99)) == 4


async def test_all_providers_share_the_room(third):
    await add(third.store, "n1", provider="p2")
    given = [*await take(third.store, 2, "p2"), *await take(third.store), *await take(third.store)]
    assert len(given) == 4


async def test_an_absent_providers_task_takes_no_room(first):
    await add(first.store, "absent", provider="absent", priority=5)
    [one] = await take(first.store)
    await end(first.store, one)
    assert await claim(first.store, 1, "absent") == ["absent"]


async def test_a_task_submitted_in_an_episode_without_room_waits(first):
    await take(first.store)
    await add(first.store, "u1")
    await add(first.store, "u2", priority=5)
    assert await take(first.store) == []


async def test_a_group_without_room_keeps_no_other_from_going(first):
    await add(first.store, "action", action="other")
    await add(first.store, "account", account_key="b")
    assert len(await take(first.store)) == 3


async def test_a_lost_lease_makes_room_for_one(third):
    await take(third.store)
    await third.pass_time(LONGER)
    assert len(await take(third.store)) == 4
    assert await take(third.store) == []


async def test_a_returned_task_makes_room_for_one(third):
    first, *_ = await take(third.store)
    await third.store.give_back([(first.id, first.attempt)])
    assert len(await take(third.store)) == 1


async def test_a_cancelled_task_makes_room_for_one(third):
    first, *_ = await take(third.store)
    await third.store.cancel([first.id], "enough")
    assert len(await take(third.store)) == 1


async def test_a_task_that_dies_makes_room_for_one(bench):
    await add(bench.store, "t1", "t2", "t3", max_deliveries=1)
    await end_episode(bench)
    assert await claim(bench.store, 5) == ["t1"]
    await bench.pass_time(LONGER)
    assert await state(bench.store, "t1") == State.DEAD
    assert await claim(bench.store, 5) == ["t2"]


async def test_a_late_result_of_an_earlier_attempt_makes_room_for_one(first):
    store = first.store
    [lost] = await take(store)
    await first.pass_time(LONGER)
    [again] = await take(store)
    assert again.id == lost.id
    await end(store, lost)
    assert len(await take(store)) == 1
    assert await take(store) == []


async def test_a_result_of_an_attempt_before_a_retry_makes_room_for_one(first):
    store = first.store
    [lost] = await take(store)
    await first.pass_time(LONGER)
    [unended] = await take(store)
    await end(store, lost)
    await store.retry([lost.id])
    [again] = await take(store)
    assert again.id == lost.id
    await end(store, unended)
    assert len(await take(store)) == 1
    assert await take(store) == []


async def test_a_lower_number_that_was_let_through_counts_too(third):
    [one] = await take(third.store, 1)
    await end(third.store, one)
    await end_episode(third)
    assert len(await take(third.store)) == 2


async def test_a_task_that_still_runs_was_let_through(third):
    one, *_ = await take(third.store)
    await end(third.store, one, status="limit")
    await third.pass_time(SHORTER)
    assert len(await take(third.store)) == 4


async def test_a_second_limit_of_an_episode_prolongs_the_hold_and_lowers_the_budget(third):
    store = third.store
    one, two, three, _ = await take(store)
    await end(store, one)
    await end(store, two, status="limit")
    await third.advance(WAIT / 2)
    await end(store, three, status="limit")
    [scope] = await store.held()
    assert scope.held_until == pytest.approx(await now(store) + WAIT, abs=10)
    await third.pass_time(SHORTER)
    assert len(await take(store)) == 3


# Tasks that are slower than the limit.


async def test_more_go_if_no_limit_comes_for_as_long_as_the_hold_lasted(first):
    await take(first.store)
    await first.pass_time(WAIT / 2)
    assert await take(first.store) == []
    await first.pass_time(WAIT)
    assert len(await take(first.store)) == 2
    await first.pass_time(SHORTER)
    assert len(await take(first.store)) == 3


async def test_upkeep_says_when_more_go(first):
    await take(first.store)
    assert (await first.store.upkeep()).next_in == pytest.approx(WAIT, abs=10)
    await first.advance(SHORTER)
    assert (await first.store.upkeep()).ready


async def test_an_episode_with_room_goes_on(third):
    await take(third.store, 1)
    await third.pass_time(SHORTER)
    assert len(await take(third.store)) == 3


async def test_an_episode_has_a_shortest_time(first, monkeypatch):
    for module in (sqlite_lanes, postgres_holds):
        monkeypatch.setattr(module, "SHORTEST_EPISODE", 60.0)
    store = first.store
    [one] = await take(store)
    await store.record([result(one.id, one.attempt, "limit", wait_time=1e-6)])
    await first.advance(1)
    await store.upkeep()
    await take(store)
    assert (await store.upkeep()).next_in == pytest.approx(60, abs=30)


@pytest.fixture
async def lasting(third):
    """A bench as `third`, and a delivery of an episode that has ended."""
    store = third.store
    await end(store, *await take(store))
    one, other = await take(store)
    await store.renew("p", [(other.id, other.attempt)], 100 * LEASE)
    await end(store, one, status="limit")
    await third.pass_time(SHORTER)
    assert [scope.room for scope in await store.held()] == [6]
    return third, other


async def test_a_limit_of_an_earlier_episode_holds_the_group_and_lowers_the_budget(lasting):
    bench, other = lasting
    await take(bench.store, 3)
    await end(bench.store, other, status="limit")
    assert await take(bench.store) == []
    await bench.pass_time(SHORTER)
    assert len(await take(bench.store)) == 3


async def test_a_task_of_an_earlier_episode_does_not_pass_in_this_one(lasting):
    bench, other = lasting
    *some, _ = await take(bench.store)
    await end(bench.store, other, *some)
    assert await take(bench.store) == []


async def test_a_returned_task_of_an_earlier_episode_makes_no_room(lasting):
    bench, other = lasting
    await take(bench.store)
    await bench.store.give_back([(other.id, other.attempt)])
    assert await take(bench.store) == []


@pytest.fixture
async def early(bench):
    """A bench whose group is in its first episode, and a delivery from before the hold."""
    await add(bench.store, *(f"t{n}" for n in range(9)))
    [other] = await take(bench.store, 1)
    await bench.store.renew("p", [(other.id, other.attempt)], 100 * LEASE)
    await end_episode(bench)
    return bench, other


async def test_a_task_from_before_the_hold_does_not_pass(early):
    bench, other = early
    assert len(await take(bench.store)) == 1
    await end(bench.store, other)
    assert await take(bench.store) == []


async def test_a_result_after_a_limit_does_not_end_the_hold(early):
    bench, other = early
    [one] = await take(bench.store)
    await end(bench.store, other, status="limit")
    await end(bench.store, one)
    assert await take(bench.store) == []


async def test_a_group_of_which_no_task_waits_or_runs_is_forgotten(bench):
    store = bench.store
    await add(store, "t1")
    await end_episode(bench)
    await end(store, *await take(store))
    assert await store.held() == []
    await add(store, "t2", "t3", "t4")
    assert len(await take(store)) == 3


async def test_a_group_of_which_a_task_runs_is_not_forgotten(bench):
    store = bench.store
    await add(store, "t1")
    await end_episode(bench)
    await take(store)
    await add(store, "t2", "t3")
    assert await take(store) == []


async def test_a_group_of_which_another_task_runs_is_not_forgotten(bench):
    store = bench.store
    await add(store, "t1", "t2", "t3")
    await end_episode(bench)
    await end(store, *await take(store))
    one, _ = await take(store)
    await end(store, one)
    assert len(await store.held()) == 1


async def test_a_group_whose_last_task_is_returned_is_not_forgotten(bench):
    store = bench.store
    await add(store, "t1")
    await end_episode(bench)
    [one] = await take(store)
    await store.give_back([(one.id, one.attempt)])
    assert len(await store.held()) == 1


async def test_a_group_whose_last_task_is_lost_as_the_hold_ends_is_not_forgotten(bench):
    store = bench.store
    await add(store, "t1")
    await add(store, "t2", priority=5)
    other, _ = await take(store)
    await end(store, other, status="limit")
    await store.cancel([other.id], "enough")
    await bench.pass_time(LONGER)
    assert await state(store, "t1") == State.WAITING
    assert len(await store.held()) == 1


async def test_a_group_whose_tasks_were_cancelled_is_not_held_for_ever(bench):
    store = bench.store
    await hold(store, "t1")
    await store.cancel(["t1"], "enough")
    assert len(await store.held()) == 1
    await bench.pass_time(LONGER)
    assert await store.held() == []
    await add(store, "t2", "t3")
    assert await claim(store, 5) == ["t2", "t3"]


async def test_a_group_whose_waiting_tasks_are_cancelled_in_an_episode_is_forgotten(bench):
    store = bench.store
    await hold(store, "t1", "t2")
    await bench.pass_time(LONGER)
    await store.cancel(["t1", "t2"], "enough")
    assert await store.held() == []


async def test_a_group_whose_last_task_is_cancelled_in_an_episode_is_forgotten(bench):
    store = bench.store
    await hold(store, "t1")
    await bench.pass_time(LONGER)
    await take(store)
    await store.cancel(["t1"], "enough")
    assert await store.held() == []


async def test_a_group_whose_last_task_gets_a_late_result_is_forgotten(bench):
    store = bench.store
    await add(store, "t1")
    await end_episode(bench)
    [lost] = await take(store)
    await bench.pass_time(LONGER)
    await end(store, lost)
    assert await store.held() == []
    await add(store, "t2", "t3")
    assert await claim(store, 5) == ["t2", "t3"]


async def test_a_group_whose_last_task_dies_is_forgotten(bench):
    store = bench.store
    await add(store, "t1", max_deliveries=1)
    await end_episode(bench)
    await take(store)
    await bench.pass_time(LONGER)
    assert await store.held() == []


async def test_a_group_whose_last_task_is_too_late_to_start_is_forgotten(bench):
    store = bench.store
    await add(store, "t1")
    await add(store, "late", ttl=HOLD)
    await end_episode(bench)
    await store.cancel(["t1"], "enough")
    assert len(await store.held()) == 1
    await bench.pass_time(LONGER)
    assert await store.held() == []


async def leave_behind(bench):
    """Return a delivery of an episode of a group that was forgotten since."""
    store = bench.store
    await end(store, *await take(store))
    one, other = await take(store)
    await store.renew("p", [(other.id, other.attempt)], 100 * LEASE)
    await end(store, one, status="limit")
    await store.cancel([f"t{n:02}" for n in range(30) if f"t{n:02}" != other.id], "enough")
    await bench.pass_time(SHORTER)
    assert await store.held() == []
    return other


async def test_a_task_of_a_forgotten_episode_does_not_pass_in_another(first):
    other = await leave_behind(first)
    await add(first.store, "u1", "u2", "u3")
    await end_episode(first)
    assert len(await take(first.store)) == 1
    await end(first.store, other)
    assert await take(first.store) == []


async def test_a_hold_gets_longer(bench):
    store = bench.store
    await add(store, "t1", "t2")
    await claim(store, 2)
    await store.record([limit("t1")])
    await store.record([limit("t2", wait_time=10 * HOLD)])
    await bench.pass_time(LONGER)
    assert await claim(store) == []


async def test_a_hold_never_gets_shorter(bench):
    store = bench.store
    await add(store, "t1", "t2")
    await claim(store, 2)
    await store.record([limit("t1")])
    await store.record([limit("t2", wait_time=0)])
    await bench.pass_time(SHORTER)
    assert await claim(store) == []


async def test_the_group_is_over_its_limit_since_the_first_limit(bench):
    store = bench.store
    await hold(store, "t1")
    await bench.pass_time(LONGER)
    await claim(store)
    await store.record([limit("t1", 2)])
    [again] = await store.held()
    assert again.held_until - again.since == pytest.approx(LONGER + HOLD, abs=60)


async def test_a_held_group_is_listed_without_room(bench):
    await hold(bench.store, "t1")
    assert [scope.room for scope in await bench.store.held()] == [0]


async def test_a_group_in_an_episode_is_listed_with_its_room(third):
    await take(third.store, 1)
    [scope] = await third.store.held()
    assert (scope.room, scope.held_until < await now(third.store)) == (3, True)


async def test_groups_are_listed_by_how_long_they_are_over_their_limit(bench):
    for account in "cab":
        await hold(bench.store, account, account_key=account)
        await bench.advance(1)
    assert [scope.account_key for scope in await bench.store.held()] == ["c", "a", "b"]


# Time.


async def now(store):
    """Return the time by the store's clock."""
    await add(store, "now", action="now", account_key="now")
    at = (await store.get("now")).created_at
    await store.cancel(["now"], "")
    return at


async def test_a_task_waits_for_its_time(bench):
    store = bench.store
    await add(store, "t1", not_before=await now(store) + 600)
    assert await claim(store) == []
    assert (await store.upkeep()).next_in == pytest.approx(600, abs=60)
    await bench.advance(LONGER)
    assert (await store.upkeep()).ready
    assert await claim(store) == ["t1"]


async def test_a_task_whose_time_has_come_is_handed_out_at_once(store):
    await add(store, "t1", not_before=await now(store) - 600)
    assert await claim(store) == ["t1"]


async def test_a_task_whose_time_comes_goes_before_later_ones_of_its_lane(bench):
    store = bench.store
    await add(store, "t1", not_before=await now(store) + 600)
    await add(store, "t2")
    await bench.pass_time(LONGER)
    assert await claim(store, 2) == ["t1", "t2"]


async def test_a_task_that_waited_longer_than_its_ttl_is_dead(bench):
    store = bench.store
    await add(store, "t1", ttl=600)
    assert (await store.upkeep()).next_in == pytest.approx(600, abs=60)
    await bench.advance(LONGER)
    assert (await store.upkeep()).ended == ("t1",)
    task = await store.get("t1")
    assert (task.state, bool(task.reason), task.deliveries) == (State.DEAD, True, 0)
    assert await claim(store) == []


async def test_a_task_past_its_ttl_is_not_handed_out_before_upkeep_has_noticed(bench):
    store = bench.store
    await add(store, "t1", ttl=600)
    await add(store, "t2")
    await bench.advance(LONGER)
    assert await claim(store, 2) == ["t2"]
    assert (await store.upkeep()).ended == ("t1",)


async def test_a_task_within_its_ttl_is_handed_out(bench):
    await add(bench.store, "t1", ttl=600)
    await bench.pass_time(SHORTER)
    assert await claim(bench.store) == ["t1"]


async def test_a_ttl_does_not_end_a_task_that_was_begun(bench):
    store = bench.store
    await add(store, "t1", ttl=100)
    await claim(store)
    await bench.pass_time(LONGER)
    assert await claim(store) == ["t1"]


async def test_a_ttl_ends_a_task_that_still_waits_for_its_time(bench):
    store = bench.store
    await add(store, "t1", not_before=await now(store) + 10_000, ttl=600)
    await bench.pass_time(LONGER)
    assert await state(store, "t1") == State.DEAD


async def test_the_reasons_of_dead_tasks_differ(bench):
    store = bench.store
    await add(store, "late", ttl=600)
    await bench.pass_time(LONGER)
    await add(store, "lost", max_deliveries=1)
    await claim(store)
    await bench.pass_time(LONGER)
    assert (await store.get("late")).reason != (await store.get("lost")).reason


# Retrying and cancelling.


async def test_a_retried_task_waits_with_all_its_deliveries_left(bench):
    store = bench.store
    await add(store, "t1", max_deliveries=1)
    await claim(store)
    await bench.pass_time(LONGER)
    assert await store.retry(["t1"]) == ["t1"]
    task = await store.get("t1")
    assert (task.state, task.deliveries, task.attempt) == (State.WAITING, 0, 1)
    assert (task.reason, task.ended_at) == ("", None)
    [again] = await store.claim("p", 1, LEASE)
    assert (again.id, again.attempt) == ("t1", 2)


async def test_a_retried_task_has_no_result_but_its_attempt_has(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1", 1, "error", '{"n": 1}', message="no", error_type="E")])
    await store.retry(["t1"])
    task = await store.get("t1")
    assert (task.status, task.result, task.message, task.error_type) == ("", "", "", "")
    [attempt] = await store.attempts("t1")
    assert attempt.result == '{"n": 1}'


async def test_only_ended_tasks_are_retried(store):
    await add(store, "running", "waiting")
    await claim(store)
    assert await store.retry(["running", "waiting", "unknown"]) == []


async def test_a_retried_task_whose_ttl_had_passed_can_run(bench):
    store = bench.store
    await add(store, "t1", ttl=600)
    await bench.pass_time(LONGER)
    await store.retry(["t1"])
    await store.upkeep()
    assert await claim(store) == ["t1"]


async def test_a_retried_task_still_waits_for_its_time(store):
    await add(store, "t1", not_before=await now(store) + 600)
    await store.cancel(["t1"], "enough")
    await store.retry(["t1"])
    assert await claim(store) == []


async def test_a_retried_task_of_a_held_group_waits(store):
    await add(store, "t0")
    await claim(store)
    await store.record([result("t0")])
    await hold(store, "t1")
    await store.retry(["t0"])
    assert await claim(store) == []


async def test_a_waiting_task_is_cancelled(store):
    await add(store, "t1", "t2")
    assert await store.cancel(["t1"], "enough") == ["t1"]
    task = await store.get("t1")
    assert (task.state, task.reason, task.ended_at is None) == (State.CANCELLED, "enough", False)
    assert await claim(store, 5) == ["t2"]


async def test_a_running_task_is_cancelled(bench):
    store = bench.store
    await add(store, "t1")
    await claim(store)
    assert await store.cancel(["t1"], "enough") == ["t1"]
    assert await ends(store, "t1") == ["cancelled"]
    await bench.pass_time(LONGER)
    assert await state(store, "t1") == State.CANCELLED


async def test_ended_tasks_are_not_cancelled(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1")])
    assert await store.cancel(["t1", "unknown"], "enough") == []
    assert await state(store, "t1") == State.DONE


async def test_a_task_that_waits_for_its_time_is_cancelled(bench):
    store = bench.store
    await add(store, "t1", not_before=await now(store) + 600)
    await store.cancel(["t1"], "enough")
    await bench.pass_time(LONGER)
    assert await claim(store) == []


# Pauses.


@pytest.mark.parametrize(
    ("kind", "name"),
    [(PauseKind.ACTION, "act"), (PauseKind.ACCOUNT, "a"), (PauseKind.PROVIDER, "p")],
)
async def test_a_pause_holds_tasks_until_it_ends(store, kind, name):
    await add(store, "t1")
    await store.pause(Pause(kind, name))
    await add(store, "t2")
    assert await claim(store, 5) == []
    await store.resume(Pause(kind, name))
    assert await claim(store, 5) == ["t1", "t2"]


async def test_a_pause_holds_nothing_else(store):
    for kind, name in (
        (PauseKind.ACTION, "x"),
        (PauseKind.ACCOUNT, "x"),
        (PauseKind.PROVIDER, "x"),
    ):
        await store.pause(Pause(kind, name))
    await add(store, "t1")
    assert await claim(store) == ["t1"]


async def test_a_provider_that_is_paused_leaves_its_tasks_to_others(store):
    await add(store, "t1")
    await store.pause(Pause(PauseKind.PROVIDER, "p1"))
    assert await claim(store, 5, "p1") == []
    assert await claim(store, 5, "p2") == ["t1"]


async def test_a_task_under_two_pauses_waits_for_the_end_of_both(store):
    await add(store, "t1")
    await store.pause(Pause(PauseKind.ACTION, "act"))
    await store.pause(Pause(PauseKind.ACCOUNT, "a"))
    await store.resume(Pause(PauseKind.ACTION, "act"))
    assert await claim(store) == []
    await store.resume(Pause(PauseKind.ACCOUNT, "a"))
    assert await claim(store) == ["t1"]


async def test_a_pause_that_is_repeated_ends_at_once(store):
    pause = Pause(PauseKind.ACTION, "act")
    await add(store, "t1")
    await store.pause(pause)
    await store.pause(pause)
    assert [(one.kind, one.name) for one in await store.pauses()] == [(PauseKind.ACTION, "act")]
    await store.resume(pause)
    assert await store.pauses() == []
    assert await claim(store) == ["t1"]


async def test_a_pause_without_a_time_is_of_now(store):
    await store.pause(Pause(PauseKind.ACTION, "act"))
    [pause] = await store.pauses()
    assert pause.at == pytest.approx(await now(store), abs=60)


async def test_resuming_what_is_not_paused_does_nothing(store):
    await store.resume(Pause(PauseKind.ACTION, "act"))
    assert await store.pauses() == []


async def test_a_running_task_of_a_paused_action_can_end(store):
    await add(store, "t1")
    await claim(store)
    await store.pause(Pause(PauseKind.ACTION, "act"))
    assert await store.record([result("t1")]) == [Outcome.RECORDED]


async def test_a_hold_that_ends_does_not_end_a_pause(bench):
    store = bench.store
    await hold(store, "t1")
    await store.pause(Pause(PauseKind.ACTION, "act"))
    await bench.pass_time(LONGER)
    assert await claim(store) == []
    await store.resume(Pause(PauseKind.ACTION, "act"))
    assert await claim(store) == ["t1"]


async def test_a_pause_that_ends_does_not_end_a_hold(store):
    await hold(store, "t1")
    await store.pause(Pause(PauseKind.ACTION, "act"))
    await store.resume(Pause(PauseKind.ACTION, "act"))
    assert await claim(store) == []


# Reading.


async def test_an_unknown_task_is_none(store):
    assert await store.get("unknown") is None
    assert await store.attempts("unknown") == []


async def test_only_ended_tasks_are_among_the_ended(store):
    await add(store, "t1", "t2")
    await claim(store)
    await store.record([result("t1")])
    assert [task.id for task in await store.ended(["t1", "t2", "unknown"])] == ["t1"]


async def found(store, **conditions):
    return [task.id for task in await store.search(TaskFilter(**conditions))]


@pytest.fixture
async def filled(store):
    """A store with three tasks that differ in all that a search can look for."""
    await add(
        store,
        "t1",
        action="mail",
        payload=b'{"city": "Paris"}',
        fields='{"city": "Paris", "a \\"b\\".c": "1"}',
    )
    await claim(store, provider="p1")
    await store.record(
        [result("t1", 1, "error", '{"e": 1}', message="50% of it", error_type="ValueError")]
    )
    await add(store, "t2", account_key="b", payload=b'{"city": "Rome"}', fields='{"city": "Rome"}')
    await add(store, "t3", provider="p3", payload=b'{"under_score": 1}')
    return store


async def test_a_search_finds_the_latest_first(filled):
    assert await found(filled) == ["t3", "t2", "t1"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"ids": ("t1", "t3", "unknown")}, ["t3", "t1"]),
        ({"action": "mail"}, ["t1"]),
        ({"account_key": "b"}, ["t2"]),
        ({"provider": "p1"}, ["t1"]),
        ({"provider": "p3"}, ["t3"]),
        ({"states": (State.WAITING,)}, ["t3", "t2"]),
        ({"states": (State.FAILED, State.DEAD)}, ["t1"]),
        ({"error_type": "ValueError"}, ["t1"]),
        ({"text": "PARIS"}, ["t1"]),
        ({"text": "T2"}, ["t2"]),
        ({"text": "50% OF"}, ["t1"]),
        ({"text": "50%it"}, []),
        ({"text": "r_s"}, ["t3"]),
        ({"text": "o_e"}, []),
        ({"text": "\\"}, []),
        ({"fields": (("city", "Rome"),)}, ["t2"]),
        ({"fields": (("city", "rome"),)}, []),
        ({"fields": (('a "b".c', "1"), ("city", "Paris"))}, ["t1"]),
        ({"fields": (("city", "Paris"), ("country", "France"))}, []),
        ({"action": "act", "account_key": "a"}, ["t3"]),
    ],
)
async def test_a_search_finds_the_tasks_that_meet_all_conditions(filled, conditions, expected):
    assert await found(filled, **conditions) == expected


async def test_a_search_finds_tasks_by_the_beginning_of_an_accounts_key(store):
    for name, key in ("t1", "abc1"), ("t2", "bab"), ("t3", "ab"), ("t4", "ABC1"):
        await add(store, name, account_key=key)
    assert await found(store, account_prefix="ab") == ["t3", "t1"]
    assert await found(store, account_prefix="abc") == ["t1"]
    assert await found(store, account_prefix="abc12") == []


async def test_a_search_finds_tasks_by_the_time_of_submission(bench):
    store = bench.store
    for name in ("t1", "t2", "t3"):
        await add(store, name)
        await bench.advance(100)
    at = (await store.get("t2")).created_at
    assert await found(store, created_after=at) == ["t3", "t2"]
    assert await found(store, created_before=at) == ["t1"]


async def test_a_search_goes_page_by_page(store):
    await add(store, *(f"t{n}" for n in range(5)))
    pages, before = [], None
    while page := await store.search(TaskFilter(), before=before, limit=2):
        pages.append([task.id for task in page])
        before = page[-1].number
    assert pages == [["t4", "t3"], ["t2", "t1"], ["t0"]]


async def test_a_preview_has_the_beginning_of_each_payload_and_no_result(store):
    await add(store, "t1", payload=b"0123456789")
    await add(store, "t2", payload=b"\xff\x00", account=b'{"a": 1}')
    await claim(store)
    await store.record([result("t1", text='{"message": "done"}')])
    (whole,) = await store.search(TaskFilter(ids=("t1",)))
    assert (whole.payload, whole.result) == (b"0123456789", '{"message": "done"}')
    t2, t1 = await store.search(TaskFilter(action="act"), preview=4)
    assert t1 == attrs.evolve(whole, payload=b"0123", result="")
    assert (t2.payload, t2.account) == (b"\xff\x00", b'{"a": 1}')


async def test_tasks_are_counted(filled):
    assert await filled.count(TaskFilter()) == 3
    assert await filled.count(TaskFilter(account_key="a")) == 2
    assert await filled.count(TaskFilter(action="unknown")) == 0


async def test_tasks_are_counted_no_further_than_asked(filled):
    assert await filled.count(TaskFilter(), most=2) == 2


async def test_a_search_and_a_count_look_between_two_tasks(store):
    await add(store, *(f"t{n}" for n in range(5)))
    first, last = (await store.get("t0")).number, (await store.get("t4")).number
    between = await store.search(TaskFilter(), before=last, after=first)
    assert [task.id for task in between] == ["t3", "t2", "t1"]
    assert await store.count(TaskFilter(), before=last, after=first) == 3


@pytest.mark.parametrize(
    ("before", "most", "expected"),
    [(None, 0, "t4"), (None, 2, "t0"), (None, 3, None), ("t4", 1, "t0"), ("t4", 2, None)],
)
async def test_so_many_tasks_of_a_filter_are_before_its_end(store, before, most, expected):
    for n in range(5):
        await add(store, f"t{n}", action="even" if n % 2 == 0 else "odd")
    numbers = {name: (await store.get(name)).number for name in ("t0", "t2", "t4")}
    end = await store.find_end(TaskFilter(action="even"), before=numbers.get(before), most=most)
    assert end == numbers.get(expected)


async def test_tasks_are_counted_by_action_and_state(bench):
    store = bench.store
    await add(store, "w1", "w2", "done", "lost", action="x", max_deliveries=1)
    await add(store, "cancelled", action="y")
    await store.cancel(["w1", "cancelled"], "")
    await claim(store, 2)
    await store.record([result("w2", 1, "error"), result("done")])
    await claim(store)
    await bench.pass_time(LONGER)
    await add(store, "new", action="y")
    counts = {
        action: {state: n for state, n in states.items() if n}
        for action, states in (await store.counts()).items()
    }
    assert counts == {
        "x": {State.CANCELLED: 1, State.FAILED: 1, State.DONE: 1, State.DEAD: 1},
        "y": {State.CANCELLED: 1, State.WAITING: 1},
    }


# Removing.


async def end_all(store, *ids):
    await add(store, *ids)
    await claim(store, len(ids))
    await store.record([result(name) for name in ids])


async def prune(store, max_age=1e9, max_count=1_000_000):
    """Remove tasks until there is nothing to remove; return how many were removed."""
    removed = 0
    while some := await store.prune(max_age, max_count):
        removed += some
    return removed


async def test_old_ended_tasks_are_removed(bench):
    store = bench.store
    await end_all(store, "t1")
    await bench.pass_time(LONGER)
    await end_all(store, "t2")
    await add(store, "t3")
    assert await prune(store, max_age=600) == 1
    assert await found(store) == ["t3", "t2"]
    assert await store.attempts("t1") == []


async def test_the_oldest_ended_tasks_beyond_a_number_are_removed(bench):
    store = bench.store
    for name in ("t1", "t2", "t3"):
        await end_all(store, name)
        await bench.advance(10)
    await add(store, "waiting")
    assert await prune(store, max_count=1) == 2
    assert await found(store) == ["waiting", "t3"]


async def test_tasks_that_have_not_ended_are_never_removed(bench):
    store = bench.store
    await add(store, "running", "waiting")
    await claim(store)
    await bench.advance(1_000)
    assert await prune(store, max_age=0, max_count=0) == 0


async def test_a_removed_task_is_not_counted(bench):
    await end_all(bench.store, "t1")
    await bench.advance(10)
    await prune(bench.store, max_age=1)
    counts = await bench.store.counts()
    assert sum(sum(states.values()) for states in counts.values()) == 0


async def test_the_idempotency_key_of_a_removed_task_is_free(bench):
    store = bench.store
    await add(store, "t1", idempotency_key="once")
    await store.cancel(["t1"], "")
    await bench.advance(10)
    await prune(store, max_age=1)
    assert [one.is_new for one in await add(store, "t2", idempotency_key="once")] == [True]


async def test_a_task_is_not_given_the_number_of_a_removed_one(bench):
    store = bench.store
    await end_all(store, "t1")
    number = (await store.get("t1")).number
    await bench.advance(10)
    await prune(store, max_age=1)
    await add(store, "t2")
    assert (await store.get("t2")).number > number


# Tokens.


def token(name, **values):
    return StoredToken(
        **{"name": name, "role": "provider", "provider": "p", "digest": "d" + name} | values
    )


async def test_tokens_are_listed_by_name(store):
    assert await store.add_token(token("b"))
    assert await store.add_token(token("a", role="admin", provider="", created_at=7.0))
    assert await store.tokens() == [
        token("a", role="admin", provider="", created_at=7.0),
        token("b"),
    ]


async def test_a_name_has_one_token(store):
    await store.add_token(token("a"))
    assert not await store.add_token(token("a", digest="other"))
    assert await store.tokens() == [token("a")]


async def test_a_token_is_removed(store):
    await store.add_token(token("a"))
    assert await store.remove_token("a")
    assert not await store.remove_token("a")
    assert await store.tokens() == []


# Durability.


@pytest.fixture
def durable(bench):
    if not bench.is_durable:
        pytest.skip("the store is not durable")
    return bench


async def test_everything_is_there_after_the_store_was_closed(durable):
    store = durable.store
    await add(store, "t1", "t2", "t3", "t4")
    await claim(store, 2)
    await store.record([result("t1")])
    await store.cancel(["t4"], "enough")
    await store.pause(Pause(PauseKind.ACTION, "other"))
    await store.add_token(token("a"))
    tasks = await store.search(TaskFilter())
    attempts = await store.attempts("t1")
    counts = await store.counts()
    await durable.reopen()
    store = durable.store
    assert await store.search(TaskFilter()) == tasks
    assert await store.attempts("t1") == attempts
    assert await store.counts() == counts
    assert [one.name for one in await store.pauses()] == ["other"]
    assert await store.tokens() == [token("a")]


async def test_a_hold_lasts_beyond_the_end_of_the_process(durable):
    await hold(durable.store, "t1")
    scopes = await durable.store.held()
    await durable.reopen()
    assert await durable.store.held() == scopes
    assert await claim(durable.store) == []
    await durable.pass_time(LONGER)
    assert await claim(durable.store) == ["t1"]


async def test_an_episode_lasts_beyond_the_end_of_the_process(durable):
    await add(durable.store, *(f"t{n:02}" for n in range(9)))
    await end_episode(durable)
    await end(durable.store, *await take(durable.store))
    await take(durable.store, 1)
    await durable.reopen()
    assert len(await take(durable.store)) == 1


async def test_accounts_take_turns_beyond_the_end_of_the_process(durable):
    await add(durable.store, "a1", "a2")
    await add(durable.store, "b1", "b2", account_key="b")
    assert await claim(durable.store) == ["a1"]
    await durable.reopen()
    assert await claim(durable.store, 2) == ["b1", "a2"]


async def test_a_running_task_keeps_its_lease_beyond_the_end_of_the_process(durable):
    await add(durable.store, "t1")
    await claim(durable.store)
    await durable.reopen()
    assert await claim(durable.store) == []
    await durable.pass_time(LONGER)
    assert await claim(durable.store) == ["t1"]


# How tasks have ended.


async def test_the_latest_ends_come_first(bench):
    store = bench.store
    await add(store, "t1", "t2", "t3", "t4", "t5")
    assert await claim(store, 3) == ["t1", "t2", "t3"]
    await store.record([result("t2", status="error", error_type="KeyError")])
    await bench.advance(10.0)
    await store.record([result("t1")])
    await bench.advance(10.0)
    await store.cancel(["t4"], "no longer needed")
    endings = await store.endings(10)
    assert [(one.state, one.error_type) for one in endings] == [
        (State.CANCELLED, ""),
        (State.DONE, ""),
        (State.FAILED, "KeyError"),
    ]
    assert endings == (await store.endings(3))
    assert [one.state for one in await store.endings(1)] == [State.CANCELLED]


async def test_an_end_has_its_action_and_times(store):
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1")])
    await add(store, "t2")
    await store.cancel(["t2"], "no longer needed")
    task = await store.get("t1")
    never, ran = await store.endings(10)
    assert (ran.action, ran.started_at, ran.ended_at) == (
        task.action,
        task.started_at,
        task.ended_at,
    )
    assert never.started_at is None
