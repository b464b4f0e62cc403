"""What only the PostgreSQL store does: several hubs, lost connections, migrations, signals."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib
import itertools
import sys

import attrs
import psycopg
import pytest
from support.postgres_databases import new_database, shared_server
from support.postgres_servers import PostgresServer
from support.servers import refusing_address
from support.task_stores import new_task
from support.waiting import TIMEOUT

from arbprov.errors import ConfigurationError, HubError
from arbprov.localhub.stores import postgres_submit
from arbprov.localhub.stores.postgres import PostgresStore
from arbprov.localhub.stores.postgres_claim import claim_tasks
from arbprov.localhub.stores.postgres_connections import find_name
from arbprov.localhub.stores.postgres_schema import MIGRATIONS, migrate
from arbprov.localhub.stores.postgres_submit import submit
from arbprov.localhub.tasks import Outcome, Pause, PauseKind, ReceivedResult, State, TaskFilter

pytestmark = pytest.mark.anyio

LEASE = 600.0


@pytest.fixture
def database():
    return new_database()


@pytest.fixture
async def open_store(anyio_backend):
    """Return a function that opens stores, which are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_store(database, on_change=lambda: None):
            store = PostgresStore(database.url)
            await store.open(on_change)
            stack.push_async_callback(store.close)
            return store

        yield open_store


@pytest.fixture
async def store(open_store, database):
    return await open_store(database)


@contextlib.asynccontextmanager
async def transaction(database):
    """Yield a connection in a transaction, which is committed at the end."""
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        yield connection


async def add(store, *ids, **values):
    return await store.submit([new_task(task_id, **values) for task_id in ids])


async def claim(store, count=1, provider="p"):
    return [task.id for task in await store.claim(provider, count, LEASE)]


async def until(condition):
    """Wait until a coroutine function returns something true; return that."""

    async def wait():
        while not (outcome := await condition()):
            await asyncio.sleep(0.01)
        return outcome

    return await asyncio.wait_for(wait(), TIMEOUT)


def result(id, attempt=1, status="success", text="{}", **values):
    return ReceivedResult(id=id, attempt=attempt, status=status, result=text, **values)


# Several hubs.


async def work_off(store, expected, handed_out):
    """Claim and record until all tasks have ended."""
    while True:
        deliveries = await store.claim("p", 7, LEASE)
        handed_out.update(delivery.id for delivery in deliveries)
        results = [result(delivery.id, delivery.attempt) for delivery in deliveries]
        assert set(await store.record(results)) <= {Outcome.RECORDED}
        if not deliveries and (await store.counts()).get("act", {}).get(State.DONE) == expected:
            return


@pytest.mark.parametrize("accounts", [1, 40])
async def test_two_hubs_hand_out_each_task_once(open_store, database, accounts):
    stores = [await open_store(database) for _ in range(2)]
    handed_out = collections.Counter()

    async def submit_all(store, name):
        for start in range(0, 1_000, 50):
            await store.submit(
                [
                    new_task(f"{name}{n}", account_key=str(n % accounts))
                    for n in range(start, start + 50)
                ]
            )

    await asyncio.wait_for(
        asyncio.gather(
            *(submit_all(store, name) for store, name in zip(stores, "ab", strict=True)),
            *(work_off(store, 2_000, handed_out) for store in stores * 2),
        ),
        TIMEOUT,
    )
    assert len(handed_out) == 2_000
    assert set(handed_out.values()) == {1}


async def test_several_hubs_do_what_is_due_once(open_store, database):
    stores = [await open_store(database) for _ in range(3)]
    await add(stores[0], *(f"t{n}" for n in range(50)), ttl=0)
    dues = await asyncio.gather(*(store.upkeep() for store in stores * 3))
    ended = [task_id for due in dues for task_id in due.ended]
    assert sorted(ended) == sorted(f"t{n}" for n in range(50))


async def test_several_hubs_give_one_task_of_a_group_after_its_hold(open_store):
    database = new_database(clock=True)
    stores = [await open_store(database) for _ in range(3)]
    for priority in range(5):
        await add(stores[0], f"t{priority}", priority=priority)
    await claim(stores[0])
    await stores[0].record([result("t4", status="limit", wait_time=60)])
    await database.advance(100)
    await stores[0].upkeep()
    given = await asyncio.gather(*(claim(store, 5) for store in stores * 3))
    assert sum(map(len, given)) == 1


@pytest.fixture
async def throttled(open_store):
    """Stores of one database, whose group has five lanes and a room of seven."""
    database = new_database(clock=True)
    stores = [await open_store(database) for _ in range(3)]
    for priority in range(5):
        await add(stores[0], *(f"t{priority}{n}" for n in range(5)), priority=priority)
    [first] = await claim(stores[0])
    await stores[0].record([result(first, status="limit", wait_time=60)])
    await database.advance(100)
    await stores[0].upkeep()
    database.run("UPDATE arbprov.holds SET budget = 7")
    return stores, database


async def test_several_hubs_hand_out_no_more_of_a_group_than_its_room(throttled):
    stores, _ = throttled
    given = await asyncio.gather(*(claim(store, 2) for store in stores * 3))
    # Claims that found the group locked may have come back with nothing.
    rest = await claim(stores[0], 9)
    assert len({*itertools.chain(*given, rest)}) == sum(map(len, given)) + len(rest) == 8
    assert await claim(stores[1], 9) == []


async def test_several_hubs_count_what_passes(throttled):
    stores, database = throttled
    given = await stores[0].claim("p", 9, LEASE)
    await asyncio.gather(
        *(
            stores[n % 3].record([result(one.id, one.attempt, text=str(n))])
            for n, one in enumerate(given)
        )
    )
    assert database.run("SELECT taken, passed, room FROM arbprov.holds") == [(8, 8, 2)]


async def test_a_claim_that_uses_up_the_room_sets_all_lanes_of_the_group_aside(throttled):
    stores, database = throttled
    assert len(await claim(stores[0], 8)) == 8
    assert database.run("SELECT DISTINCT blocked FROM arbprov.lanes") == [(True,)]


async def test_a_task_that_passes_brings_the_lanes_of_its_group_back(throttled):
    stores, database = throttled
    given = await stores[0].claim("p", 8, LEASE)
    await stores[0].record([result(one.id, one.attempt) for one in given])
    assert database.run("SELECT DISTINCT blocked FROM arbprov.lanes") == [(False,)]


async def test_a_task_that_is_cancelled_while_it_is_claimed_takes_no_room(throttled):
    stores, database = throttled
    async with transaction(database) as connection:
        query = "SELECT FROM arbprov.tasks WHERE id IN ('t41', 't42') FOR UPDATE"
        await connection.execute(query)
        assert len(await claim(stores[0], 8)) == 6
    assert len(await claim(stores[0], 8)) == 2


async def test_two_hubs_that_submit_the_same_keys_add_them_once(open_store, database):
    stores = [await open_store(database) for _ in range(2)]
    keys = [f"k{n}" for n in range(100)]
    tasks = [
        [new_task(f"{name}{key}", idempotency_key=key) for key in order]
        for name, order in (("a", keys), ("b", keys[::-1]))
    ]
    first, second = await asyncio.wait_for(
        asyncio.gather(*(store.submit(some) for store, some in zip(stores, tasks, strict=True))),
        TIMEOUT,
    )
    assert sum(one.is_new for one in first + second) == 100
    assert [one.id for one in first] == [one.id for one in second[::-1]]


async def test_a_task_submitted_while_its_lane_is_emptied_is_not_forgotten(store, database):
    await add(store, "t1")
    async with transaction(database) as connection:
        await submit(connection, [new_task("t2")])
        # It takes the last task that it sees; the lane must stay.
        assert await asyncio.wait_for(claim(store, 5), TIMEOUT) == ["t1"]
    assert await claim(store, 5) == ["t2"]


async def test_two_submissions_that_add_the_same_lane_both_keep_it(store, database):
    async with transaction(database) as second:
        async with transaction(database) as first:
            await submit(first, [new_task("t1")])
            submission = asyncio.create_task(submit(second, [new_task("t2")]))
            await until(lambda: waits_for_lock(store))
        await submission
        given = await claim(store, 5)
    given += await claim(store, 5)
    assert sorted(given) == ["t1", "t2"]


async def test_a_task_whose_lane_is_removed_while_it_is_submitted_gets_a_new_lane(store, database):
    await add(store, "t1")
    async with transaction(database) as connection:
        await claim_tasks(connection, "p", 5, 5, LEASE)
        submission = asyncio.create_task(add(store, "t2"))
        await until(lambda: waits_for_lock(store))
    await submission
    assert await claim(store, 5) == ["t2"]


async def waits_for_lock(store):
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    return (await store._connections.read(query))[0][0]


async def test_a_claim_does_not_wait_for_a_submission_to_the_same_lane(store, database):
    await add(store, "t1", "t2")
    async with transaction(database) as connection:
        await submit(connection, [new_task("t3")])
        assert await asyncio.wait_for(claim(store), TIMEOUT) == ["t1"]


async def test_a_submission_does_not_wait_for_another_to_the_same_lane(store, database):
    await add(store, "t1")
    async with transaction(database) as connection:
        await submit(connection, [new_task("t2")])
        await asyncio.wait_for(add(store, "t3"), TIMEOUT)


async def test_a_claim_leaves_lanes_that_another_hub_has_locked(store, database):
    await add(store, "t1")
    async with transaction(database) as connection:
        await claim_tasks(connection, "p", 1, 1, LEASE)
        await add(store, "t2", account_key="b")
        assert await claim(store, 5) == ["t2"]
        assert await claim(store, 5) == []


async def test_a_claim_looks_again_for_lanes_that_another_hub_had_locked(
    store, database, monkeypatch
):
    await add(store, "t1", "t2")
    async with transaction(database) as connection:
        await claim_tasks(connection, "p", 1, 1, LEASE)

        async def sleep(seconds):
            await connection.commit()

        monkeypatch.setattr("arbprov.localhub.stores.postgres.asyncio.sleep", sleep)
        assert await claim(store) == ["t2"]


async def test_a_claim_leaves_a_group_whose_hold_is_just_changed(open_store):
    database = new_database(clock=True)
    store = await open_store(database)
    await add(store, "t1")
    await claim(store)
    await store.record([result("t1", status="limit", wait_time=60)])
    await database.advance(100)
    await store.upkeep()
    async with transaction(database) as connection:
        await connection.execute("SELECT * FROM arbprov.holds FOR UPDATE")
        assert await claim(store) == []
    assert await claim(store) == ["t1"]


async def test_a_hold_counts_for_a_lane_that_was_added_beside_it(store, database):
    await add(store, "t1")
    await claim(store)
    async with transaction(database) as connection:
        await submit(connection, [new_task("t2", priority=1)])
        await store.record([result("t1", status="limit", wait_time=60)])
    assert await claim(store, 5) == []
    assert database.run("SELECT DISTINCT blocked FROM arbprov.lanes") == [(True,)]


async def test_a_lane_added_during_a_pause_is_set_aside_until_its_end(store, database):
    await store.pause(Pause(PauseKind.ACTION, "act"))
    await add(store, "t1")
    await store.upkeep()
    assert database.run("SELECT paused FROM arbprov.lanes") == [(True,)]
    await store.resume(Pause(PauseKind.ACTION, "act"))
    assert await claim(store) == ["t1"]


async def test_a_task_that_is_just_cancelled_is_not_handed_out(store, database):
    await add(store, "t1", "t2")
    async with transaction(database) as connection:
        await connection.execute("SELECT * FROM arbprov.tasks WHERE id = 't1' FOR UPDATE")
        assert await claim(store, 2) == ["t2"]
    assert await claim(store, 2) == ["t1"]


async def test_one_hub_at_a_time_removes_old_tasks(store, database):
    await add(store, "t1")
    await store.cancel(["t1"], "")
    async with transaction(database) as connection:
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('arbprov.prune', 0))"
        )
        assert await store.prune(1e9, 0) == 0
    assert await store.prune(1e9, 0) == 1


async def test_lanes_of_cancelled_tasks_are_removed(store, database):
    await add(store, "t1", provider="absent")
    await add(store, "t2", provider="other")
    await store.cancel(["t1"], "")
    await store.prune(1e9, 1_000)
    assert database.run("SELECT provider FROM arbprov.lanes") == [("other",)]


async def test_an_account_with_many_actions_does_not_fill_a_whole_batch(store):
    await store.submit([new_task(f"a{n}", action=f"act{n}") for n in range(50)])
    await store.submit([new_task(f"b{n}", account_key="b") for n in range(50)])
    given = await claim(store, 10)
    assert sum(name.startswith("b") for name in given) == 5


async def test_tasks_past_their_ttl_in_many_lanes_do_not_hide_others(store):
    await store.submit([new_task(f"a{n}", account_key=str(n), ttl=0) for n in range(70)])
    await add(store, "t1", account_key="z")
    assert await claim(store) == ["t1"]


# Connections.


async def test_a_deadlock_is_tried_again(store):
    runs = []

    async def work(connection):
        runs.append(1)
        if len(runs) < 3:
            raise psycopg.errors.DeadlockDetected
        return "done"

    assert await store._connections.transact(work) == "done"


async def test_changes_of_counts_are_summed_up(store, database):
    database.run(
        "INSERT INTO arbprov.counts "
        "SELECT 'act', 'done', 1 FROM generate_series(1, 3000) "
        "UNION ALL SELECT 'act', 'waiting', n % 2 * 2 - 1 FROM generate_series(1, 100) AS n"
    )
    await store.upkeep()
    assert await store.counts() == {"act": {State.DONE: 3_000}}
    assert database.run("SELECT * FROM arbprov.counts") == [("act", "done", 3_000)]


async def test_lost_connections_are_replaced_once_for_several_calls(store, monkeypatch):
    checks = []

    async def check():
        checks.append(1)
        await asyncio.Event().wait()

    async def work(connection):
        raise psycopg.OperationalError

    monkeypatch.setattr(store._connections._pool, "check", check)
    for _ in range(2):
        with pytest.raises(HubError):
            await store._connections.transact(work)
        await asyncio.sleep(0)
    assert checks == [1]


async def test_endless_deadlocks_are_an_error_of_the_hub(store):
    async def work(connection):
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    with pytest.raises(HubError, match="deadlock detected"):
        await store._connections.transact(work)


async def test_a_lost_connection_is_an_error_of_the_hub_and_later_calls_work(store, database):
    await add(store, "t1")

    async def fails():
        cut_all(database)
        return await error_of(add(store, "t2"))

    assert store.name in await until(fails)
    await until(lambda: works(store))
    assert await claim(store) == ["t1"]


async def error_of(call):
    """Return the message of the error of the hub that a call raises; empty if it raises none."""
    try:
        await call
    except HubError as error:
        return str(error)
    return ""


def cut_all(database):
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def works(store):
    return not await error_of(store.record([result("unknown")]))


async def test_reading_over_a_lost_connection_is_an_error_of_the_hub(store, database):
    async def fails():
        cut_all(database)
        return await error_of(store.get("t1"))

    assert store.name in await until(fails)


async def test_a_claim_that_is_cut_off_hands_out_what_it_has(store, monkeypatch):
    await store.submit([new_task(f"a{n}", action=f"act{n}") for n in range(50)])
    transact = store._connections.transact
    runs = []

    async def fail_later(work):
        runs.append(work)
        if len(runs) > 1:
            raise HubError("lost")
        return await transact(work)

    monkeypatch.setattr(store._connections, "transact", fail_later)
    assert len(await claim(store, 10)) == 1
    with pytest.raises(HubError):
        await claim(store, 10)


@pytest.fixture
def server():
    server = PostgresServer()
    yield server
    server.close()


async def test_nothing_is_lost_when_the_server_restarts(open_store, server):
    database = new_database(server)
    store = await open_store(database)
    await add(store, *(f"t{n}" for n in range(10)))
    given = await claim(store, 5)
    server.stop()
    with pytest.raises(HubError):
        for _ in range(10):
            await claim(store, 5)
    server.start()
    await until(lambda: works(store))
    assert set(await store.record([result(name) for name in given])) == {Outcome.RECORDED}
    assert await claim(store, 10) == [f"t{n}" for n in range(5, 10)]


async def test_a_result_that_is_sent_again_after_a_lost_commit_is_repeated(store):
    await add(store, "t1")
    await claim(store)
    assert await store.record([result("t1")]) == [Outcome.RECORDED]
    assert await store.record([result("t1")]) == [Outcome.REPEATED]


async def test_statements_are_not_prepared_if_the_url_says_so(open_store, database):
    async def count_prepared(database):
        store = await open_store(database)
        # More than it takes for each connection of the pool.
        for _ in range(40):
            await add(store, "t1")
        query = "SELECT count(*) FROM pg_prepared_statements"
        return (await store._connections.read(query))[0][0]

    assert await count_prepared(database) > 0
    without = attrs.evolve(database, url=f"{database.url}&prepared_statements=off")
    assert await count_prepared(without) == 0


# Notifications.


class Changes:
    """Counts the calls of `on_change`."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1

    async def has_any(self):
        return self.count


async def test_a_hub_hears_of_the_changes_of_another(open_store, database):
    changes = Changes()
    await open_store(database, changes)
    other = await open_store(database)
    await until(lambda: are_listening(database, 2))
    await add(other, "t1")
    await until(changes.has_any)


async def are_listening(database, count):
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    return database.run(query) == [(count,)]


async def test_a_hub_does_not_hear_of_its_own_changes(open_store, database):
    changes, heard = Changes(), Changes()
    store = await open_store(database, changes)
    await open_store(database, heard)
    await until(lambda: are_listening(database, 2))
    await add(store, "t1")
    await until(heard.has_any)
    assert changes.count == 0


async def test_the_listening_connection_comes_back(open_store, database):
    changes = Changes()
    store = await open_store(database, changes)
    other = await open_store(database)
    await until(lambda: are_listening(database, 2))
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    # A notification may have been lost in the meantime.
    await until(changes.has_any)
    await add(other, "t1")
    assert await claim(store) == ["t1"]
    before = changes.count
    await until(lambda: are_listening(database, 2))
    await add(other, "t2")

    async def has_more():
        return changes.count > before

    await until(has_more)


async def test_the_notifying_connection_comes_back(open_store, database):
    changes = Changes()
    await open_store(database, changes)
    other = await open_store(database)
    await until(lambda: are_listening(database, 2))
    await add(other, "t1")
    await until(changes.has_any)
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE '%pg_notify%' "
        "AND pid <> pg_backend_pid()"
    )
    before = changes.count
    await add(other, "t2")

    async def has_more():
        return changes.count > before

    await until(has_more)


async def test_few_notifications_tell_of_many_changes(store, database):
    connect = psycopg.AsyncConnection.connect(database.url, autocommit=True)
    async with await connect as listener:
        await listener.execute("LISTEN arbprov")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(add(store, f"t{n}") for n in range(1_000)))
        await asyncio.sleep(0.1)
        seconds = loop.time() - began
        notifications = [one async for one in listener.notifies(timeout=0)]
        # Each at least 20 ms after the one before.
        assert 1 <= len(notifications) <= seconds / 0.02 + 1
        # All of them by a connection that does nothing else.
        assert len({one.pid for one in notifications}) == 1
        query = "SELECT query FROM pg_stat_activity WHERE pid = %s"
        [(last,)] = await (await listener.execute(query, [notifications[0].pid])).fetchall()
        assert "pg_notify" in last


# Opening.


async def test_hubs_that_start_at_once_migrate_once(open_store, database):
    stores = await asyncio.gather(*(open_store(database) for _ in range(4)))
    assert database.run("SELECT version FROM arbprov.version") == [(len(MIGRATIONS),)]
    await add(stores[0], "t1")
    assert await claim(stores[3]) == ["t1"]


async def test_a_schema_that_an_administrator_has_made_is_used(open_store, database):
    database.run("CREATE SCHEMA arbprov")
    await add(await open_store(database), "t1")


async def test_a_database_of_a_newer_version_is_refused(store, database):
    database.run("UPDATE arbprov.version SET version = 99")
    with pytest.raises(ConfigurationError, match="has version 99, but this arbprov uses version"):
        await PostgresStore(database.url).open(lambda: None)


async def test_an_older_database_is_brought_to_this_version(store, database, monkeypatch):
    await add(store, "t1")
    more = (*MIGRATIONS, "ALTER TABLE arbprov.tasks ADD note text")
    monkeypatch.setattr("arbprov.localhub.stores.postgres_schema.MIGRATIONS", more)
    newer = PostgresStore(database.url)
    await newer.open(lambda: None)
    await newer.close()
    assert database.run("SELECT id, note FROM arbprov.tasks") == [("t1", None)]
    assert database.run("SELECT version FROM arbprov.version") == [(len(more),)]


async def test_groups_over_a_limit_stay_so_in_a_database_of_version_1(database, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("arbprov.localhub.stores.postgres_schema.MIGRATIONS", MIGRATIONS[:1])
        older = PostgresStore(database.url)
        await older.open(lambda: None)
        await older.close()
    database.run(
        "INSERT INTO arbprov.holds "
        "(action, account_key, held, held_until, limited_by, since, budget) VALUES "
        "('held', 'a', true, 'infinity', '5/minute', 'epoch', 3), "
        "('goes', 'a', false, 'epoch', '5/minute', 'epoch', 3)"
    )
    newer = PostgresStore(database.url)
    await newer.open(lambda: None)
    for action in ("held", "goes"):
        await newer.submit([new_task(f"{action}{n}", action=action) for n in range(9)])
    await newer.upkeep()
    assert len(await newer.claim("p", 99, LEASE)) == 4
    await newer.close()


async def test_a_migration_that_fails_changes_nothing(database, monkeypatch):
    more = (*MIGRATIONS, "SELECT 1 / 0")
    monkeypatch.setattr("arbprov.localhub.stores.postgres_schema.MIGRATIONS", more)
    with pytest.raises(ConfigurationError, match="division by zero"):
        await PostgresStore(database.url).open(lambda: None)
    assert database.run("SELECT to_regnamespace('arbprov') IS NULL") == [(True,)]


async def test_an_old_server_is_refused():
    class Connection:
        class info:
            server_version = 13_0012

    with pytest.raises(ConfigurationError, match="runs PostgreSQL 13, but a hub needs 14"):
        await migrate(Connection(), "postgresql://db/hub")


async def test_a_database_without_utf8_is_refused(anyio_backend):
    with shared_server().client() as client:
        client.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    url = shared_server().url.replace("@/postgres", "@/ascii")
    with pytest.raises(ConfigurationError, match="has the encoding SQL_ASCII"):
        await PostgresStore(url).open(lambda: None)


async def test_a_server_that_only_reads_is_refused(database):
    database.run(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with pytest.raises(ConfigurationError, match="is read-only; name the primary server"):
        await PostgresStore(database.url).open(lambda: None)


async def test_a_server_that_becomes_a_standby_is_an_error_of_the_hub(store, database):
    database.run(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    # Once: the pool waits longer before each new connection.
    cut_all(database)

    async def fails():
        return "read-only" in await error_of(add(store, "t1"))

    await until(fails)


SECRET = "s3cr%40t"


async def test_a_server_that_does_not_answer_is_named_without_the_password(anyio_backend):
    with refusing_address() as address:
        store = PostgresStore(f"postgresql://hub:{SECRET}@{address}/tasks")
        with pytest.raises(ConfigurationError, match=rf"postgresql://{address}/tasks") as raised:
            await store.open(lambda: None)
    assert "s3cr" not in str(raised.value)
    assert raised.value.__suppress_context__


async def test_a_database_that_does_not_exist_is_named(anyio_backend):
    url = shared_server().url.replace("@/postgres", "@/missing")
    with pytest.raises(ConfigurationError, match='database "missing" does not exist'):
        await PostgresStore(url).open(lambda: None)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://hub:{SECRET}@db:port/tasks",
        f"postgresql://hub:{SECRET}%zz@db/tasks",
        f"postgresql://hub:{SECRET}@db/tasks?unknown=1",
        f"postgresql://hub:{SECRET}@db/tasks?prepared_statements=maybe",
        f"postgresql://hub:{SECRET}/x@db:port/tasks",
    ],
)
def test_a_url_that_is_not_valid_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError) as raised:
        PostgresStore(url)
    assert "s3cr" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://hub:secret@db:5433/tasks?sslmode=require", "postgresql://db:5433/tasks"),
        ("postgres://db1,db2:5433/tasks", "postgresql://db1,db2:5433/tasks"),
        ("postgresql://hub:secret@[::1]:5432/tasks", "postgresql://[::1]:5432/tasks"),
        ("postgresql://hub:a@b/c?d@db/tasks", "postgresql://db/tasks"),
        ("postgresql://hub:secret", "postgresql://"),
        ("postgresql:///tasks?password=secret", "postgresql:///tasks"),
    ],
)
def test_a_stores_name_has_no_password(url, name):
    assert find_name(url) == name


def test_a_store_does_not_show_its_password():
    store = PostgresStore("postgresql://hub:secret@db/tasks")
    assert "secret" not in repr(store) + repr(vars(store))


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    for name in list(sys.modules):
        if name.startswith("arbprov.localhub.stores.postgres"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'arbprov\[postgres\]'"):
        importlib.import_module("arbprov.localhub.stores.postgres")


# Odd texts.


async def test_characters_that_postgresql_cannot_keep_are_replaced(store):
    odd = "a\0b\ud800"
    await add(store, "t1", action=odd, fields='{"k": "a\\u0000b\\ud800"}')
    [delivery] = await store.claim("p", 1, LEASE)
    assert delivery.action == "a\N{SYMBOL FOR NULL}b\\ud800"
    await store.record([result("t1", text="{}", message=odd)])
    assert (await store.get("t1")).message == delivery.action
    where = TaskFilter(fields=(("k", "a\0b\ud800"),))
    assert [task.id for task in await store.search(where)] == ["t1"]


async def test_a_payload_that_is_not_text_is_searched(store):
    await add(store, "t1", payload=b"\xff\0needle")
    assert [task.id for task in await store.search(TaskFilter(text="NEEDLE"))] == ["t1"]


async def test_times_beyond_all_dates_are_limited(store):
    huge = 1e300
    await add(store, "t1", not_before=huge, ttl=huge)
    await add(store, "t2", not_before=-huge)
    assert [task.id for task in await store.claim("p", 5, huge)] == ["t2"]
    await store.record([result("t2", status="limit", wait_time=huge)])
    assert len(await store.held()) == 1
    assert await store.prune(huge, 100) == 0


async def test_a_task_that_was_removed_while_it_was_submitted_is_submitted_again(
    store, monkeypatch
):
    await add(store, "t1")
    find = postgres_submit._find_accepted

    async def miss_once(connection, tasks, added):
        monkeypatch.setattr(postgres_submit, "_find_accepted", find)
        return await find(connection, [new_task("removed")], added)

    monkeypatch.setattr(postgres_submit, "_find_accepted", miss_once)
    [accepted] = await add(store, "t1")
    assert (accepted.id, accepted.is_new) == ("t1", False)
