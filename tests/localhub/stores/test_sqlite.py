"""What only the SQLite store does: its file, its transactions, and what a claim costs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
from support.task_stores import BEGIN, FakeTime, new_task
from support.waiting import TIMEOUT

from arbprov.errors import ConfigurationError, HubError
from arbprov.localhub.stores import sqlite_files, sqlite_schema, sqlite_tasks, sqlite_writer
from arbprov.localhub.stores.sqlite import SqliteStore
from arbprov.localhub.stores.sqlite_files import open_memory
from arbprov.localhub.stores.sqlite_lanes import Lanes
from arbprov.localhub.stores.sqlite_schema import APPLICATION, VERSION, migrate
from arbprov.localhub.stores.sqlite_tasks import Tasks
from arbprov.localhub.tasks import Pause, PauseKind, ReceivedResult, State, TaskFilter

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hub.sqlite"


@pytest.fixture
async def store(path, anyio_backend):
    store = await open_store(path)
    yield store
    await store.close()


async def open_store(path):
    store = SqliteStore(path, clock=FakeTime())
    await store.open(lambda: None)
    return store


async def refusal(path):
    """Return why a store cannot be opened."""
    with pytest.raises(ConfigurationError) as caught:
        await open_store(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# The file.


@pytest.mark.parametrize("name", ["memory", "file"])
async def test_a_store_has_a_name_for_people(path, name):
    store = SqliteStore(None if name == "memory" else path)
    assert store.name == ("memory" if name == "memory" else f"sqlite:{path}")


async def test_its_files_are_private_to_their_user(path, store):
    await store.submit([new_task("t1")])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) == {f"hub.sqlite{end}" for end in ("", "-wal", "-shm", "-owner")}
    assert set(modes.values()) == {0o600}


async def test_a_file_that_others_can_read_becomes_private(path):
    await (await open_store(path)).close()
    path.chmod(0o644)
    store = await open_store(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()


async def test_a_closed_store_is_one_file_and_its_lock(path):
    store = await open_store(path)
    await store.submit([new_task("t1")])
    await store.close()
    assert sorted(files(path.parent)) == ["hub.sqlite", "hub.sqlite-owner"]


async def test_a_second_hub_is_refused(path, store):
    assert "is in use by another hub" in await refusal(path)


async def test_a_refused_second_hub_does_not_disturb_the_first(path, store):
    await refusal(path)
    await store.submit([new_task("t1")])
    await refusal(path)
    assert (await store.get("t1")).state == State.WAITING


async def test_a_file_can_be_opened_again_after_a_refusal(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_files, "VERSION", -1)
        await refusal(path)
    await (await open_store(path)).close()


async def test_a_text_file_is_refused_and_left_alone(path):
    path.write_text("a shopping list" * 100)
    before = files(path.parent)
    assert "is not a hub's store: file is not a database" in await refusal(path)
    assert files(path.parent) == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_another_programs_database_is_refused_and_left_alone(path, mode):
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("CREATE TABLE cities (name TEXT)")
    database.close()
    before = files(path.parent)
    assert "is another program's database, not a hub's store" in await refusal(path)
    assert files(path.parent) == before


async def test_another_programs_database_in_use_is_refused(path):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE cities (name TEXT)")
    assert "is another program's database, not a hub's store" in await refusal(path)
    database.close()


async def test_a_store_of_a_later_version_is_refused(path):
    await (await open_store(path)).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    assert f"has version {VERSION + 1}, and this arbprov knows" in await refusal(path)


async def test_a_folder_that_is_missing_is_named(path):
    assert "in an existing folder that this user may write to" in await refusal(path / "hub")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write to")
async def test_a_folder_that_cannot_be_written_is_named():
    from pathlib import Path

    assert "this user may write to" in await refusal(Path("/proc/self/hub.sqlite"))


async def test_a_link_is_refused(path):
    path.symlink_to(path.with_name("elsewhere"))
    assert "is not a regular file" in await refusal(path)


async def test_a_file_with_a_second_name_is_refused(path):
    path.touch()
    path.with_name("second").hardlink_to(path)
    assert "has a second name" in await refusal(path)


async def test_another_users_file_is_refused(path, monkeypatch):
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "belongs to another user" in await refusal(path)


async def test_a_log_without_its_file_is_refused(path):
    path.with_name("hub.sqlite-wal").write_bytes(b"log")
    assert "part of the store was lost" in await refusal(path)


async def fill(path):
    store = await open_store(path)
    await store.submit([new_task(f"t{n}", payload=b"x" * 2000) for n in range(100)])
    await store.close()


async def test_a_damaged_file_is_refused(path):
    await fill(path)
    with path.open("r+b") as file:
        file.seek(20_000)
        file.write(b"\xff" * 100_000)
    assert "is damaged" in await refusal(path)


async def test_a_file_that_was_cut_off_is_refused(path):
    await fill(path)
    with path.open("r+b") as file:
        file.truncate(10_000)
    assert "is damaged" in await refusal(path)


async def test_a_file_whose_rows_are_wrong_is_refused(path):
    await fill(path)
    nothing = "UPDATE sqlite_master SET sql = replace(sql, {!r}, {!r}) WHERE name = 'pause'"
    for statement in (
        nothing.format("at REAL NOT NULL", "at REAL"),
        "INSERT INTO pause (kind, name) VALUES ('action', 'act')",
        nothing.format("at REAL", "at REAL NOT NULL"),
    ):
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA writable_schema = 1")
            database.execute(statement)
        database.close()
    assert "is damaged (NULL value in pause.at)" in await refusal(path)


async def test_a_store_that_was_replaced_is_refused_and_can_be_put_back(path):
    await fill(path)
    kept = path.read_bytes()
    path.write_text("a shopping list" * 100)
    assert "is not a hub's store" in await refusal(path)
    path.write_bytes(kept)
    await (await open_store(path)).close()


async def test_a_file_that_lacks_a_table_is_refused(path):
    await fill(path)
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE hold")
    database.close()
    assert "is damaged (it lacks hold, hold_due)" in await refusal(path)


async def test_a_large_file_is_not_read_at_start(path, monkeypatch):
    await fill(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 1_000)
        file.write(b"\xff" * 1_000)
    monkeypatch.setattr(sqlite_files, "_MAX_CHECKED_BYTES", 0)
    await (await open_store(path)).close()


async def test_a_damaged_log_is_refused(path, tmp_path):
    store = await open_store(path)
    for n in range(5):
        await store.submit([new_task(f"t{n}")])
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        content = path.with_name(path.name + suffix).read_bytes()
        (copy / f"hub.sqlite{suffix}").write_bytes(content)
    await store.close()
    log = copy / "hub.sqlite-wal"
    content = bytearray(log.read_bytes())
    content[100:200] = b"\xff" * 100
    log.write_bytes(content)
    assert "transactions in its -wal file cannot be read" in await refusal(copy / "hub.sqlite")


async def test_an_old_sqlite_is_refused(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    store = SqliteStore(None)
    with pytest.raises(ConfigurationError, match=r"needs SQLite 3\.35 or later.* has 3\.34\.1"):
        await store.open(lambda: None)


async def test_an_old_sqlite_is_refused_for_a_file_too_and_none_is_made(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    store = SqliteStore(path)
    with pytest.raises(ConfigurationError, match="needs SQLite"):
        await store.open(lambda: None)
    assert files(path.parent) == {}


# Writes some pages, and not its transaction's end.
CUT_OFF = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
for n in range(50):
    database.execute(f"CREATE TABLE t{n} (x)")
os._exit(0)
"""


def cut_off(path):
    subprocess.run([sys.executable, "-c", CUT_OFF, str(path)], check=True)


async def test_the_creation_of_the_tables_that_a_crash_cut_off_begins_anew(path):
    cut_off(path)
    assert path.with_name("hub.sqlite-journal").exists()
    assert path.stat().st_size
    store = await open_store(path)
    await store.submit([new_task("t1")])
    await store.close()


def test_a_migration_that_fails_leaves_nothing(monkeypatch):
    database = sqlite3.connect(":memory:", isolation_level=None)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "_MIGRATIONS", (*sqlite_schema._MIGRATIONS, "nonsense;"))
        patch.setattr(sqlite_schema, "VERSION", VERSION + 1)
        with pytest.raises(sqlite3.OperationalError, match="nonsense"):
            migrate(database)
    assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert database.execute("PRAGMA application_id").fetchone() == (0,)
    database.close()


def test_a_migration_that_cannot_begin_fails(monkeypatch):
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA query_only = 1")
    with pytest.raises(sqlite3.OperationalError):
        migrate(database)
    database.close()


async def test_groups_over_a_limit_stay_so_when_a_file_of_version_1_is_opened(path, monkeypatch):
    database = sqlite3.connect(path, isolation_level=None)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "VERSION", 1)
        patch.setattr(sqlite_schema, "_MIGRATIONS", sqlite_schema._MIGRATIONS[:1])
        migrate(database)
    database.execute(
        "INSERT INTO hold (action, account_key, held, held_until, limit_text, since, budget) "
        "VALUES ('held', 'a', 1, 9e9, '5/minute', 1, 3), ('goes', 'a', 0, 1, '5/minute', 1, 3)"
    )
    database.close()
    store = await open_store(path)
    await store.submit(
        [new_task(f"{action}{n}", action=action) for action in ("held", "goes") for n in range(9)]
    )
    await store.upkeep()
    assert len(await store.claim("p", 99, 60.0)) == 4
    assert {(one.action, one.room, one.held_until) for one in await store.held()} >= {
        ("held", 0, 9e9)
    }
    await store.close()


def test_a_later_migration_keeps_what_is_there(path, monkeypatch):
    database = sqlite3.connect(":memory:", isolation_level=None)
    migrate(database)
    database.execute("INSERT INTO pause VALUES ('action', 'act', 1.0)")
    step = "ALTER TABLE pause ADD COLUMN reason TEXT NOT NULL DEFAULT '';"
    monkeypatch.setattr(sqlite_schema, "_MIGRATIONS", (*sqlite_schema._MIGRATIONS, step))
    monkeypatch.setattr(sqlite_schema, "VERSION", VERSION + 1)
    migrate(database)
    assert database.execute("SELECT * FROM pause").fetchall() == [("action", "act", 1.0, "")]
    assert database.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    database.close()


async def test_the_file_says_that_it_is_a_hubs(path, store):
    header = path.read_bytes()[:100]
    assert header[68:72] == APPLICATION.to_bytes(4, "big")


# Transactions.


class Commits:
    """Counts the transactions of a store's connection."""

    def __init__(self):
        self.count = 0

    def __call__(self, statement):
        self.count += statement == "COMMIT"


async def test_a_write_is_synced_to_the_disk(store):
    database = store._database._writer._transactions._database
    # 2 is FULL: SQLite waits for the disk at the end of each transaction.
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_calls_that_wait_share_a_transaction(store):
    commits = Commits()
    store._database._writer._transactions._database.set_trace_callback(commits)
    await asyncio.gather(*(store.submit([new_task(f"t{n}")]) for n in range(200)))
    assert commits.count < 100
    assert await store.count(TaskFilter()) == 200


async def test_a_transaction_has_a_bounded_number_of_calls(store, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "_MAX_CHANGES", 3)
    commits = Commits()
    store._database._writer._transactions._database.set_trace_callback(commits)
    await asyncio.gather(*(store.submit([new_task(f"t{n}")]) for n in range(30)))
    assert commits.count >= 10


async def test_a_call_that_fails_costs_few_transactions(store):
    calls = [store.submit([new_task(f"t{n}")]) for n in range(200)]
    commits = Commits()
    store._database._writer._transactions._database.set_trace_callback(commits)
    calls.insert(100, store.submit([new_task("bad", priority=10**30)]))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(OverflowError) == 1
    assert await store.count(TaskFilter()) == 200
    assert commits.count < 100


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_call_that_fails_does_nothing_and_others_of_its_transaction_succeed(path, kind):
    store = await open_store(None if kind == "memory" else path)
    bad = [new_task("half"), new_task("bad", priority=10**30)]
    calls = [store.submit([new_task("t1")]), store.submit(bad), store.submit([new_task("t2")])]
    first, error, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(error, OverflowError)
    assert first[0].is_new
    assert last[0].is_new
    assert [task.id for task in await store.search(TaskFilter())] == ["t2", "t1"]
    assert await store.counts() == {"act": {State.WAITING: 2}}
    await store.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_full_disk_fails_a_call_in_no_part_and_the_next_one_succeeds(path, kind):
    store = await open_store(None if kind == "memory" else path)
    await store.submit([new_task("t1")])
    transactions = (
        store._database._transactions if kind == "memory" else store._database._writer._transactions
    )
    database = transactions._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    large = [new_task("small"), new_task("large", payload=b"x" * 1_000_000)]
    with pytest.raises(HubError, match="cannot be written: database or disk is full"):
        await store.submit(large)
    assert await store.get("small") is None
    assert await store.counts() == {"act": {State.WAITING: 1}}
    database.execute("PRAGMA max_page_count = 1000000")
    assert [one.is_new for one in await store.submit(large)] == [True, True]
    assert await store.counts() == {"act": {State.WAITING: 3}}
    await store.close()


async def test_a_damage_that_is_found_late_is_named(path):
    await fill(path)
    store = await open_store(path)
    database = store._database._writer._transactions._database
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(HubError, match=r"the store at .*hub\.sqlite cannot be read"):
        await store.search(TaskFilter())
    await store.close()


async def test_a_call_that_its_caller_gives_up_is_still_made(store):
    call = asyncio.ensure_future(store.submit([new_task("t1")]))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    await store.submit([new_task("t2")])
    assert await store.count(TaskFilter()) == 2


async def test_closing_finishes_what_was_begun(path):
    store = await open_store(path)
    calls = [asyncio.ensure_future(store.submit([new_task(f"t{n}")])) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*calls)
    store = await open_store(path)
    assert await store.count(TaskFilter()) == 50
    await store.close()


async def test_a_closed_store_refuses_calls(path):
    store = await open_store(path)
    await store.close()
    with pytest.raises(HubError, match="is not open"):
        await store.submit([new_task("t1")])


async def test_a_store_that_is_closing_refuses_calls(path):
    store = await open_store(path)
    database = store._database
    await store.close()
    with pytest.raises(HubError, match="is closed"):
        await database.write(lambda tasks: None)


async def test_closing_twice_is_fine(path):
    store = await open_store(path)
    await store.close()
    await store.close()


async def test_closing_leaves_no_thread(path):
    before = set(threading.enumerate())
    store = await open_store(path)
    await store.submit([new_task("t1")])
    await store.get("t1")
    await store.close()
    left = [thread for thread in set(threading.enumerate()) - before if "hub" in thread.name]
    for thread in left:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in left)


def test_a_loop_that_ends_first_does_not_stop_the_writer(path):
    loop = asyncio.new_event_loop()
    store = loop.run_until_complete(open_store(path))
    writer = store._database._writer
    go_on = threading.Event()

    async def begin():
        writer.submit(lambda tasks: go_on.wait(TIMEOUT))

    loop.run_until_complete(begin())
    loop.close()
    writer._waiting.put(None)
    go_on.set()
    writer.thread.join(TIMEOUT)
    assert not writer.thread.is_alive()
    store._database._lock.close()


async def test_a_change_that_stops_the_program_is_rolled_back():
    store = await open_store(None)

    def stop(tasks):
        tasks.submit([new_task("t1")], BEGIN)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await store._database.write(stop)
    assert await store.count(TaskFilter()) == 0
    await store.close()


# What is bounded.


@pytest.fixture
def few_changes(monkeypatch):
    monkeypatch.setattr(sqlite_tasks, "_MAX_CHANGES", 3)


async def test_upkeep_does_a_bounded_number_of_things_and_asks_to_be_called_again(few_changes):
    store = await open_store(None)
    await store.submit([new_task(f"t{n}", ttl=10) for n in range(7)])
    await store._clock.advance(20)
    dues = [await store.upkeep() for _ in range(3)]
    assert [len(due.ended) for due in dues] == [3, 3, 1]
    assert [due.next_in for due in dues] == [0, 0, None]
    await store.close()


async def test_all_kinds_of_upkeep_share_the_bound(few_changes):
    store = await open_store(None)
    await store.submit([new_task(f"t{n}", ttl=10) for n in range(2)])
    await store.submit([new_task(f"w{n}", not_before=BEGIN + 10) for n in range(2)])
    await store._clock.advance(20)
    due = await store.upkeep()
    assert (len(due.ended), due.next_in) == (2, 0)
    assert len(await store.claim("p", 5, 60)) == 1
    await store.close()


async def test_a_claim_ends_a_bounded_number_of_tasks_that_are_too_late(few_changes):
    store = await open_store(None)
    await store.submit([new_task(f"t{n}", ttl=10) for n in range(5)])
    await store._clock.advance(20)
    assert await store.claim("p", 1, 60) == []
    assert await store.count(TaskFilter(states=(State.DEAD,))) == 3
    await store.close()


async def test_a_prune_removes_a_bounded_number_of_tasks(few_changes):
    store = await open_store(None)
    await store.submit([new_task(f"t{n}") for n in range(7)])
    await store.cancel([f"t{n}" for n in range(7)], "")
    assert [await store.prune(1e9, 1) for _ in range(3)] == [3, 3, 0]
    await store.close()


async def test_actions_without_tasks_are_forgotten():
    store = await open_store(None)
    await store.submit([new_task("t1")])
    await store.cancel(["t1"], "")
    await store.prune(0, 0)
    database = store._database._transactions._database
    for table in ("counter", "lane", "task", "body", "attempt", "aside", "hold"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    await store.close()


async def test_lanes_without_tasks_are_forgotten():
    store = await open_store(None)
    await store.submit([new_task(f"t{n}", account_key=f"{n}") for n in range(10)])
    await store.claim("p", 10, 60)
    database = store._database._transactions._database
    assert database.execute("SELECT count(*) FROM lane").fetchone() == (0,)
    await store.close()


def test_no_episode_gets_the_number_of_a_running_task_s_episode():
    database = open_memory()
    tasks = Tasks(database)
    tasks.submit([new_task(f"t{n}") for n in range(4)], 0.0)
    limit = {"status": "limit", "wait_time": 1.0}
    tasks.claim("p", 1, 60.0, 0.0)
    tasks.record([ReceivedResult(id="t0", attempt=1, **limit)], 0.0)
    tasks.upkeep(2.0)
    tasks.claim("p", 1, 60.0, 2.0)
    tasks.record([ReceivedResult(id="t0", attempt=2)], 2.0)
    tasks.claim("p", 2, 60.0, 2.0)
    tasks.record([ReceivedResult(id="t1", attempt=1, **limit)], 2.0)
    tasks.cancel(["t1", "t3"], "", 2.0)
    tasks.upkeep(4.0)
    # Nothing but the task knows the number of its episode.
    assert database.execute("SELECT count(*) FROM hold").fetchone() == (0,)
    [[episode]] = database.execute("SELECT episode FROM task WHERE id = 't2'")
    assert Lanes(database)._make_number() > episode
    database.close()


# What a call costs, in steps of SQLite's machine: these are the same on every machine.


class Steps:
    """Counts the steps that a connection takes."""

    def __init__(self, database):
        self.database = database

    def of(self, call):
        """Return about how many steps a call takes."""
        steps = 0

        def count():
            nonlocal steps
            steps += 1

        self.database.set_progress_handler(count, 1)
        call()
        self.database.set_progress_handler(None, 1)
        return steps


def queue(waiting=0, held=0, accounts=50):
    """Return changes of a database with so many waiting tasks and held groups."""
    database = open_memory()
    tasks = Tasks(database)
    database.execute("BEGIN")
    tasks.submit([new_task(f"h{n}", account_key=f"h{n}", priority=9) for n in range(held)], 0.0)
    for n in range(held):
        tasks._lanes.hold("act", f"h{n}", 1e6, "", 0.0)
    tasks.submit([new_task(f"t{n}", account_key=f"a{n % accounts}") for n in range(waiting)], 0.0)
    return database, tasks


def claim_steps(**values):
    database, tasks = queue(**values)
    tasks.claim("p", 5, 60.0, 0.0)
    steps = Steps(database).of(lambda: tasks.claim("p", 5, 60.0, 0.0))
    database.close()
    return steps


def test_a_claim_costs_the_same_with_many_waiting_tasks():
    assert claim_steps(waiting=20_000) <= 1.2 * claim_steps(waiting=500)


def test_a_claim_costs_the_same_with_many_held_groups():
    assert claim_steps(waiting=500, held=2_000) <= 1.2 * claim_steps(waiting=500)


def test_a_claim_costs_the_same_with_many_groups_without_room():
    database, tasks = queue(waiting=10_000, accounts=2_000)
    for n in range(1_950):
        tasks._lanes.hold("act", f"a{n}", 0.0, "", 0.0)
        tasks._lanes.begin_episode("act", f"a{n}", 0.0)
    # One of each account.
    tasks.claim("p", 2_000, 60.0, 0.0)
    steps = Steps(database).of(lambda: tasks.claim("p", 5, 60.0, 0.0))
    database.close()
    assert steps <= 1.2 * claim_steps(waiting=4_000)


def test_a_claim_costs_the_same_with_many_paused_accounts():
    database, tasks = queue(waiting=4_000, accounts=2_000)
    for n in range(1_990):
        tasks.pause(Pause(PauseKind.ACCOUNT, f"a{n}"), 0.0)
    steps = Steps(database).of(lambda: tasks.claim("p", 5, 60.0, 0.0))
    database.close()
    assert steps <= 1.2 * claim_steps(waiting=4_000)


def test_a_limit_and_the_end_of_its_hold_cost_the_same_with_many_accounts():
    def steps(accounts):
        database, tasks = queue(waiting=accounts, accounts=accounts)
        [delivery] = tasks.claim("p", 1, 60.0, 0.0)[0]
        limit = ReceivedResult(id=delivery.id, attempt=1, status="limit", wait_time=60.0)
        taken = Steps(database).of(lambda: (tasks.record([limit], 0.0), tasks.upkeep(100.0)))
        database.close()
        return taken

    assert steps(4_000) <= 1.2 * steps(100)


def test_a_new_lane_costs_the_same_with_many_pauses():
    def steps(pauses):
        database, tasks = queue()
        for n in range(pauses):
            tasks.pause(Pause(PauseKind.ACCOUNT, f"paused{n}"), 0.0)
        taken = Steps(database).of(lambda: tasks.submit([new_task("t1")], 0.0))
        database.close()
        return taken

    assert steps(2_000) <= 1.2 * steps(1)


def test_each_account_adds_the_same_cost_to_the_end_of_an_actions_pause():
    def steps(accounts):
        database, tasks = queue(waiting=accounts, accounts=accounts)
        pause = Pause(PauseKind.ACTION, "act")
        tasks.pause(pause, 0.0)
        taken = Steps(database).of(lambda: tasks.resume(pause))
        database.close()
        return taken / accounts

    assert steps(2_000) <= 2 * steps(200)


def test_upkeep_without_anything_due_costs_the_same_with_many_tasks():
    def steps(waiting):
        database, tasks = queue(waiting=waiting)
        tasks.submit([new_task(f"w{n}", not_before=1e6, ttl=1e6) for n in range(waiting)], 0.0)
        tasks.claim("p", waiting // 2, 1e6, 0.0)
        taken = Steps(database).of(lambda: tasks.upkeep(1.0))
        database.close()
        return taken

    assert steps(10_000) <= 1.2 * steps(100)


def test_counting_by_state_costs_the_same_with_many_tasks():
    from arbprov.localhub.stores.sqlite_reads import Reads

    def steps(waiting):
        database, tasks = queue(waiting=waiting)
        tasks.flush()
        taken = Steps(database).of(Reads(database).counts)
        database.close()
        return taken

    assert steps(10_000) == steps(100)


def test_a_file_opens_with_its_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    async def main():
        store = SqliteStore(Path("a #b%20?c"))
        await store.open(lambda: None)
        await store.submit([new_task("t1")])
        assert await store.get("t1")
        await store.close()

    asyncio.run(main())
    assert (tmp_path / "a #b%20?c").exists()
